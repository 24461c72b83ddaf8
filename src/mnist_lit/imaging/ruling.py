"""Lines, squares and dots on a page's paper: remove printed ones, and find ruled lines in the ink. NumPy and OpenCV
only."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.components import Component, label_components
from mnist_lit.imaging.gray import MIN_SIGMAS, Gray, Strength, relative_contrast
from mnist_lit.imaging.ink import MIN_CONTRAST, WINDOW_STROKES
from mnist_lit.imaging.stroke_width import Mask

Values = NDArray[np.float64]

MIN_RULED_SIDE = 320  # longer side in pixels of the smallest picture that may show a page's ruling
REDUCED_SIDE = 800  # longer side in pixels of the reduced picture that is searched for lines
# In pixels of the reduced picture.
STRIP_WIDTH = 16  # of the strips that are searched for lines
MAX_THICKNESS = 8  # of a line or a dot
MAX_STRAY = 1.5  # greatest distance of a line's rows from its curve
MAX_TREND_ERROR = 0.75  # greatest mean distance of the curves from their trend
MIN_LINE_DISTANCE = 2  # between two lines
# Of a line's rows and strips.
SIGMAS_TO_TENTH = 1.28  # standard deviations of normal noise from its 10 % quantile to its median
MIN_DARKNESS = 3.0  # of a line, in gray levels
MIN_COLUMNS = 0.75  # least fraction of a strip's columns that shows a line
LINE_EDGE = 0.3  # darkness of a line's edge, as a fraction of its greatest
# Least fraction of the strips that shows a guide line, if there are many and if there are few.
MIN_GUIDE_LENGTH, MIN_LENGTH_OF_FEW = 0.75, 0.95
FEW_GUIDES, MANY_GUIDES = 3, 5  # least number of few and of many guide lines, which determine the curve of all lines
MIN_COVERED, MIN_STRIPS = 0.35, 4  # least fraction of the strips, and least number of strips, that show any other line
MAX_LINE_RATIO = 2.0  # how many times as thick and dark as the usual one such a line may be
MAX_INK = 0.75  # greatest brightness of ink on a line, relative to the line's
LINE_SAMPLES = 31  # of a line's brightness, 8 pixels apart
# Of dots.
MIN_PAPER_DOTS, DOT_SAMPLE = 40, 100  # least number; how many of them are measured
MIN_COMPACT = 0.6  # least width, as a fraction of the height, and least area, as a fraction of the box
MAX_DOT_DEVIATION = 0.15  # fraction by which their distances may differ
MIN_REGULAR = 0.7  # least fraction of such distances


class Line(NamedTuple):
    """A line across the page: row = bend · x² + slope · x + level, x from -1 in the first strip to 1 in the last."""

    bend: float
    slope: float
    level: float
    thickness: int  # in pixels


# The search uses narrow strips, since lines are seldom exactly horizontal. A row of a strip that is darker than the
# paper above and below, in most columns, is part of a line or of a digit. Digits seldom continue from strip to strip;
# lines that continue across most of the page are the guide lines. How their slope and bend change from the top of the
# page to the bottom (perspective) predicts the curve of a line at any height; summed along it, even a line that digits
# interrupt stands out. Each pixel of a line is then interpolated from those above and below, so that strokes across the
# line continue, unless it is darker than the line: then it belongs to a stroke along the line.
def remove_ruling(gray: Gray) -> Gray:
    """A picture (H, W), dark on light, without what is printed on its paper: five or more lines across the page, or
    three from border to border, within 8° of horizontal or vertical; or regular dots."""
    if max(gray.shape) < MIN_RULED_SIDE:
        return gray
    scale = max(1.0, max(gray.shape) / REDUCED_SIDE)
    for _ in range(2):
        gray = np.ascontiguousarray(_remove_lines(gray, scale).T)
    return _remove_dots(gray, scale)


def _remove_lines(gray: Gray, scale: float) -> Gray:
    """The picture without its nearly horizontal lines. scale: how much to reduce it for the search."""
    height, width = (round(side / scale) for side in gray.shape)
    strips = width // STRIP_WIDTH
    if strips < 2 * MIN_STRIPS or height < 3 * MAX_THICKNESS:
        return gray
    reduced = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA) if scale > 1 else gray
    lines = _find_lines(np.asarray(reduced, np.uint8))
    cleared = gray.copy() if lines else gray
    x = 2 * ((np.arange(gray.shape[1]) + 0.5) / (scale * STRIP_WIDTH) - 0.5) / (strips - 1) - 1
    for *curve, thickness in lines:
        _bridge(cleared, (np.polyval(curve, x) + 0.5) * scale - 0.5, round(thickness * scale / 2))
    return cleared


def _find_lines(gray: Gray) -> list[Line]:
    """The nearly horizontal lines; empty if there are too few."""
    dark, peaks = _dark_rows(gray)
    height, strips = dark.shape
    x = np.linspace(-1, 1, strips)
    curves = _curves(peaks, x)
    if not len(curves):
        return []
    bends, slopes, levels = curves.T[:, :, None]
    rows = np.round(bends * x * x + slopes * x + levels).astype(int)  # (N, strips)
    visible = (rows >= 0) & (rows < height)
    rows = rows.clip(0, height - 1)
    shown = visible & (cv2.dilate(peaks.view(np.uint8), np.ones((3, 1), np.uint8)) > 0)[rows, np.arange(strips)]
    count = shown.sum(axis=1).astype(np.float32)
    best = count >= cv2.dilate(count[:, None], np.ones((2 * MIN_LINE_DISTANCE + 1, 1), np.uint8))[:, 0]
    found: list[tuple[Line, float, float]] = []  # with its darkness, and the fraction of the strips that show it
    for at in np.flatnonzero(best & (count >= np.maximum(MIN_COVERED * visible.sum(axis=1), MIN_STRIPS))).tolist():
        bend, slope, level = curves[at].tolist()
        if found and level - found[-1][0].level <= MIN_LINE_DISTANCE:
            continue
        where = np.flatnonzero(shown[at])
        across = (rows[at, where] + np.arange(-MAX_THICKNESS, MAX_THICKNESS + 1)[:, None]).clip(0, height - 1)
        profile = np.median(dark[across, where], axis=1)
        above, below = _extent(profile)
        if below - above <= MAX_THICKNESS:
            line = Line(bend, slope, level + (above + below) / 2, below - above + 1)
            found.append((line, float(profile.max()), len(where) / max(int(visible[at].sum()), 1)))
    # The bars of several sevens line up, too, but are thicker and darker.
    sure = [(line.thickness, darkness) for line, darkness, fraction in found if fraction >= MIN_GUIDE_LENGTH]
    thickest, darkest = MAX_LINE_RATIO * np.median(sure, axis=0) if sure else (0.0, 0.0)
    return [
        line
        for line, darkness, fraction in found
        if fraction >= MIN_GUIDE_LENGTH or (line.thickness <= thickest and darkness <= darkest)
    ]


def _curves(peaks: Mask, x: Values) -> Values:
    """The curve that a line at each level has, or would have, judging by the longest ones: bend, slope and level,
    (N, 3), see `Line`; empty if these are too few, or are writing. x: each strip's position, (strips,)."""
    chains = _chains(peaks, x, MIN_GUIDE_LENGTH)
    if len(chains) < MANY_GUIDES:  # they may be three 1s that nearly fill the picture, so they must be longer
        chains = _chains(peaks, x, MIN_LENGTH_OF_FEW)
    if len(chains) < FEW_GUIDES:
        return np.empty((0, 3))
    bends, slopes, levels = chains.T
    bending, sloping = np.polyfit(levels, bends, 1), np.polyfit(levels, slopes, 1)
    away = np.abs(np.polyval(bending, levels) - bends) + np.abs(np.polyval(sloping, levels) - slopes)
    if away.mean() > MAX_TREND_ERROR:  # they are writing, such as three tall 1s
        return np.empty((0, 3))
    level = np.arange(-len(peaks) // 8, len(peaks) + len(peaks) // 8)
    return np.stack((np.polyval(bending, level), np.polyval(sloping, level), level), axis=1)


def _extent(profile: Values) -> tuple[int, int]:
    """The first and last row of a line, from its middle, given the darkness (2 · MAX_THICKNESS + 1,) across it."""
    middle = slice(MAX_THICKNESS - MIN_LINE_DISTANCE, MAX_THICKNESS + MIN_LINE_DISTANCE + 1)
    top = middle.start + int(profile[middle].argmax())
    light = np.pad(profile < LINE_EDGE * profile[top], 1, constant_values=True)
    above, below = int(light[top + 1 :: -1].argmax()) - 1, int(light[top + 1 :].argmax()) - 1
    return top - above - MAX_THICKNESS, top + below - MAX_THICKNESS


def _dark_rows(gray: Gray) -> tuple[Strength, Mask]:
    """For each row and strip, (H, W // STRIP_WIDTH): how much darker most of it is than the paper above and below, and
    whether a line may be there."""
    height, strips = len(gray), gray.shape[1] // STRIP_WIDTH
    paper = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, np.ones((3 * MAX_THICKNESS + 1, 1), np.uint8))
    dark = relative_contrast(gray, np.asarray(paper, np.uint8))
    thick = cv2.dilate(dark, np.ones((3, 1), np.uint8))[:, : strips * STRIP_WIDTH].reshape(height, strips, STRIP_WIDTH)
    most = np.sort(thick, axis=2)[:, :, round((1 - MIN_COLUMNS) * STRIP_WIDTH)]
    low, middle = np.quantile(most, (0.1, 0.5), axis=0)
    most = np.maximum(most - middle, 0).astype(np.float32)
    smooth = cv2.GaussianBlur(most, (1, 5), 0)
    peaks = smooth >= cv2.dilate(smooth, np.ones((5, 1), np.uint8))
    return most, peaks & (most > max(MIN_DARKNESS, MIN_SIGMAS * noise_sigma(low, middle)))


