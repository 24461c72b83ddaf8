"""The one digit of a picture, without ruled lines, frames and dust beside it: several hypotheses where the ink alone
does not tell. NumPy and OpenCV only."""

from collections.abc import Sequence
from typing import NamedTuple

from mnist_lit.imaging.boxes import box_lines, is_frame
from mnist_lit.imaging.components import (
    MAX_ASPECT,
    MAX_SPECK,
    STROKE_GAP,
    Component,
    are_near,
    components,
    erase,
    union,
)
from mnist_lit.imaging.ink import WINDOW_STROKES, Ink
from mnist_lit.imaging.ruling import ruled_lines

SECOND_COST = 1.0  # in nats, of any but the first hypothesis
# Fractions of the picture's side.
MIN_RULED_LINE, MAX_LINE_START = 0.6, 0.03  # shortest ruled line, and its farthest start from the border
MIN_RULED_DIGIT = 0.1  # smallest digit on ruled paper
MAX_PLAIN_WINDOW = 0.3  # window above which lines may have steps: a thick pen's is longer than a thin line's runs
# Fractions of the digit's longer side.
MIN_FRAMED = 0.25  # smallest digit inside a frame
MAX_LINK = 0.1  # widest gap between two pieces of a broken stroke
MIN_OVERHANG = 0.1  # shortest overhang of a ruled line on either side of the digit
# Other fractions.
MAX_THIN = 0.5  # greatest thickness of a line with steps, of the stroke width
MIN_OTHER_HEIGHT = 0.6  # least height of another digit, of the digit's height
MIN_OTHER_INK = 0.3  # least ink of a component that may be the digit instead of the largest one, of that one's ink
MIN_BAR_WIDTH = 3.0  # least width of an underline, as a multiple of its height
# Of the dots that a brush may leave: least number besides the largest one; greatest size and gap, as multiples of that
# one's size; and the least fraction of its box that it fills.
MIN_BRUSH_DOTS, MAX_BRUSH_RATIO, MAX_BRUSH_GAP, MIN_BRUSH_INK = 5, 1.3, 0.6, 0.6
CUT_OFF_WEIGHT = 0.3  # weight of ink that the border cuts off


class SingleDigit(NamedTuple):
    """What the one digit of a picture may be, the likeliest first, and how many digits seem to be beside it."""

    hypotheses: list[Component]
    beside: int


# A ruled line joins everything it crosses, so remove it first. The stem of a 1 or a 4 is straight, too, so remove only
# lines that run from the border past the digit, or all of them if more than two are parallel.
def single_digit_hypotheses(ink: Ink) -> SingleDigit:
    """Hypotheses: the largest component with and without the strokes near it, the ink inside it, and the next-largest
    component; none if there is no ink."""
    all_ink = components(ink.mask)
    boxed = box_lines(all_ink, ink.stroke)
    if not boxed:
        return _digits_on_lines(ink, all_ink)
    unboxed = ink._replace(mask=erase(ink.mask, boxed))
    found = _digits_on_lines(unboxed, components(unboxed.mask))
    return found._replace(hypotheses=found.hypotheses + _largest_digits(all_ink, ink.mask.shape).hypotheses[:1])


def _digits_on_lines(ink: Ink, all_ink: Sequence[Component]) -> SingleDigit:
    """See `single_digit_hypotheses`; without the ruled lines that pass the digit. all_ink: the ink's components."""
    shape = ink.mask.shape
    lines = ruled_lines(ink.mask, ink.stroke, MIN_RULED_LINE)
    if not lines and WINDOW_STROKES * ink.stroke > MAX_PLAIN_WINDOW * max(shape):
        stepped = ruled_lines(ink.mask, ink.stroke, MIN_RULED_LINE, with_steps=True)
        lines = [line for line in stepped if line.area < MAX_THIN * ink.stroke * line.size]
    if not lines:
        return _largest_digits(all_ink, shape)
    found = _largest_digits(components(erase(ink.mask, lines)), shape)
    first = next(iter(found.hypotheses), None)
    if not first or first.size < MIN_RULED_DIGIT * max(shape):
        return _largest_digits(all_ink, shape)
    many = max(sum(line.axis == axis for line in lines) for axis in (0, 1)) > 2  # a cell has two in each direction
    ruled = [line for line in lines if many or _passes_digit(line, first, shape)]
    if len(ruled) < len(lines):
        found = _largest_digits(components(erase(ink.mask, ruled)), shape)
    if ruled and not many:  # they may also be the stem of a four that fills the picture
        found = found._replace(hypotheses=found.hypotheses + _largest_digits(all_ink, shape).hypotheses[:1])
    return found


