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
LINE_MARGIN, MIN_DIGIT = 0.03, 0.1  # farthest start of a ruled line from the border; smallest digit on ruled paper
# Shares of the digit's longer side, or of the page's typical digit height.
SPECK, DASH = 0.12, 0.3  # largest dust, and height of the smallest digit
NEAR, FRAMED = 0.25, 0.25  # largest gap between two strokes of a digit; smallest digit inside a frame
OVERHANG, RULE = 0.1, 2.0  # shortest overhang of a ruled line on either side of the digit; longest stroke of a digit
FRAGMENT, WHOLE = 0.6, 1.3  # heights of the tallest fragment and of the tallest digit
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
def segment_main_digit(ink: Ink) -> list[Component]:
    """The one digit of a picture: the largest component with the strokes near it; an empty list if there is none."""
    lines = ruled_lines(ink.mask, ink.stroke, LINE)
    found = _largest_digit(_erase(ink.mask, lines))
    if not found or found[0].size < MIN_DIGIT * max(ink.mask.shape):
        return _largest_digit(ink.mask)
    ruled = [line for line in lines if len(lines) > 2 or _passes_digit(line, found[0], ink.mask.shape)]
    return found if len(ruled) == len(lines) else _largest_digit(_erase(ink.mask, ruled))


def segment_digits(ink: Ink) -> list[Component]:
    """Every digit of a page, line by line from the top, each line from the left."""
    lines = ruled_lines(ink.mask, ink.stroke, TABLE_LINE)
    # A 1 is not a ruled line: it stands alone and upright and is about as high as the other digits.
    alone = [one for one in _components(ink.mask) if one.clear_of_border(ink.mask.shape)]
    others = _typical_height([one for one in alone if not any(map(one.contains, lines))])
    ones = [one for one in alone if 2 * one.width < one.height and (not others or one.height <= RULE * others)]
    lines = [line for line in lines if not any(one.contains(line) for one in ones)]
    typical = _typical_height(_components(_erase(ink.mask, lines))) or _typical_height(_components(ink.mask))
    long = [line for line in lines if line.size > RULE * typical]
    lines = long + [line for line in lines if _spans_cell(line, long, SPECK * typical)]
    sized = [one for one in _components(_erase(ink.mask, lines)) if SPECK * typical <= one.size < 4 * typical]
    inside = [one for one in sized if one.clear_of_border(ink.mask.shape) or one.height > FRAGMENT * typical]
    merged = [one for one in _merge_fragments(inside, typical) if one.height >= DASH * typical]
    return _reading_order([digit for one in merged for digit in _split_touching(one, ink.stroke)])


def _largest_digit(mask: Mask) -> list[Component]:
    components = _components(mask)
    if not components:
        return []
    main = max(components, key=lambda one: one.mask.sum() * (1 if one.clear_of_border(mask.shape) else CUT_OFF))
    holes = np.zeros(mask.shape, bool)
    holes[main.where] = ndimage.binary_fill_holes(main.mask) & ~main.mask
    framed = [one for one in components if one.size > FRAMED * main.size and holes[one.where][one.mask].all()]
    main = max(framed, key=lambda one: int(one.mask.sum()), default=main)
    others = [one for one in components if one is not main and one.size >= SPECK * main.size]
    inside = [one for one in others if one.clear_of_border(mask.shape)]
    reach = NEAR * main.size  # the boxes' gap is at most that of the ink, and far faster to find
    near = [one for one in inside if _overlaps(one, [main])[0].min() >= -reach and _ink_gap(one, main) <= reach]
    return [_union([main, *near])]


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


def _union(components: Sequence[Component]) -> Component:
    boxes = np.array([component[:4] for component in components])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), bool)
    for one in components:
        mask[one.top - top : one.bottom - top, one.left - left : one.right - left] |= one.mask
    return Component(top, left, bottom, right, mask)


def _overlaps(component: Component, others: Sequence[Component]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How far boxes overlap down and across: (N, 2) pixels, negative = gap; (N, 2) shares of the shorter side."""
    box, boxes = np.array(component[:4]), np.array([other[:4] for other in others]).reshape(-1, 4)
    pixels = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return pixels, pixels / np.minimum(box[2:] - box[:2], boxes[:, 2:] - boxes[:, :2])


def _ink_gap(first: Component, second: Component) -> float:
    outlines = [np.argwhere(one.mask & ~ndimage.binary_erosion(one.mask)) + one[:2] for one in (first, second)]
    few, many = sorted(outlines, key=len)  # (N, 2) each
    return float(spatial.KDTree(many).query(few)[0].min())


def _typical_height(components: Sequence[Component]) -> float:
    """Median size, weighted by ink, so that dust does not count; 0 if there are no components."""
    if not components:
        return 0.0
    sizes, areas = np.array([(component.size, component.mask.sum()) for component in components]).T
    return float(np.quantile(sizes, 0.5, weights=areas, method="inverted_cdf"))


def _merge_fragments(components: Sequence[Component], typical: float) -> list[Component]:
    """Merge each component, the tallest first, into the nearest one with which it forms a single digit."""
    merged: list[Component] = []
    for component in sorted(components, key=lambda component: -component.height):
        overlaps, shares = _overlaps(component, merged)
        heights = np.array([one.height for one in merged])
        fits = heights + component.height - overlaps[:, 0] <= WHOLE * np.maximum(typical, heights)
        near = (overlaps.min(axis=1) >= -NEAR * typical) & (component.height < FRAGMENT * typical)
        partners = np.flatnonzero(fits & (near | (shares[:, 1] > FRAGMENT))).tolist()
        if partners:
            gaps = [_ink_gap(component, merged[index]) for index in partners] if len(partners) > 1 else [0.0]
            component = _union((component, merged.pop(partners[int(np.argmin(gaps))])))
        merged.append(component)
    return merged


def _split_touching(component: Component, stroke: float) -> list[Component]:
    """Cut a component that is too wide for one digit where it is thinnest, away from its ends."""
    top, left, _, _, mask = component
    if component.width <= TOUCHING * component.height:
        return [component]
    profile = ndimage.uniform_filter1d(mask.sum(axis=0).astype(float), max(1, round(stroke)))  # (width,)
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
        beside = _overlaps(digit, [line[-1] for line in lines])[1][:, 0]
        if lines and beside.max() > SAME_LINE:
            lines[int(beside.argmax())].append(digit)
        else:
            lines.append([digit])
    lines.sort(key=lambda line: np.mean([digit.top + digit.bottom for digit in line]))
    return [digit for line in lines for digit in line]
