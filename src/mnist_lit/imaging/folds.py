"""Folds in a page's paper: find them, and even out their light as if the paper were flat. NumPy and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.gray import MIN_SIGMAS, Gray, Strength, relative_contrast
from mnist_lit.imaging.ruling import MAX_THICKNESS, MIN_DARKNESS, MIN_RULED_SIDE, REDUCED_SIDE, noise_sigma

Values = NDArray[np.float64]

# Of straight lines, in pixels of the reduced picture.
SMOOTHING = 0.8  # standard deviation of the blur before the search
WINDOW = 3 * MAX_THICKNESS + 1  # what is wider is not a line
MAX_GAP = 4  # of a line
MIN_APART = 6  # between two lines
MAX_LINES = 12  # more are printed
MIN_LENGTH, MIN_VOTES = 0.3, 0.2  # of a line and of its pixels, as fractions of the picture's shorter and longer side
# Of folds, in pixels of the reduced picture.
REACH = 12  # of what is measured across a fold, to each side
MAX_STRAY = 5  # greatest distance of a fold from the straight line
PART = 128  # length of the parts along which a fold's brightness is measured
# Difference of a fold from the paper beside it, as a fraction of the paper's brightness.
MIN_DEPTH, MAX_DEPTH = 0.03, 0.5  # what differs more is drawn
# Of folds, as fractions of the length of the line across the whole picture.
MIN_SHOWN, MAX_WIDTH = 0.9, 0.015  # strokes of digits are shorter or thicker


class _Line(NamedTuple):
    """A straight line: y = slope · x + level, or x = slope · y + level if it is steep."""

    sign: int  # 1 if it is darker than the paper, -1 if it is brighter
    is_steep: bool
    slope: float
    level: float  # in pixels of the reduced picture


# A fold changes the light along a line across the page, and what is written across it by the same factor. This factor
# is measured, as the median of the brightness along a part of the fold, and divided out: then the paper is flat, and
# strokes are whole. The probabilistic Hough transform (Matas et al. 2000) finds the lines.
def flatten_folds(gray: Gray) -> Gray:
    """A picture (H, W), dark on light, without the dark and bright lines along the folds of its paper."""
    if max(gray.shape) < MIN_RULED_SIDE:
        return gray
    scale = max(1.0, max(gray.shape) / REDUCED_SIDE)
    for line in _straight_lines(gray, scale):
        gray = np.ascontiguousarray(gray.T) if line.is_steep else gray
        x = (np.arange(gray.shape[1]) + 0.5) / scale - 0.5
        gray = _without_fold(gray, (line.slope * x + line.level + 0.5) * scale - 0.5, line.sign, scale)
        gray = np.ascontiguousarray(gray.T) if line.is_steep else gray
    return gray


def _straight_lines(gray: Gray, scale: float) -> list[_Line]:
    """Long, thin lines that differ from the paper; empty if there are many. scale: how much to reduce the picture."""
    height, width = (round(side / scale) for side in gray.shape)
    small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    reduced = np.asarray(cv2.GaussianBlur(small, (0, 0), SMOOTHING), np.uint8)
    votes, length = round(MIN_VOTES * max(height, width)), MIN_LENGTH * min(height, width)
    lines: list[_Line] = []
    for sign, filled in ((1, cv2.MORPH_CLOSE), (-1, cv2.MORPH_OPEN)):
        paper = np.asarray(cv2.morphologyEx(reduced, filled, np.ones((WINDOW, WINDOW), np.uint8)), np.uint8)
        depth = relative_contrast(reduced, paper)
        low, middle = np.quantile(depth[::7, ::7], (0.1, 0.5))
        thin = depth > middle + max(MIN_DARKNESS, MIN_SIGMAS * noise_sigma(low, middle))
        found = cv2.HoughLinesP(thin.view(np.uint8), 1, np.pi / 360, votes, minLineLength=length, maxLineGap=MAX_GAP)
        for x0, y0, x1, y1 in [] if found is None else found.reshape(-1, 4).tolist():
            is_steep = abs(y1 - y0) > abs(x1 - x0)
            (left, top), (right, bottom) = ((y0, x0), (y1, x1)) if is_steep else ((x0, y0), (x1, y1))
            slope = (bottom - top) / (right - left)
            line = _Line(sign, is_steep, slope, top - slope * left)
            if all(_distance(line, other, (left, right)) >= MIN_APART for other in lines):
                lines.append(line)
    return lines if len(lines) <= MAX_LINES else []


def _distance(one: _Line, other: _Line, ends: tuple[int, int]) -> float:
    """The greatest distance between two lines from one of these x to the other; infinite if they differ in kind."""
    if one[:2] != other[:2]:
        return np.inf
    return max(abs((one.slope - other.slope) * end + one.level - other.level) for end in ends)


def _without_fold(gray: Gray, rows: Values, sign: int, scale: float) -> Gray:
    """The picture without the fold along a line; unchanged if there is none. rows: the line's row in each column (W,);
    sign: see `_Line`; scale: pixels per pixel of the reduced picture."""
    columns = np.flatnonzero((rows >= 0) & (rows < len(gray)))
    rows = rows[columns]
    reach, stray = round(REACH * scale), round(MAX_STRAY * scale)
    edges = np.linspace(0, len(columns), max(3, round(len(columns) / (PART * scale))) + 1).astype(int)
    for is_exact in (False, True):
        around = np.round(rows).astype(int) + np.arange(-reach, reach + 1)[:, None]
        seen = gray[around.clip(0, len(gray) - 1), columns].astype(np.float32)
        depth = sign * _depth(seen, edges)
        near = cv2.blur(depth, (1, 2 * round(scale / 2) + 1))[reach - stray : reach + stray + 1]
        deepest = near.max(axis=0)
        shown = deepest > MIN_DEPTH
        if shown.mean() < MIN_SHOWN:
            return gray
        if not is_exact:
            middle = (edges[1:] + edges[:-1])[shown] / 2
            curve = np.polyfit(middle, near.argmax(axis=0)[shown] - stray, min(2, len(middle) - 1))
            rows = rows + np.polyval(curve, np.arange(len(rows)))
    width = np.median(np.count_nonzero(depth > deepest / 2, axis=0)[shown])
    if width > MAX_WIDTH * len(columns) or np.median(deepest[shown]) > MAX_DEPTH:
        return gray
    # A fold's depth has one maximum; another one would be writing.
    above, below = (np.minimum.accumulate(half, axis=0) for half in (depth[reach::-1], depth[reach:]))
    depth = np.concatenate((above[:0:-1], below)).clip(min=0)
    across = np.asarray(around - rows + reach, np.float32)
    along = np.broadcast_to(
        (np.arange(len(rows), dtype=np.float32) + 0.5) / len(rows) * depth.shape[1] - 0.5, across.shape
    )
    factor = 1 - sign * cv2.remap(depth, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    changed = (factor != 1) & (around >= 0) & (around < len(gray))
    flat = gray.copy()
    flat[around[changed], np.broadcast_to(columns, changed.shape)[changed]] = (seen / factor).clip(0, 255)[changed]
    return flat


def _depth(seen: Strength, edges: NDArray[np.int_]) -> Strength:
    """How much darker than beside it a fold is at each distance from its middle (N, parts), as a fraction, in the parts
    between these edges. seen: gray levels (N, W)."""
    medians = np.stack([np.median(part, axis=1) for part in np.split(seen, edges[1:-1], axis=1)], axis=1)
    fraction = np.linspace(0, 1, len(medians), dtype=np.float32)[:, None]
    beside = medians[:3].mean(axis=0) * (1 - fraction) + medians[-3:].mean(axis=0) * fraction
    return np.asarray(1 - medians / np.maximum(beside, 1), np.float32)
