"""Group the ink of a picture into digits, without ruled lines, frames and dust: several hypotheses where the ink alone
does not tell. NumPy and OpenCV only."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mnist_lit.imaging.boxes import boxes, frames, is_frame, walls
from mnist_lit.imaging.components import (
    WIDEST,
    Component,
    components,
    erase,
    gap_between,
    overlaps,
    typical_height,
    union,
)
from mnist_lit.imaging.gray import Strength
from mnist_lit.imaging.ink import Ink
from mnist_lit.imaging.ruling import ruled_lines
from mnist_lit.imaging.stroke_width import ink_distances
from mnist_lit.imaging.text_lines import FRAGMENT, NEAR, find_commas, height_of_line, text_lines

MAX_SEGMENTS = 1000  # hypotheses about a page; where there are more, each component is taken as one digit
# Shares of the picture's side.
LINE, TABLE_LINE = 0.6, 0.25  # shortest ruled line around one digit, and around many
LINE_MARGIN, MIN_DIGIT = 0.03, 0.1  # farthest start of a ruled line from the border; smallest digit on ruled paper
# Shares of the digit's longer side, or of the page's typical digit height.
SPECK, FRAMED = 0.12, 0.25  # largest dust; smallest digit inside a frame
LINK = 0.1  # widest gap between two pieces of a broken stroke
DIGIT_LIKE = 0.6  # lowest height of another digit
OTHER = 0.3  # ink of the smallest component that may be the digit instead of the largest one
OVERHANG, RULE = 0.1, 2.0  # shortest overhang of a ruled line on either side of the digit; longest stroke of a digit
BAR = 3.0  # least width of an underline, as a share of its height
DISK = 0.85  # least diameter of a circle inside a disk, as a share of its longer side
RULED = 0.1  # least share of a ruled line's ink that does not belong to a digit
CUT_OFF = 0.3  # weight of ink that the border cuts off
FAINT = 2.0  # strength of ink up to which it may be the blur between two digits
WIDE = 0.8  # width from which on a component may be two digits
JOINT = 3.5  # stroke widths: thickest joint of two touching digits, for each stroke that it crosses
MIDDLE = 0.3  # least distance of a cut through two strokes to the piece's sides, as a share of its width
MAX_PIECES = 4  # of one digit
SCRAP = 0.05  # share of a piece's usual ink below which a part of it is left out
# Costs of a hypothesis in nats, to be compared with the network's log-probabilities.
SECOND = 1.0  # of any but the first hypothesis about a single digit
CUTS = (0.5, 1.0)  # per side that is cut through one stroke, and through two
GAP = 6.0  # per gap as wide as a digit is high
HEIGHT, WIDTH = 2.0, 4.0  # per factor e in height beyond a factor of 1.6, and in width to height beyond 0.8
UNLIKELY = 3.0  # least cost of several pieces that are not tried as one digit
COMMA, PART = 4.0, 1.5  # of reading a comma as a digit, and as a part of one
SKIP = 2.0  # of leaving out a piece that is far lower or higher than the page's digits
BLOT = 2.5  # heights of the lowest such piece


class Segment(NamedTuple):
    """A hypothesis: pieces `first` … `stop - 1` of a line of text are one digit."""

    first: int
    stop: int
    digit: Component | None  # None: the piece is dust or a blot, and is left out
    cost: float  # how unlikely that is, in nats


class SingleDigit(NamedTuple):
    """What the one digit of a picture may be, the likeliest first, and how many digits seem to be beside it."""

    hypotheses: list[Component]
    beside: int


# Digits start as the connected components of the ink, but the two differ in four ways.
# - A ruled line joins everything it crosses: remove it first. A 1 or the stem of a 4 is a straight line, too, so remove
#   only lines that run from the border past the digit, are far longer than the digits or span a table's cell.
# - A pen that is lifted leaves fragments, and neighbors touch. What belongs together is decided by what it would be
#   read as, as in heuristic over-segmentation (LeCun et al. 1998, section V): a line of text is cut into pieces, a
#   few neighboring pieces at a time are classified as if they were a digit, and the sequence of digits with the
#   highest total score wins. Pieces are components, parted where only faint ink joins tall strokes; where one is wide,
#   it is also cut where its column sums are smallest (projection profile, Casey and Lecolinet 1996).
# - Dust, frames and dashes are not digits: compare sizes with the typical digit of the page, not with fixed pixels.
def single_digit_hypotheses(ink: Ink) -> SingleDigit:
    """The largest component with the strokes near it, without them, what it frames, and another component; empty if
    there is no ink."""
    all_ink = components(ink.mask)
    boxed = [wall for box in boxes(all_ink, ink.stroke) for wall in walls(box, ink.stroke)]
    if not boxed:
        return _digits_on_lines(ink, all_ink)
    unboxed = ink._replace(mask=erase(ink.mask, boxed))
    found = _digits_on_lines(unboxed, components(unboxed.mask))
    return found._replace(hypotheses=found.hypotheses + _largest_digits(all_ink, ink.mask.shape).hypotheses[:1])


def _digits_on_lines(ink: Ink, all_ink: Sequence[Component]) -> SingleDigit:
    """See `single_digit_hypotheses`; without the ruled lines that pass the digit. all_ink: the ink's components."""
    shape = ink.mask.shape
    lines = ruled_lines(ink.mask, ink.stroke, LINE)
    if not lines:
        return _largest_digits(all_ink, shape)
    found = _largest_digits(components(erase(ink.mask, lines)), shape)
    first = next(iter(found.hypotheses), None)
    if not first or first.size < MIN_DIGIT * max(shape):
        return _largest_digits(all_ink, shape)
    ruled = [line for line in lines if len(lines) > 2 or _passes_digit(line, first, shape)]
    if len(ruled) < len(lines):
        found = _largest_digits(components(erase(ink.mask, ruled)), shape)
    if ruled and len(lines) <= 2:  # they may also be the stem of a four that fills the picture
        found = found._replace(hypotheses=found.hypotheses + _largest_digits(all_ink, shape).hypotheses[:1])
    return found


