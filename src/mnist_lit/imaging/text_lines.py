"""Divide the components of a page into lines of text, which may be of different heights. NumPy and OpenCV only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.components import (
    MAX_FRAGMENT,
    STROKE_GAP,
    Component,
    box_overlaps,
    overlaps,
    text_height,
    typical_height,
)
from mnist_lit.imaging.marks import find_commas

# Fractions of the page's typical digit height.
MIN_TALL = 0.3  # least height of a digit
MAX_SMALL_LINE, MAX_SMALL_DIGIT = 0.65, 0.75  # greatest height of a line of small digits, and of a digit in it
MIN_NEIGHBOR, MAX_NEIGHBOR = 0.3, 2.5  # of neighbors in a line: least step to the right, greatest distance
MAX_MISALIGNED = 0.25  # greatest vertical offset between pieces of a line, apart from its slope
# Of neighbors in a line.
MIN_SHARED_HEIGHT = 0.4  # least vertical overlap, as a fraction of the shorter one's height
LAST_IN_LINE = 3  # number of a line's last pieces that a new one is compared with
MIN_SMALL_DIGITS, MAX_SMALL_GAP = 3, 2.0  # of a line of small digits: least number, and widest gap in their heights
MIN_DRAWING = 2.5  # least height of a drawing, as a multiple of that of the writing beside it
MIN_WRITTEN, MIN_ALIKE = 4, 0.6  # fewest pieces of that writing, and the least ratio of their heights to the usual one
MIN_SLOPE, MAX_SLOPE = 0.08, 0.35  # range of slopes that are corrected
MIN_SLOPE_PAIRS, MAX_SLOPED = 3, 1000  # least number of neighbors, and most pieces, for which the slope is measured
MIN_ALIGNMENT_GAIN = 1.3  # least number of aligned pairs, as a multiple of those on level lines


def text_lines(found: Sequence[Component], typical: float) -> list[list[Component]]:
    """Components by lines from the top, each from the left. The lines may slope."""
    slope = _slope(found, typical)
    falls = [round(slope * (one.left + one.right) / 2) for one in found]
    level = [one.moved(-fall, 0) for one, fall in zip(found, falls, strict=True)]
    before = dict(zip(level, found, strict=True))
    return [[before[one] for one in line] for line in _level_lines(level, typical)]


# The median of the slopes between neighbors (Hashizume, Yeh and Rosenfeld 1986). Numbers on level lines may each rise,
# too, and small differences between neighbors add up across a page, so the slope must also align what is far apart.
def _slope(found: Sequence[Component], typical: float) -> float:
    """How far the lines of text fall, in pixels per pixel to the right; 0 if they are level, or if there are none."""
    tall = [one for one in found if one.height >= MAX_FRAGMENT * typical]
    if not MIN_SLOPE_PAIRS < len(tall) <= MAX_SLOPED:
        return 0.0
    centers = np.array([(one.left + one.right, one.top + one.bottom) for one in tall]) / 2
    across, down = (centers[None] - centers[:, None]).transpose(2, 0, 1)
    distances = np.where(across > MIN_NEIGHBOR * typical, np.hypot(across, down), np.inf)
    nearest = distances.argmin(axis=1)
    starts = np.flatnonzero(distances.min(axis=1) < MAX_NEIGHBOR * typical)
    if len(starts) < MIN_SLOPE_PAIRS:
        return 0.0
    slope = float(np.median(down[starts, nearest[starts]] / across[starts, nearest[starts]]))
    if not MIN_SLOPE < abs(slope) < MAX_SLOPE:
        return 0.0
    far = across > MAX_NEIGHBOR * typical
    level, sloping = (np.count_nonzero(far & (abs(down - at * across) < MAX_MISALIGNED * typical)) for at in (0, slope))
    return slope if sloping > MIN_ALIGNMENT_GAIN * level else 0.0


def _level_lines(found: Sequence[Component], typical: float) -> list[list[Component]]:
    """Components by level lines. From left to right each tall component joins the line whose last ones are beside it;
    short ones, which are parts of digits, join the line of the nearest tall one."""
    commas = find_commas(found, typical)
    small = _small_lines([one for one in found if one not in commas], typical)
    others = [one for one in found if not any(one in line for line in small)]
    short = [one for one in others if one.height < MIN_TALL * typical or one in commas]
    lines: list[list[Component]] = []
    last = np.zeros((len(others), LAST_IN_LINE, 4), np.int64)  # the boxes of each line's last ones
    for one in sorted((one for one in others if one not in short), key=lambda one: one.left):
        shared = _shared_heights(one, last[: len(lines)]).max(axis=1)
        if lines and shared.max() > MIN_SHARED_HEIGHT:
            number = int(shared.argmax())
            last[number] = [*last[number, 1:], one.box]
        else:
            number = len(lines)
            lines.append([])
            last[number] = one.box
        lines[number].append(one)
    tall = [(other, line) for line in lines + small for other in line]
    boxes = np.array([other.box for other, _ in tall])
    for one in short if tall else ():
        nearness = box_overlaps(one, boxes).min(axis=1)
        if nearness.max() >= -STROKE_GAP * typical:
            tall[int(nearness.argmax())][1].append(one)
    lines += small
    lines.sort(key=lambda line: float(np.mean([one.top + one.bottom for one in line])))
    return [sorted(line, key=lambda one: one.left) for line in lines]


def lines_with_heights(found: Sequence[Component], typical: float) -> list[tuple[list[Component], float]]:
    """The lines of `text_lines`, each with the typical height of its digits."""
    return [(line, height_of_line(line, typical)) for line in text_lines(found, typical)]


# A drawing may have more ink than all of a page's writing, and so set the typical height, which is weighted by ink.
def find_drawings(found: Sequence[Component], typical: float) -> tuple[list[Component], float]:
    """The drawings, such as a logo, and the typical height of the writing beside them. There are none unless the
    typical height is far above the writing's, and at least four pieces are about as tall as the usual one. Three or
    more in a line are digits, not drawings."""
    sizes = np.array([text_height(one) for one in found])
    if len(sizes) <= MIN_WRITTEN:
        return [], typical
    usual = float(np.quantile(sizes, 0.5, weights=sizes, method="inverted_cdf"))
    alike = (MIN_ALIKE * usual <= sizes) & (MIN_ALIKE * sizes <= usual)
    if typical <= MIN_DRAWING * usual or np.count_nonzero(alike) < MIN_WRITTEN:
        return [], typical
    drawings = [one for one, size in zip(found, sizes, strict=True) if size > MIN_DRAWING * usual]
    if any(len(line) >= MIN_SMALL_DIGITS for line in _level_lines(drawings, typical)):
        return [], typical
    return drawings, usual


def height_of_line(line: Sequence[Component], typical: float) -> float:
    """The typical height of a line's digits if they are far smaller than those of other lines; else the page's."""
    own = typical_height(line)
    is_small = (
        own < MAX_SMALL_LINE * typical and sum(one.height >= MAX_FRAGMENT * own for one in line) >= MIN_SMALL_DIGITS
    )
    return own if is_small else typical


def _small_lines(found: Sequence[Component], typical: float) -> list[list[Component]]:
    """The lines of at least three pieces side by side that are far smaller than the page's typical digit."""
    short = [one for one in found if one.height < MAX_SMALL_DIGIT * typical]
    own = typical_height(short)
    if own >= typical or sum(one.height < MAX_SMALL_LINE * typical for one in short) < MIN_SMALL_DIGITS:
        return []
    groups: list[list[Component]] = []
    for line in _level_lines(short, own):
        groups.append([])
        for one in line:
            if groups[-1] and -overlaps(groups[-1][-1], one)[1] > MAX_SMALL_GAP * own:
                groups.append([])
            groups[-1].append(one)
    tall = np.array([one.box for one in found if one.height >= MAX_SMALL_DIGIT * typical]).reshape(-1, 4)
    small = [group for group in groups if height_of_line(group, typical) < typical]
    return [
        group for group in small if not any((_shared_heights(one, tall) > MIN_SHARED_HEIGHT).any() for one in group)
    ]


def _shared_heights(one: Component, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The vertical overlap of a component and boxes (…, 4), as a fraction of the shorter's height; negative = gap."""
    heights = np.minimum(boxes[..., 2] - boxes[..., 0], one.height)
    return np.asarray(box_overlaps(one, boxes)[..., 0] / heights)
