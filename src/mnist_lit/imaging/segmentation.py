"""Which strokes of a page make which digit, and in what order they are read. NumPy and SciPy only.

Rules, frames, dust and what the picture's edge cuts off are left out here. Knows nothing of pictures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from mnist_lit.imaging.ink import Ink, RuledLine, ruled_lines

__all__ = ["Component", "segment_digits", "segment_main_digit"]

Mask = NDArray[np.bool_]

PIECES = 500  # the largest of a page, and all that is looked at: the rest is dust or texture
LINE, TABLE_LINE = 0.6, 0.25  # of the picture's side: what is longer may be ruled, by one digit and by many
# Shares of a digit's longer side, or of its height where there are many.
SPECK = 0.12  # what is smaller is dust
NEAR = 0.25  # how far apart the strokes of one digit may be
FRAMED = 0.25  # of a frame's side: what is larger and within it is what is meant
OVERHANG = 0.1  # how far a ruled line goes on beyond a digit, at least
MARGIN = 0.03  # of the picture's side: where a ruled line comes from
LEAST = 0.1  # of the picture: what is left without its ruled lines is a digit only if larger
CUT_OFF = 0.3  # what the picture's edge cuts counts for so much less
FRAGMENT, WHOLE = 0.6, 1.3  # what is lower is a part of a digit; what is higher is more than one
DASH = 0.3  # what is lower, and near nothing, is no digit
RULE = 2.0  # what is longer is a ruled line of a table
TOUCHING = 1.3  # of its height: what is wider is several digits that touch
BESIDE = 0.4  # of a digit's height that is level with the next of its line
JOIN = 1.8  # stroke widths: what joins two digits is no thicker


class Component(NamedTuple):
    """Ink that belongs together."""

    top: int
    left: int
    mask: Mask  # (height, width)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.mask.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.mask.shape[1])

    @property
    def size(self) -> int:
        """The longer of both."""
        return max(self.height, self.width)

    @property
    def bottom(self) -> int:
        """The row below."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column beside."""
        return self.left + self.width


def segment_main_digit(ink: Ink) -> Component | None:
    """The one digit: the largest thing within the picture, with the strokes near it; None where there is nothing.

    Of fewer than three lines, those that do not cross the picture are its own strokes, as the bar and stem of a 4.
    """
    lines = ruled_lines(ink.mask, ink.stroke, LINE)
    digit = _main(_without(ink.mask, lines))
    if digit is None or digit.size < LEAST * max(ink.mask.shape):
        return _main(ink.mask)
    ruled = [line for line in lines if len(lines) > 2 or _is_ruled(line, digit, ink.mask.shape)]
    return digit if len(ruled) == len(lines) else _main(_without(ink.mask, ruled))


def segment_digits(ink: Ink) -> list[Component]:
    """Every digit, line by line from the top, each from the left."""
    lines = ruled_lines(ink.mask, ink.stroke, TABLE_LINE)
    ones = _ones(ink.mask, lines)
    lines = [line for line in lines if not any(_holds(one, line) for one in ones)]
    usual = _usual_height(_pieces(_without(ink.mask, lines))) or _usual_height(_pieces(ink.mask))
    long = [line for line in lines if line.mask.shape[line.axis] > RULE * usual]
    lines = long + [line for line in lines if _spans(line, long, SPECK * usual)]
    pieces = [piece for piece in _pieces(_without(ink.mask, lines)) if SPECK * usual <= piece.size < 4 * usual]
    pieces = [piece for piece in pieces if _inside(piece, ink.mask.shape) or piece.height > FRAGMENT * usual]
    found = []
    for piece in _joined(pieces, usual):
        if piece.height >= DASH * usual:
            found += _split(piece, ink.stroke)
    return _in_order(found)


def _ones(mask: Mask, lines: Sequence[RuledLine]) -> list[Component]:
    """What stands alone and upright and is no longer than what is no line: a 1 rather than a ruled line."""
    pieces = [piece for piece in _pieces(mask) if _inside(piece, mask.shape)]
    others = _usual_height([piece for piece in pieces if not any(_holds(piece, line) for line in lines)])
    return [
        piece for piece in pieces if 2 * piece.width < piece.height and (not others or piece.height <= RULE * others)
    ]


