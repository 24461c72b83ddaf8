"""Group the ink of a page into digits, in reading order, without ruled lines, frames and dust. NumPy and SciPy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from mnist_lit.imaging.ink import Component, Ink, ruled_lines
from mnist_lit.imaging.stroke_width import Mask

MAX_COMPONENTS = 500  # the largest of a page; the rest is dust or texture
# Shares of the picture's side.
LINE, TABLE_LINE = 0.6, 0.25  # shortest ruled line around one digit, and around many
LINE_MARGIN = 0.03  # farthest start of a ruled line from the border
MIN_DIGIT = 0.1  # smallest digit for which ruled lines are removed
# Shares of the digit's longer side, or of the page's typical digit height.
SPECK = 0.12  # largest dust
NEAR = 0.25  # largest gap between two strokes of a digit
FRAMED = 0.25  # smallest digit inside a frame
OVERHANG = 0.1  # shortest part of a ruled line beyond either side of the digit
FRAGMENT, WHOLE = 0.6, 1.3  # heights of the tallest fragment and of the tallest digit
DASH = 0.3  # height of the smallest digit
RULE = 2.0  # length of the longest stroke of a digit: longer ones are ruled lines
TOUCHING = 1.3  # width of the widest digit, as a share of its own height
SAME_LINE = 0.4  # vertical overlap of neighbors in a line of text
CUT_OFF = 0.3  # weight of ink that the border cuts off
JOINT = 1.8  # stroke widths: thickest joint of two touching digits


# Digits start as the connected components of the ink, but the two differ in four ways, with one rule for each.
# - A ruled line joins everything it crosses: remove it first. A 1 or the stem of a 4 is a straight line, too, so remove
#   only lines that run from the border past the digit, are far longer than the digits or span a table's cell.
# - A pen that is lifted leaves fragments: merge a low component into a neighbor if both together are one digit high.
# - Neighbors touch: cut a component that is too wide where its column sums are smallest (projection profile, Casey and
#   Lecolinet 1996), unless the ink there is thicker than a stroke or one part is too low to be a digit.
# - Dust, frames and dashes are not digits: compare sizes with the typical digit of the page, not with fixed pixels.


def segment_main_digit(ink: Ink) -> Component | None:
    """The one digit of a picture: the largest component with the strokes near it; None if there is none."""
    lines = ruled_lines(ink.mask, ink.stroke, LINE)
    digit = _largest_digit(_erase(ink.mask, lines))
    if digit is None or digit.size < MIN_DIGIT * max(ink.mask.shape):
        return _largest_digit(ink.mask)
    ruled = [line for line in lines if len(lines) > 2 or _passes_digit(line, digit, ink.mask.shape)]
    return digit if len(ruled) == len(lines) else _largest_digit(_erase(ink.mask, ruled))


def segment_digits(ink: Ink) -> list[Component]:
    """Every digit of a page, line by line from the top, each line from the left."""
    lines = _without_ones(ruled_lines(ink.mask, ink.stroke, TABLE_LINE), ink.mask)
    typical = _typical_height(_components(_erase(ink.mask, lines))) or _typical_height(_components(ink.mask))
    long = [line for line in lines if line.size > RULE * typical]
    lines = long + [line for line in lines if _spans_cell(line, long, SPECK * typical)]
    components = [
        component
        for component in _components(_erase(ink.mask, lines))
        if SPECK * typical <= component.size < 4 * typical
        and (_clear_of_border(component, ink.mask.shape) or component.height > FRAGMENT * typical)
    ]
    merged = [component for component in _merge_fragments(components, typical) if component.height >= DASH * typical]
    return _reading_order([digit for component in merged for digit in _split_touching(component, ink.stroke)])


def _without_ones(lines: Sequence[Component], mask: Mask) -> list[Component]:
    """Lines that are not a 1: a component that stands alone and upright and is about as high as the other digits."""

    def holds(one: Component, line: Component) -> bool:
        inside = one.left <= line.left and line.right <= one.right
        return inside and one.top <= line.top and line.bottom <= one.bottom

    alone = [component for component in _components(mask) if _clear_of_border(component, mask.shape)]
    others = _typical_height([one for one in alone if not any(holds(one, line) for line in lines)])
    ones = [one for one in alone if 2 * one.width < one.height and (not others or one.height <= RULE * others)]
    return [line for line in lines if not any(holds(one, line) for one in ones)]


def _largest_digit(mask: Mask) -> Component | None:
    components = _components(mask)
    if not components:
        return None
    main = max(components, key=lambda one: one.mask.sum() * (1 if _clear_of_border(one, mask.shape) else CUT_OFF))
    holes = np.zeros(mask.shape, bool)
    holes[main.where] = ndimage.binary_fill_holes(main.mask) & ~main.mask
    framed = [one for one in components if one.size > FRAMED * main.size and holes[one.where][one.mask].all()]
    main = max(framed, key=lambda one: int(one.mask.sum()), default=main)
    near = [
        one
        for one in components
        if one is not main and one.size >= SPECK * main.size and _clear_of_border(one, mask.shape)
        # The gap of the boxes is at most that of the ink, and far faster to find.
        if _box_gap(one, np.array(main[:4])) <= NEAR * main.size and _ink_gap(one, main) <= NEAR * main.size
    ]
    return _union([main, *near])


def _passes_digit(line: Component, digit: Component, shape: tuple[int, ...]) -> bool:
    """Whether a line comes from the border and extends beyond the digit on both sides."""
    (start, stop), (first, last) = line.span(line.axis), digit.span(line.axis)
    side = shape[line.axis]
    return min(first - start, stop - last) >= OVERHANG * digit.size and min(start, side - stop) <= LINE_MARGIN * side


def _spans_cell(line: Component, others: Sequence[Component], reach: float) -> bool:
    """Whether a line runs from one crossing line to another, as between the cells of a table."""
    crossing = [other.span(line.axis) for other in others if other.axis != line.axis]
    return all(any(start - reach <= end <= stop + reach for start, stop in crossing) for end in line.span(line.axis))


def _erase(mask: Mask, lines: Sequence[Component]) -> Mask:
    kept = mask.copy()
    for line in lines:
        kept[line.where] &= ~line.mask
    return kept


def _components(mask: Mask, top: int = 0, left: int = 0) -> list[Component]:
    """The largest 8-connected components of a part of the page that starts at top and left."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    areas, boxes = np.bincount(labels.ravel())[1:], ndimage.find_objects(labels)
    components = []
    for index in np.sort(areas.argsort(kind="stable")[-MAX_COMPONENTS:]).tolist():
        rows, columns = boxes[index]
        box = (top + rows.start, left + columns.start, top + rows.stop, left + columns.stop)
        components.append(Component(*box, labels[rows, columns] == index + 1))
    return components