def _largest_digits(found: Sequence[Component], shape: tuple[int, ...]) -> SingleDigit:
    if not found:
        return SingleDigit([], 0)
    main = max(found, key=lambda one: one.area * (1 if one.clear_of_border(shape) else CUT_OFF_WEIGHT))
    others = [one for one in found if one is not main and one.size >= MAX_SPECK * main.size and not one.encloses(main)]
    near = [one for one in others if are_near(one, main, STROKE_GAP * main.size)]
    # Ink at the border is a neighbor's, unless the digit fills the picture and so touches the border itself.
    inside = [one for one in near if one.clear_of_border(shape) or not main.clear_of_border(shape)]
    clear = [one for one in others if one.clear_of_border(shape)]
    dots = [one for one in clear if one.size <= MAX_BRUSH_RATIO * main.size]
    has_brush_dots = len(dots) >= MIN_BRUSH_DOTS and main.area >= MIN_BRUSH_INK * main.height * main.width
    chain = _chain([main], dots, MAX_BRUSH_GAP * main.size) if has_brush_dots else _chain([main, *inside], clear)
    without_bars = [one for one in chain if not _is_bar(one, main)]  # such as an underline
    hypotheses = [without_bars, chain, [main, *inside], [main]]
    framed = [one for one in others if one.size > MIN_FRAMED * main.size and main.contains(one)]
    if framed:
        inner = max(framed, key=lambda one: one.area)
        parts = [one for one in framed if one is inner or are_near(one, inner, STROKE_GAP * inner.size)]
        hypotheses.insert(0 if is_frame(main, inner, shape) else 2, parts)
    hypotheses.append([main, *near])
    second = max(
        (one for one in others if one.area > MIN_OTHER_INK * main.area), key=lambda one: one.area, default=None
    )
    hypotheses += [[second]] if second else []
    unique: dict[frozenset[Component], list[Component]] = {}
    for parts in hypotheses:
        unique.setdefault(frozenset(parts), parts)
    first, *rest = unique.values()
    digit = union(first)
    beside = sum(
        MIN_OTHER_HEIGHT < one.height / digit.height < 1 / MIN_OTHER_HEIGHT and one.clear_of_border(shape)
        for one in others
        if one not in first and not digit.contains(one)
    )
    return SingleDigit([digit, *map(union, rest)], beside)


def _chain(digit: list[Component], others: Sequence[Component], least: float = 0.0) -> list[Component]:
    """A digit's pieces with those others that continue it across narrow gaps, as long as it stays as narrow as a digit;
    the first piece comes first. least: the widest gap in pixels that is always narrow."""
    chain, more = list(digit), list(others)
    while more:
        whole = union(chain)
        reach = max(least, MAX_LINK * whole.size)
        more = [
            one
            for one in others
            if one not in chain
            and one.size < MIN_OTHER_HEIGHT * union((whole, one)).size
            and any(are_near(one, part, reach) for part in chain)
        ]
        chain += more
    whole = union(chain)
    return chain if whole.width <= MAX_ASPECT * whole.height else digit


def _is_bar(one: Component, digit: Component) -> bool:
    """Whether a flat component lies above or below a digit and extends beyond it on both sides."""
    apart = one.bottom <= digit.top + one.height or one.top >= digit.bottom - one.height
    overhang = min(digit.left - one.left, one.right - digit.right)
    return apart and one.width > MIN_BAR_WIDTH * one.height and overhang >= MIN_OVERHANG * digit.size


def _passes_digit(line: Component, digit: Component, shape: tuple[int, ...]) -> bool:
    """Whether a line comes from the border and extends beyond the digit on both sides."""
    (start, stop), (first, last) = line.span(line.axis), digit.span(line.axis)
    side = shape[line.axis]
    return (
        min(first - start, stop - last) >= MIN_OVERHANG * digit.size
        and min(start, side - stop) <= MAX_LINE_START * side
    )