def _holds(piece: Component, line: RuledLine) -> bool:
    """Whether a line lies within the rows and columns of a piece."""
    rows, columns = line.where
    return bool(
        piece.top <= rows.start
        and rows.stop <= piece.bottom
        and piece.left <= columns.start
        and columns.stop <= piece.right
    )


def _main(mask: Mask) -> Component | None:
    pieces = _pieces(mask)
    if not pieces:
        return None
    weights = [int(piece.mask.sum()) * (1 if _inside(piece, mask.shape) else CUT_OFF) for piece in pieces]
    main = pieces[int(np.argmax(weights))]
    holes = ndimage.binary_fill_holes(main.mask) & ~main.mask
    framed = [piece for piece in pieces if piece.size > FRAMED * main.size and _within(piece, main, holes)]
    if framed:
        main = max(framed, key=lambda piece: int(piece.mask.sum()))
    reach = NEAR * main.size
    strokes = [piece for piece in pieces if piece.size >= SPECK * main.size and _inside(piece, mask.shape)]
    near = [piece for piece in strokes if piece is not main and _box_gap(piece, main) <= reach]
    return _union([main, *(piece for piece in near if _gap(piece, main) <= reach)])


def _within(piece: Component, frame: Component, holes: Mask) -> bool:
    """Whether a piece lies in the holes of another."""
    top, left = piece.top - frame.top, piece.left - frame.left
    if min(top, left) < 0 or piece.bottom > frame.bottom or piece.right > frame.right:
        return False
    return bool(holes[top : top + piece.height, left : left + piece.width][piece.mask].all())


def _is_ruled(line: RuledLine, digit: Component, shape: tuple[int, ...]) -> bool:
    """Whether a line comes from the picture's edge, and goes on beyond a digit on both sides."""
    start, stop = (digit.left, digit.right) if line.axis else (digit.top, digit.bottom)
    where, side = line.where[line.axis], shape[line.axis]
    beyond = min(start - where.start, where.stop - stop)
    return bool(beyond >= OVERHANG * digit.size and min(where.start, side - where.stop) <= MARGIN * side)


def _spans(line: RuledLine, others: Sequence[RuledLine], reach: float) -> bool:
    """Whether a line goes from one crossing line to the next, as between the cells of a table."""
    crossing = [other.where[line.axis] for other in others if other.axis != line.axis]
    return all(
        any(part.start - reach <= end <= part.stop + reach for part in crossing)
        for end in (line.where[line.axis].start, line.where[line.axis].stop)
    )


def _without(mask: Mask, lines: Sequence[RuledLine]) -> Mask:
    kept = mask.copy()
    for line in lines:
        kept[line.where] &= ~line.mask
    return kept


def _pieces(mask: Mask) -> list[Component]:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count > PIECES:
        areas = np.bincount(labels.ravel())[1:]
        kept = np.zeros(count + 1, labels.dtype)
        kept[1 + np.sort(areas.argsort(kind="stable")[-PIECES:])] = np.arange(1, PIECES + 1)
        labels = kept[labels]
    return [
        Component(where[0].start, where[1].start, labels[where] == number)
        for number, where in enumerate(ndimage.find_objects(labels), 1)
    ]


def _inside(piece: Component, shape: tuple[int, ...]) -> bool:
    return piece.top > 0 and piece.left > 0 and piece.bottom < shape[0] and piece.right < shape[1]


def _union(pieces: Sequence[Component]) -> Component:
    top, left = min(piece.top for piece in pieces), min(piece.left for piece in pieces)
    mask = np.zeros((max(p.bottom for p in pieces) - top, max(p.right for p in pieces) - left), bool)
    for piece in pieces:
        mask[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left] |= piece.mask
    return Component(top, left, mask)


def _gap(one: Component, other: Component) -> float:
    """The distance of the ink of two pieces in pixels."""
    few, many = sorted((_outline(one), _outline(other)), key=len)
    return float(spatial.KDTree(many).query(few)[0].min())


