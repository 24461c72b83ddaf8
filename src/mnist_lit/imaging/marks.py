"""Marks in a line of digits that are not digits: commas, lines below digits, slashes, brackets and plus signs. NumPy
only."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.imaging.components import MAX_FRAGMENT, STROKE_GAP, Component, overlaps, strokes_across

# Fractions of the typical digit height.
MAX_COMMA, MAX_BLANK, MAX_PLUS = 0.55, 0.15, 0.75  # greatest height of a comma, a line below a digit, a plus sign
# Of a slash or a bar, which looks like a tall 1, and of a bracket, which bends.
MIN_SIGN, MIN_PAST = (1.4, 1.2), (0.1, 0.05)  # least height; how far it begins above its neighbors, and ends below
# Of the sign itself.
MAX_COMMA_WIDTH, MIN_BLANK_WIDTH = 0.8, 5.0  # of a comma and of a line below a digit, as fractions of their heights
MAX_SIGN_WIDTH, MAX_PLUS_ASPECT = 0.6, 1.5  # of a slash, as a fraction of its height; of a plus sign's sides
MIN_SINGLE, MAX_SIGN_STROKE = 0.95, 2.2  # fraction of a slash's rows that cross it once; its width in stroke widths
MIN_BEND = 0.11  # of a bracket: how far from straight it is, as a fraction of its height
MIN_PLUS_SIDE, MAX_CORNER_INK = 6, 0.06  # least size of a plus sign in pixels; fraction of its ink outside the cross


def find_blanks(found: Sequence[Component], typical: float) -> list[Component]:
    """The blanks of a form: short lines, each below a single digit."""
    lines = [one for one in found if one.height <= MAX_BLANK * typical and one.width >= MIN_BLANK_WIDTH * one.height]
    tall = [one for one in found if one.height >= MAX_FRAGMENT * typical] if lines else []
    return [line for line in lines if any(_is_below(line, digit) for digit in tall)]


def _is_below(line: Component, digit: Component) -> bool:
    """Whether a line lies below a digit, or touches its foot, and is at least as wide."""
    return line.top >= digit.bottom - line.height and line.left <= digit.left and digit.right <= line.right


def find_commas(found: Sequence[Component], typical: float) -> list[Component]:
    """The short strokes that begin beside the foot of a taller component and reach below it."""
    short = [one for one in found if one.height <= MAX_COMMA * typical and one.width <= MAX_COMMA_WIDTH * one.height]
    tall = [one for one in found if one.height >= MAX_FRAGMENT * typical] if short else []
    return [one for one in short if any(_is_comma(one, digit, typical) for digit in tall)]


def find_signs(found: Sequence[Component], typical: float, stroke: float) -> list[Component]:
    """The plus signs of a line of text, and the slashes, bars and brackets: single strokes that begin above the digits
    beside them and end below."""
    pluses = [one for one in found if one.size <= MAX_PLUS * typical and _is_plus(one)]
    long = [one for one in found if one.height >= min(MIN_SIGN) * typical and one.width <= MAX_SIGN_WIDTH * one.height]
    single = [one for one in long if _is_single_stroke(one, stroke)]
    tall = [one for one in found if one.height >= MAX_FRAGMENT * typical and one not in single] if single else []
    return pluses + [one for one in single if _exceeds_neighbors(one, tall, typical)]


def _is_plus(one: Component) -> bool:
    """Whether a component is a cross: about as wide as tall, with ink at the ends of its middle row and column only."""
    if not 1 / MAX_PLUS_ASPECT < one.width / one.height < MAX_PLUS_ASPECT or one.size < MIN_PLUS_SIDE:
        return False
    rows, columns = (slice(round(0.3 * side), round(0.7 * side)) for side in one.mask.shape)
    outside = one.mask.copy()
    outside[rows] = outside[:, columns] = False
    ends = one.mask[0, columns], one.mask[-1, columns], one.mask[rows, 0], one.mask[rows, -1]
    return all(end.any() for end in ends) and int(outside.sum()) <= MAX_CORNER_INK * one.area


def _is_single_stroke(one: Component, stroke: float) -> bool:
    """Whether a component is one stroke from top to bottom."""
    crossed = strokes_across(one.mask)
    is_thin = np.quantile(one.mask.sum(axis=1), 0.95) <= MAX_SIGN_STROKE * stroke
    return bool(is_thin and (crossed == 1).mean() > MIN_SINGLE)


def _exceeds_neighbors(one: Component, tall: Sequence[Component], typical: float) -> bool:
    """Whether a component begins above the nearest digits on its left and right, and ends below."""
    near = []
    for left in (True, False):
        side = [other for other in tall if (other.left + other.right < one.left + one.right) == left]
        if beside := [other for other in side if -overlaps(one, other)[1] < typical]:
            near.append(max(beside, key=lambda other: overlaps(one, other)[1]))
    bends = _bend(one) >= MIN_BEND
    past = MIN_PAST[bends] * typical
    exceeds = all(one.top < other.top - past and one.bottom > other.bottom + past for other in near)
    return bool(near) and exceeds and one.height >= MIN_SIGN[bends] * typical


def _bend(one: Component) -> float:
    """How far the middle of a stroke is from a straight line between its ends, as a fraction of its height."""
    middles = (one.mask @ np.arange(one.width)) / np.maximum(one.mask.sum(axis=1), 1)
    return float(abs(middles - np.linspace(middles[0], middles[-1], one.height)).max() / one.height)


def _is_comma(one: Component, digit: Component, typical: float) -> bool:
    down, across = overlaps(one, digit)
    return -STROKE_GAP * typical <= across <= 0 and 0 <= down <= one.height / 2 and one.bottom > digit.bottom