def _clear_of_border(component: Component, shape: tuple[int, ...]) -> bool:
    return component.top > 0 and component.left > 0 and component.bottom < shape[0] and component.right < shape[1]


def _union(components: Sequence[Component]) -> Component:
    boxes = np.array([component[:4] for component in components])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), bool)
    for one in components:
        mask[one.top - top : one.bottom - top, one.left - left : one.right - left] |= one.mask
    return Component(top, left, bottom, right, mask)


def _box_gap(component: Component, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels between the boxes of a component and of others, (4,) or (N, 4); negative where they overlap."""
    top, left, bottom, right = boxes.T
    sides = (left - component.right, component.left - right, top - component.bottom, component.top - bottom)
    return np.maximum.reduce(sides)  # type: ignore[no-any-return]


def _ink_gap(one: Component, other: Component) -> float:
    """Distance of the ink of two components in pixels."""

    def outline(component: Component) -> NDArray[np.int64]:
        rows, columns = (component.mask & ~ndimage.binary_erosion(component.mask)).nonzero()
        return np.stack((rows + component.top, columns + component.left), axis=1)  # (N, 2)

    few, many = sorted((outline(one), outline(other)), key=len)
    return float(spatial.KDTree(many).query(few)[0].min())


def _overlap(start: int, stop: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Overlap of an interval with others, (N, 2), as a share of the shorter one; negative where they are apart."""
    starts, stops = others.T
    common = np.minimum(stop, stops) - np.maximum(start, starts)
    return common / np.minimum(stop - start, stops - starts)  # type: ignore[no-any-return]


def _typical_height(components: Sequence[Component]) -> float:
    """Median size, weighted by ink, so that dust does not count; 0 if there are no components."""
    if not components:
        return 0.0
    sizes, areas = np.array([(component.size, component.mask.sum()) for component in components]).T
    return float(np.quantile(sizes, 0.5, weights=areas, method="inverted_cdf"))


def _merge_fragments(components: Sequence[Component], typical: float) -> list[Component]:
    """Merge each component, the tallest first, into the nearest one with which it forms a single digit."""
    merged: list[Component] = []
    boxes = np.zeros((0, 4), np.int64)
    for component in sorted(components, key=lambda component: -component.height):
        top, _, bottom, _ = boxes.T
        height = np.maximum(bottom, component.bottom) - np.minimum(top, component.top)
        fits = height <= WHOLE * np.maximum(typical, bottom - top)
        above = _overlap(component.left, component.right, boxes[:, 1::2]) > FRAGMENT
        near = (_box_gap(component, boxes) <= NEAR * typical) & (component.height < FRAGMENT * typical)
        partners = np.flatnonzero(fits & (near | above)).tolist()
        if partners:
            gaps = [_ink_gap(component, merged[index]) for index in partners] if len(partners) > 1 else [0.0]
            nearest = partners[int(np.argmin(gaps))]
            component = _union((component, merged.pop(nearest)))
            boxes = np.delete(boxes, nearest, axis=0)
        merged.append(component)
        boxes = np.vstack((boxes, component[:4]))
    return merged


def _split_touching(component: Component, stroke: float) -> list[Component]:
    """Cut a component that is too wide for one digit where it is thinnest, away from its ends."""
    top, left, _, _, mask = component
    if component.width <= TOUCHING * component.height:
        return [component]
    profile = ndimage.uniform_filter1d(mask.sum(axis=0).astype(float), max(1, round(stroke)))
    margin = round(0.3 * component.height)
    cut = margin + int(profile[margin : component.width - margin].argmin())
    if profile[cut] > JOINT * stroke:
        return [component]
    halves = (_components(mask[:, :cut], top, left), _components(mask[:, cut:], top, left + cut))
    parts = [max(half, key=lambda part: int(part.mask.sum())) for half in halves]
    if min(part.height for part in parts) < FRAGMENT * component.height:
        return [component]  # the flag of a 5, the tail of a 2
    return [digit for part in parts for digit in _split_touching(part, stroke)]


def _reading_order(digits: Sequence[Component]) -> list[Component]:
    """Sort by lines: from left to right each digit joins the line whose last digit is beside it."""
    lines: list[list[Component]] = []
    for digit in sorted(digits, key=lambda digit: digit.left):
        last = np.array([line[-1][:4] for line in lines]).reshape(-1, 4)
        beside = _overlap(digit.top, digit.bottom, last[:, ::2])
        if len(lines) and beside.max() > SAME_LINE:
            lines[int(beside.argmax())].append(digit)
        else:
            lines.append([digit])
    lines.sort(key=lambda line: np.mean([digit.top + digit.bottom for digit in line]))
    return [digit for line in lines for digit in line]