def line_hypotheses(ink: Ink) -> list[list[Segment]]:
    """For each line of text, from the top: every group of neighboring pieces that may be a digit."""
    lines = ruled_lines(ink.mask, ink.stroke, TABLE_LINE)
    # A 1 is not a ruled line: it stands alone and upright and is about as high as the other digits.
    all_ink = components(ink.mask)
    clear = [one for one in all_ink if one.clear_of_border(ink.mask.shape)]
    others = typical_height([one for one in clear if not any(map(one.contains, lines))])
    ones = [one for one in clear if 2 * one.width < one.height and (not others or one.height <= RULE * others)]
    lines = [line for line in lines if not any(one.contains(line) for one in ones)]
    # Digits in a row or a column may look like a ruled line, too: each stands alone and is about as high as the others.
    high = [one for one in clear if FRAGMENT * others <= one.height and one.size <= RULE * others]
    apart = erase(ink.mask, high) if lines else ink.mask
    lines = [line for line in lines if np.count_nonzero(apart[line.where] & line.mask) > RULED * line.area]
    boxed = [wall for frame in frames(all_ink) + boxes(all_ink, ink.stroke) for wall in walls(frame, ink.stroke)]
    unruled = components(erase(ink.mask, lines + boxed)) if lines or boxed else all_ink
    for _ in range(2):  # digits that lost their straight strokes look small at first
        typical = typical_height(unruled) or typical_height(all_ink)
        long = [line for line in lines if line.size > RULE * typical]
        if len(long) == len(lines):
            break
        lines = long + [line for line in lines if _spans_cell(line, long, SPECK * typical)]
        unruled = components(erase(ink.mask, lines + boxed)) if lines or boxed else all_ink
    sized = [one for one in unruled if SPECK * typical <= one.size < 4 * typical and not _is_hole(one)]
    around = frames(sized)
    typical = typical_height([one for one in sized if one not in around]) or typical
    inside = [
        one
        for one in sized
        if (one.clear_of_border(ink.mask.shape) or one.height > FRAGMENT * typical) and one not in around
    ]
    text = text_lines(inside, typical)
    found = [_segments(line, height_of_line(line, typical), ink) for line in text]
    if sum(map(len, found)) > MAX_SEGMENTS:
        return [[Segment(n, n + 1, one, 0.0) for n, one in enumerate(line)] for line in text]
    return found