def _outline(piece: Component) -> NDArray[np.int64]:
    """The pixels at a piece's edge, (N, 2)."""
    rows, columns = (piece.mask & ~ndimage.binary_erosion(piece.mask)).nonzero()
    return np.stack((rows + piece.top, columns + piece.left), axis=1)


def _usual_height(pieces: Sequence[Component]) -> float:
    """The height that half of the ink is lower than."""
    if not pieces:
        return 0.0
    heights, areas = np.array([(piece.size, piece.mask.sum()) for piece in pieces]).T
    order = heights.argsort()
    return float(heights[order][np.searchsorted(areas[order].cumsum(), areas.sum() / 2)])


def _joined(pieces: Sequence[Component], usual: float) -> list[Component]:
    """Pieces with their fragments: what is near, and with it no higher than a digit."""
    done: list[Component] = []
    boxes = np.zeros((0, 4), np.int64)  # top, left, bottom, right of each
    for piece in sorted(pieces, key=lambda piece: -piece.height):
        near = _candidates(piece, boxes, usual)
        if len(near):
            nearest = min(near, key=lambda index: _gap(piece, done[index])) if len(near) > 1 else near[0]
            piece = _union((piece, done.pop(nearest)))
            boxes = np.delete(boxes, nearest, axis=0)
        done.append(piece)
        boxes = np.vstack((boxes, (piece.top, piece.left, piece.bottom, piece.right)))
    return done


def _candidates(piece: Component, boxes: NDArray[np.int64], usual: float) -> NDArray[np.int64]:
    """Which boxes may hold the rest of a piece's digit."""
    top, left, bottom, right = boxes.T
    level = np.maximum(bottom, piece.bottom) - np.minimum(top, piece.top) <= WHOLE * np.maximum(usual, bottom - top)
    above = _overlap(piece.left, piece.right, boxes[:, 1::2]) > FRAGMENT
    apart = np.maximum.reduce((left - piece.right, piece.left - right, top - piece.bottom, piece.top - bottom))
    near = (apart <= NEAR * usual) & (piece.height < FRAGMENT * usual)
    return np.flatnonzero(level & (near | above))


def _box_gap(one: Component, other: Component) -> int:
    return max(one.left - other.right, other.left - one.right, one.top - other.bottom, other.top - one.bottom, 0)


def _overlap(start: int, stop: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """The common part of a stretch and each of the others, (N, 2), as a share of the shorter; below 0 where apart."""
    starts, stops = others.T
    common = np.minimum(stop, stops) - np.maximum(start, starts)
    return common / np.minimum(stop - start, stops - starts)  # type: ignore[no-any-return]


def _split(piece: Component, stroke: float) -> list[Component]:
    """A piece as several digits, where it is too wide for one and thin at a place away from its ends."""
    if piece.width <= TOUCHING * piece.height:
        return [piece]
    ink = ndimage.uniform_filter1d(piece.mask.sum(axis=0).astype(float), max(1, round(stroke)))
    start = round(0.3 * piece.height)
    cut = start + int(ink[start : piece.width - start].argmin())
    if ink[cut] > JOIN * stroke:
        return [piece]
    halves = (piece.mask[:, :cut], piece.mask[:, cut:])
    parts = [max(_pieces(half), key=lambda part: int(part.mask.sum())) for half in halves]
    if min(part.height for part in parts) < FRAGMENT * piece.height:
        return [piece]  # the flag of a 5, the tail of a 2
    return [
        again
        for part, left in zip(parts, (0, cut), strict=True)
        for again in _split(Component(piece.top + part.top, piece.left + left + part.left, part.mask), stroke)
    ]


def _in_order(pieces: Sequence[Component]) -> list[Component]:
    """Line by line: each joins the line whose last digit is beside it."""
    lines: list[list[Component]] = []
    for piece in sorted(pieces, key=lambda piece: piece.left):
        last = np.array([(line[-1].top, line[-1].bottom) for line in lines]).reshape(-1, 2)
        beside = _overlap(piece.top, piece.bottom, last)
        if len(lines) and beside.max() > BESIDE:
            lines[int(beside.argmax())].append(piece)
        else:
            lines.append([piece])
    lines.sort(key=lambda line: np.mean([piece.top + piece.bottom for piece in line]))
    return [piece for line in lines for piece in line]