def noise_sigma(low: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    """The standard deviation of noise with these 10 % quantiles and medians."""
    return float(np.median(middle - low)) / SIGMAS_TO_TENTH


def _chains(peaks: Mask, x: Values, fraction: float) -> Values:
    """The curves of the lines that are visible in that fraction of the strips and do not leave the page: (N, 3), see
    `Line`. x: each strip's position."""
    joined = cv2.dilate(peaks.view(np.uint8), np.ones((3, 3), np.uint8))
    labels, stats = label_components(joined > 0)
    chains = []
    for label in np.flatnonzero(stats[1:, 2] >= fraction * len(x)) + 1:
        row, strip = np.nonzero((labels == label) & peaks)
        if len(np.unique(strip)) < fraction * len(x):  # the dilation alone made it that long
            continue
        kept = np.ones(len(row), bool)
        for _ in range(3):
            curve = np.polyfit(x[strip[kept]], row[kept], 2)
            kept = np.abs(np.polyval(curve, x[strip]) - row) <= MAX_STRAY
            if len(np.unique(strip[kept])) < fraction * len(x):
                break
        else:
            chains.append(curve)
    inside = [
        one
        for one in chains
        if all(MIN_LINE_DISTANCE < end < len(peaks) - MIN_LINE_DISTANCE for end in np.polyval(one, (-1, 1)))
    ]
    return np.array(inside).reshape(-1, 3)


def _bridge(gray: Gray, rows: Values, reach: int) -> None:
    """Interpolate the pixels within `reach` of a line, in place. rows: the line's row in each column, (W,)."""
    columns = np.arange(gray.shape[1])
    around = np.round(rows).astype(int) + np.arange(-reach - 1, reach + 2)[:, None]
    inside = (around >= 0) & (around < len(gray))
    inside[[0, -1]] = False
    around = around.clip(0, len(gray) - 1)
    seen = gray[around, columns].astype(np.float32)
    fraction = np.linspace(0, 1, len(seen), dtype=np.float32)[:, None]
    beneath = seen[:1] * (1 - fraction) + seen[-1:] * fraction
    darkest = (seen / np.maximum(beneath, 1)).min(axis=0)[::8]
    usual = cv2.medianBlur((255 * darkest.clip(0, 1)).astype(np.uint8)[None], min(LINE_SAMPLES, (len(darkest) - 1) | 1))
    line = np.repeat(usual[0], 8)[: len(columns)] / np.float32(255)
    limit = np.maximum(MAX_INK * line, 3 * line - 2)  # ink on a faint line is three times as far from the paper
    replaced = inside & (seen >= limit * beneath)
    gray[around[replaced], np.broadcast_to(columns, inside.shape)[replaced]] = beneath[replaced]


def _remove_dots(gray: Gray, scale: float) -> Gray:
    """The picture without small dots if most are equally far from the next one. scale: see `_remove_lines`."""
    size = round(2 * MAX_THICKNESS * scale) | 1
    paper = np.asarray(cv2.morphologyEx(gray, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8)), np.uint8)
    dark = paper - gray
    low, middle = np.quantile(dark[::7, ::7], (0.1, 0.5))
    ink = dark > middle + max(MIN_CONTRAST, MIN_SIGMAS * noise_sigma(low, middle))
    labels, stats = label_components(ink)
    shorter, longer = np.sort(stats[:, 2:4], axis=1).T
    small = (
        (longer <= MAX_THICKNESS * scale)
        & (shorter >= MIN_COMPACT * longer)
        & (stats[:, 4] >= MIN_COMPACT * shorter * longer)
    )
    small[0] = False
    dots = np.asarray(stats[small, :2] + stats[small, 2:4] / 2, np.float32)  # their centers
    if len(dots) < MIN_PAPER_DOTS:
        return gray
    some = dots[:: -(-len(dots) // DOT_SAMPLE)]
    apart = np.sqrt([np.partition(((dots - one) ** 2).sum(axis=1), 1)[1] for one in some])  # to the nearest other dot
    usual = np.median(apart)
    if np.mean(np.abs(apart - usual) <= MAX_DOT_DEVIATION * usual) < MIN_REGULAR:
        return gray
    removed = cv2.dilate(small[labels].view(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(removed, paper, gray)


def ruled_lines(mask: Mask, stroke: float, fraction: float, *, with_steps: bool = False) -> list[Component]:
    """Straight lines longer than this fraction of the picture's side, within 7° of horizontal or vertical, without the
    ink that crosses them: pixels count only where the ink is no thicker than the line. with_steps: runs of ink continue
    across steps of a pixel, as in a thin line that is slightly tilted."""
    lines = []
    reach = round(WINDOW_STROKES * stroke) | 1
    for transposed in (mask, cv2.transpose(mask.view(np.uint8)).view(bool)):  # the lines are horizontal in it
        # Like run-length smoothing (Wong et al. 1982): join long runs of ink over gaps, then label what is connected.
        ink = transposed.view(np.uint8)
        _, _, longest, _ = cv2.boundingRect(ink)
        if reach >= ink.shape[1] or longest < fraction * ink.shape[1]:
            continue
        row = np.ones((1, reach), np.uint8)
        # Paper on both sides, since OpenCV's own borders count as ink when it erodes.
        padded = np.asarray(cv2.copyMakeBorder(ink, 0, 0, reach, reach, cv2.BORDER_CONSTANT), np.uint8)
        runs = cv2.dilate(padded, np.ones((3, 1), np.uint8)) if with_steps else padded
        if cv2.reduce(runs, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).max() < reach:  # then no row has a run that long
            continue
        long = np.asarray(cv2.morphologyEx(runs, cv2.MORPH_OPEN, row), np.uint8) & padded
        if not long.any():
            continue
        joined = cv2.morphologyEx(long, cv2.MORPH_CLOSE, row)[:, reach:-reach]
        labels, stats = label_components(np.ascontiguousarray(joined) > 0)
        thickness = None
        for number, (left, top, width, height, _) in enumerate(stats.tolist()):
            if number == 0 or width < fraction * transposed.shape[1] or height > width / WINDOW_STROKES:
                continue
            thickness = _run_lengths(transposed.T).T if thickness is None else thickness
            rows, columns = slice(top, top + height), slice(left, left + width)
            usual = float(np.median(((labels[rows, columns] == number) & transposed[rows, columns]).sum(axis=0)))
            fringe = round(usual / 2) + 1  # rows above and below with the line's ragged edge
            first, last = max(0, top - fringe), min(len(transposed), top + height + fringe)
            near = (labels[first:last, columns] == number).astype(np.uint8)
            line = cv2.dilate(near, np.ones((2 * fringe + 1, 1), np.uint8)) > 0
            line &= transposed[first:last, columns] & (thickness[first:last, columns] <= 2 * (usual + 1))
            _, above, _, rest = cv2.boundingRect(line.view(np.uint8))  # without the fringe where it has no ink
            if not rest:
                continue
            first, last, line = first + above, first + above + rest, line[above : above + rest]
            found = Component(first, left, last, left + width, line)
            lines.append(found if transposed is mask else Component(left, first, left + width, last, line.T))
    return lines


def _run_lengths(mask: Mask) -> NDArray[np.int64]:
    """For each pixel of the mask the length of its unbroken run in the row; 0 elsewhere."""
    pixels = np.pad(mask, ((0, 0), (1, 1))).ravel()  # the padding ends every run with its row
    lengths = np.diff(np.flatnonzero(np.diff(pixels)) + 1, prepend=0, append=len(pixels))
    return np.repeat(lengths, lengths).reshape(len(mask), -1)[:, 1:-1] * mask