def _largest_digits(found: Sequence[Component], shape: tuple[int, ...]) -> SingleDigit:
    if not found:
        return SingleDigit([], 0)
    main = max(found, key=lambda one: one.area * (1 if one.clear_of_border(shape) else CUT_OFF))
    others = [one for one in found if one is not main and one.size >= SPECK * main.size and not one.encloses(main)]
    near = [one for one in others if gap_between(one, main, NEAR * main.size) <= NEAR * main.size]
    # Ink at the border is a neighbor's, unless the digit fills the picture and so touches the border itself.
    inside = [one for one in near if one.clear_of_border(shape) or not main.clear_of_border(shape)]
    chain = _chain([main, *inside], [one for one in others if one.clear_of_border(shape)])
    without_bars = [one for one in chain if not _is_bar(one, main)]  # such as an underline
    hypotheses = [without_bars, chain, [main, *inside], [main]]
    framed = [one for one in others if one.size > FRAMED * main.size and main.contains(one)]
    if framed:
        inner = max(framed, key=lambda one: one.area)
        parts = [
            one for one in framed if one is inner or gap_between(one, inner, NEAR * inner.size) <= NEAR * inner.size
        ]
        hypotheses.insert(0 if is_frame(main, inner, shape) else 2, parts)
    hypotheses += [[main, *near]] if len(near) > len(inside) else []
    second = max((one for one in others if one.area > OTHER * main.area), key=lambda one: one.area, default=None)
    hypotheses += [[second]] if second and [second] not in hypotheses else []
    unique: dict[frozenset[Component], list[Component]] = {}
    for parts in hypotheses:
        unique.setdefault(frozenset(parts), parts)
    first, *rest = unique.values()
    digit = union(first)
    beside = sum(
        DIGIT_LIKE < one.height / digit.height < 1 / DIGIT_LIKE and one.clear_of_border(shape)
        for one in others
        if one not in first and not digit.contains(one)
    )
    return SingleDigit([digit, *map(union, rest)], beside)


def _chain(digit: list[Component], others: Sequence[Component]) -> list[Component]:
    """A digit's pieces with those others that continue it across narrow gaps, as long as it stays as narrow as a digit;
    the first piece comes first."""
    chain, more = list(digit), list(others)
    while more:
        whole = union(chain)
        reach = LINK * whole.size
        more = [
            one
            for one in others
            if one not in chain
            and one.size < DIGIT_LIKE * union((whole, one)).size
            and any(gap_between(one, part, reach) <= reach for part in chain)
        ]
        chain += more
    whole = union(chain)
    return chain if whole.width <= WIDEST * whole.height else digit


def _is_hole(one: Component) -> bool:
    """Whether a component is as wide as it is high, and filled, as a punched hole or a bullet is."""
    square = min(one.height, one.width) >= DISK * one.size
    return square and 2 * float(ink_distances(one.mask).max()) >= DISK * one.size


def _is_bar(one: Component, digit: Component) -> bool:
    """Whether a low component lies above or below a digit and extends beyond it on both sides."""
    apart = one.bottom <= digit.top + one.height or one.top >= digit.bottom - one.height
    overhang = min(digit.left - one.left, one.right - digit.right)
    return apart and one.width > BAR * one.height and overhang >= OVERHANG * digit.size


def _passes_digit(line: Component, digit: Component, shape: tuple[int, ...]) -> bool:
    """Whether a line comes from the border and extends beyond the digit on both sides."""
    (start, stop), (first, last) = line.span(line.axis), digit.span(line.axis)
    side = shape[line.axis]
    return min(first - start, stop - last) >= OVERHANG * digit.size and min(start, side - stop) <= LINE_MARGIN * side


def _spans_cell(line: Component, others: Sequence[Component], reach: float) -> bool:
    """Whether a line runs from one crossing line to another, as between the cells of a table."""
    crossing = [other.span(line.axis) for other in others if other.axis != line.axis]
    return all(any(start - reach <= end <= stop + reach for start, stop in crossing) for end in line.span(line.axis))


