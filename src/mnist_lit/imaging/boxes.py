"""Boxes, circles and frames around digits, and the straight lines of boxes. NumPy and OpenCV only."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.imaging.border import from_each_side, inked_corners
from mnist_lit.imaging.components import Component, components, erase, typical_height
from mnist_lit.imaging.ruling import ruled_lines

MAX_MARK = 0.3  # greatest height of a mark inside a zero, as a fraction of the zero's
MIN_BOX = 8.0  # stroke widths: smallest box around a digit that touches it
MIN_CIRCLE_WIDTH = 0.9  # least width of a circle that is not a zero, as a fraction of its height
MIN_FRAME_HEIGHT = 1.5  # least height of a frame around a small digit, in heights of the digits beside it
MIN_FRAMED_INK = 0.5  # least size of the ink inside a frame, as a fraction of the frame's; less is a mark inside a zero
RIM_DEPTH = 0.2  # depth of the rim in which a box has its lines, as a fraction of its height or width
MIN_BOX_LINE = 0.9  # least length of a box's line, as a fraction of the box's side


def frames(found: Sequence[Component]) -> list[Component]:
    """Components around others: boxes or circles around a digit, or rows of boxes with a digit in each."""
    top, left, bottom, right = np.array([one.box for one in found]).reshape(-1, 4).T
    around = (top[:, None] <= top) & (left[:, None] <= left) & (bottom[:, None] >= bottom) & (right[:, None] >= right)
    nested = ((found[outer], found[inner]) for outer, inner in np.argwhere(around) if outer != inner)
    pairs = [pair for pair in nested if pair[1].height > MAX_MARK * pair[0].height and pair[0].encloses(pair[1])]
    # A zero with a slash is narrow, and as tall as the digits beside it.
    paired = {one for pair in pairs for one in pair}
    beside = typical_height([one for one in found if one not in paired])
    chosen = set()
    for one, inner in pairs:
        is_large = inner.height > MIN_FRAMED_INK * one.height or one.height > MIN_FRAME_HEIGHT * beside
        if is_large or one.width > MIN_CIRCLE_WIDTH * one.height or inked_corners(one.mask) >= 2:
            chosen.add(one)
    return [one for one in found if one in chosen]


def is_frame(outer: Component, inner: Component, shape: tuple[int, ...]) -> bool:
    """Whether a component is a frame around a digit rather than a zero with a mark inside."""
    return (
        not outer.clear_of_border(shape) or inked_corners(outer.mask) >= 2 or inner.size > MIN_FRAMED_INK * outer.size
    )


def box_lines(found: Sequence[Component], stroke: float) -> list[Component]:
    """The lines of boxes, or rows of boxes, that digits touch: straight lines on all four sides, with ink inside."""
    every: list[Component] = []
    for one in found:
        if one.size > MIN_BOX * stroke and _has_ink_all_around(one):  # far faster to find than straight lines
            lines = ruled_lines(one.mask, stroke, MIN_BOX_LINE)
            on_all_sides = min(sum(line.axis == axis for line in lines) for axis in (0, 1)) >= 2
            if on_all_sides and any(
                inside.height > MAX_MARK * one.height for inside in components(erase(one.mask, lines))
            ):
                every += [line.moved(one.top, one.left) for line in lines]
    return every


def _has_ink_all_around(one: Component) -> bool:
    """Whether nearly all rows and columns of a component have ink near both of their ends."""
    depths = [max(1, round(RIM_DEPTH * side)) for side in (one.height, one.height, one.width, one.width)]
    rims = (rows[:depth].any(axis=0) for rows, depth in zip(from_each_side(one.mask), depths, strict=True))
    return min(int(np.count_nonzero(rim)) / rim.size for rim in rims) >= MIN_BOX_LINE


def frame_lines(frame: Component, stroke: float) -> list[Component]:
    """The straight lines from side to side of a box or a row of boxes, which may be tilted."""
    lines = ruled_lines(frame.mask, stroke, MIN_BOX_LINE)
    # A tilted row is taller than its upright lines by the rise of its horizontal ones.
    rise = max((line.height for line in lines if line.axis), default=0)
    if rise < frame.height / 2:
        upright = ruled_lines(frame.mask, stroke, MIN_BOX_LINE * (1 - rise / frame.height))
        lines = [line for line in lines if line.axis] + [line for line in upright if not line.axis]
    return [line.moved(frame.top, frame.left) for line in lines]