def _segments(line: Sequence[Component], typical: float, ink: Ink) -> list[Segment]:
    """The hypotheses of one line of text, see `Segment`."""
    pieces: list[tuple[Component, int, float]] = []  # with its component's number, and the cost of the cut on its left
    for number, one in enumerate(line):
        for place, part in enumerate(_parts(one, typical, ink.strength)):
            (leftmost, _), *others = _cut(part, typical, ink.stroke)
            pieces.append((leftmost, number, CUTS[0] if place else 0.0))
            pieces += [(piece, number, cost) for piece, cost in others]
    commas = find_commas(line, typical)
    segments = []
    for first in range(len(pieces)):
        for stop in range(first + 1, min(first + MAX_PIECES, len(pieces)) + 1):
            group = pieces[first:stop]
            parts = [part for part, *_ in group]
            width = max(part.right for part in parts) - min(part.left for part in parts)
            height = max(part.bottom for part in parts) - min(part.top for part in parts)
            if stop > first + 1 and width > WIDEST * max(height, typical):
                break
            cuts = group[0][2] + (pieces[stop][2] if stop < len(pieces) else 0.0)
            neighbors = [(one, other) for (one, a, _), (other, b, _) in itertools.pairwise(group) if a != b]
            gaps = sum(min(max(0, -overlaps(one, other)[1]) / typical, 1) for one, other in neighbors)
            tall, wide = abs(math.log(height / typical)) - 0.5, math.log(width / height) + 0.2
            cost = cuts + GAP * gaps + HEIGHT * max(0.0, tall) + WIDTH * max(0.0, wide)
            if stop > first + 1 and cost > UNLIKELY:
                continue
            comma = any(part in commas for part in parts)
            single = stop == first + 1
            cost += comma * (COMMA if single else PART)
            segments.append(Segment(first, stop, union(parts), cost))
            if single and not FRAGMENT * typical <= height <= BLOT * typical:
                segments.append(Segment(first, stop, None, 0.0 if comma else SKIP))
    return segments


def _parts(component: Component, typical: float, strength: Strength) -> list[Component]:
    """The parts of a component from left to right, each around a tall part, if only faint ink joins the tall parts;
    else the component itself. strength: the page's."""
    top, left, mask = component.top, component.left, component.mask
    strong = components(mask & (strength[component.where] > FAINT))
    tall = [part for part in strong if part.height >= FRAGMENT * typical]
    if len(tall) < 2:
        return [component]
    apart = erase(np.ones(mask.shape, bool), tall).view(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(apart, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    parts = [union(components(mask & (nearest == number), top, left)) for number in range(1, len(tall) + 1)]
    return sorted(parts, key=lambda part: part.left)


def _cut(component: Component, typical: float, stroke: float) -> list[tuple[Component, float]]:
    """The pieces of a component from left to right, each with the cost of the cut on its left. Cuts lie at deep minima
    of the column sums: through a single stroke, or through two, as in a loop, in the middle of a piece that is still
    wide. Returns the component itself if it is narrow, low or nowhere thin enough."""
    top, left, mask = component.top, component.left, component.mask
    wide = WIDE * max(typical, 0.7 * component.height)
    if component.width < wide or component.height < FRAGMENT * typical:
        return [(component, 0.0)]
    profile = cv2.blur(mask.sum(axis=0, dtype=np.float32)[None], (max(1, round(stroke)), 1))[0]
    strokes = mask[0] + (mask[1:] & ~mask[:-1]).sum(axis=0)  # that each column crosses
    deepest = profile.argsort(kind="stable")
    margin = max(2, round(0.2 * component.height))
    cuts: dict[int, float] = {}
    for crossed, cost in enumerate(CUTS, 1):
        thin = (strokes == crossed) & (profile <= crossed * JOINT * stroke)
        for column in deepest[thin[deepest]].tolist():
            first = max((cut for cut in cuts if cut <= column), default=0)
            stop = min((cut for cut in cuts if cut > column), default=component.width)
            apart = min(column - first, stop - column)
            in_middle = stop - first >= wide and apart >= MIDDLE * (stop - first)
            if apart >= margin and (crossed == 1 or in_middle) and len(cuts) < 2 * component.width / component.height:
                cuts[column] = cost
    edges = [0, *sorted(cuts), component.width]
    pieces = []
    for start, stop in itertools.pairwise(edges):
        if parts := components(mask[:, start:stop], top, left + start):
            inked = [part for part in parts if part.area > SCRAP * component.area / len(edges)]
            pieces.append((union(inked or parts), cuts.get(start, 0.0)))
    return pieces
