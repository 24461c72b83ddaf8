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
MIN_APART, MIN_ANGLE = 6, 0.05  # of two lines: distance in the middle of one, or difference of slopes
MIN_LENGTH, MIN_VOTES = 0.3, 0.2  # of a line and of its pixels, as fractions of the picture's shorter and longer side
MAX_COVERED = 0.25  # fraction of the picture that may look like lines
MAX_LINES = 12  # dark or bright ones; more are printed
# Of folds, in pixels of the reduced picture.
REACH = 12  # of what is measured across a fold, to each side
MAX_STRAY = 5  # greatest distance of a fold from the straight line
PART = 128  # length of the parts along which a fold's brightness is measured
# Difference of a fold from the paper beside it, as a fraction of the paper's brightness.
MIN_DEPTH, MAX_DEPTH = 0.03, 0.5  # what differs more is drawn
MIN_END_DEPTH = 0.3  # least depth of the ends, as a fraction of a fold's usual one
MAX_OF_INK = 0.85  # greatest depth, as a fraction of the darkest ink's: a line as dark as the writing is written, too
DARKEST = 0.9998  # fraction of the picture that is lighter than its darkest ink
# Fractions of the line's length across the picture.
MIN_SHOWN = 0.9  # least fraction in which a fold shows
END = 0.03  # end sections where a fold must show, too: a digit's strokes end within the picture
MAX_WIDTH = 0.015  # greatest width of a fold


class _Line(NamedTuple):
    """A straight line: y = slope · x + level, or x = slope · y + level if it is steep."""

    is_steep: bool
    slope: float
    level: float  # in pixels of the reduced picture
    sign: int  # 1 if it is darker than the paper, -1 if it is brighter


class _Profile(NamedTuple):
    """How a picture differs from the paper near a line."""

    rows: NDArray[np.int_]  # (N, W): of the picture
    seen: Strength  # (N, W): their gray levels
    depth: Strength  # (N, parts): the difference, as a fraction of the paper's brightness
    offset: Values  # (parts,): of the greatest difference, in rows
    deepest: Values  # (parts,): that difference


# A fold changes the light along a line across the page, and what is written across it by the same factor. This factor
# is measured, as the median of the brightness along a part of the fold, and divided out: then the paper is flat, and
# strokes are whole. The probabilistic Hough transform (Matas et al. 2000) finds the lines.
def flatten_folds(gray: Gray) -> Gray:
    """A picture (H, W), dark on light, without the thin dark and bright lines from border to border that folds leave on
    paper; unchanged if such lines are as dark as the ink."""
    scale = max(1.0, max(gray.shape) / REDUCED_SIDE)
    if max(gray.shape) < MIN_RULED_SIDE or min(gray.shape) < WINDOW * scale:
        return gray
    flat, darkest = gray, 0.0
    for line in _straight_lines(gray, scale):
        view = flat.T if line.is_steep else flat
        x = (np.arange(view.shape[1]) + 0.5) / scale - 0.5
        cleared, depth = _without_fold(view, (line.slope * x + line.level + 0.5) * scale - 0.5, line.sign, scale)
        flat = cleared.T if line.is_steep else cleared
        darkest = max(darkest, line.sign * depth)
    is_light = darkest == 0 or darkest < MAX_OF_INK * _darkest_ink(flat, scale)
    return np.ascontiguousarray(flat) if is_light else gray


def _straight_lines(gray: Gray, scale: float) -> list[_Line]:
    """Long, thin lines that differ from the paper; none if there are many. scale: how much to reduce the picture."""
    reduced = _reduced(gray, scale)
    height, width = reduced.shape
    votes, length = round(MIN_VOTES * max(height, width)), MIN_LENGTH * min(height, width)
    lines: list[_Line] = []
    for sign, filled in ((1, cv2.MORPH_CLOSE), (-1, cv2.MORPH_OPEN)):
        paper = np.asarray(cv2.morphologyEx(reduced, filled, np.ones((WINDOW, WINDOW), np.uint8)), np.uint8)
        depth = relative_contrast(reduced, paper)
        low, middle = np.quantile(depth[::7, ::7], (0.1, 0.5))
        thin = depth > middle + max(MIN_DARKNESS, MIN_SIGMAS * noise_sigma(low, middle))
        if thin.mean() > MAX_COVERED:
            continue
        segments = cv2.HoughLinesP(thin.view(np.uint8), 1, np.pi / 360, votes, minLineLength=length, maxLineGap=MAX_GAP)
        found = _distinct_lines([] if segments is None else segments.reshape(-1, 4).tolist(), sign)
        lines += found if len(found) <= MAX_LINES else []
    return lines


def _reduced(gray: Gray, scale: float) -> Gray:
    """The picture reduced by this factor, slightly blurred."""
    size = round(gray.shape[1] / scale), round(gray.shape[0] / scale)
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), SMOOTHING), np.uint8)


def _distinct_lines(segments: list[list[int]], sign: int) -> list[_Line]:
    """The lines through these segments (x, y, x, y), each once; the search ends when there are too many."""
    lines: list[_Line] = []
    for x0, y0, x1, y1 in segments:
        is_steep = abs(y1 - y0) > abs(x1 - x0)
        (left, top), (right, bottom) = ((y0, x0), (y1, x1)) if is_steep else ((x0, y0), (x1, y1))
        slope = (bottom - top) / (right - left)
        x, y = (left + right) / 2, (top + bottom) / 2
        if all(
            is_steep != other.is_steep
            or abs(slope - other.slope) > MIN_ANGLE
            or abs(other.slope * x + other.level - y) > MIN_APART
            for other in lines
        ):
            lines.append(_Line(is_steep, slope, top - slope * left, sign))
        if len(lines) > MAX_LINES:
            break
    return lines


def _without_fold(gray: Gray, line: Values, sign: int, scale: float) -> tuple[Gray, float]:
    """The picture without the fold along a line, and the fold's depth; unchanged and 0 if there is none. line: its row
    in each column (W,); sign: see `_Line`; scale: pixels per pixel of the reduced picture."""
    columns = np.flatnonzero((line >= 0) & (line < len(gray)))
    curve = line[columns]
    for _ in range(2):  # then the curve runs along the middle of the fold
        rows, seen, depth, offset, deepest = _profile(gray, columns, curve, sign, scale)
        shown = deepest > MIN_DEPTH
        if shown.mean() < MIN_SHOWN:
            return gray, 0.0
        middles = (np.flatnonzero(shown) + 0.5) / len(shown) * len(curve)
        middle, curve = curve, curve + np.polyval(np.polyfit(middles, offset[shown], 2), np.arange(len(curve)))
    usual = float(np.median(deepest[shown]))
    width = np.median(np.count_nonzero(depth > deepest / 2, axis=0)[shown])
    ends = _end_depth(seen, sign, round(MAX_STRAY * scale))
    if width > MAX_WIDTH * len(curve) or usual > MAX_DEPTH or ends < max(MIN_DEPTH, MIN_END_DEPTH * usual):
        return gray, 0.0
    # A fold's depth has one maximum; another one would be writing.
    reach = len(depth) // 2
    above, below = (np.minimum.accumulate(half, axis=0) for half in (depth[reach::-1], depth[reach:]))
    depth = np.concatenate((above[:0:-1], below)).clip(min=0)
    across = np.asarray(rows - middle + reach, np.float32)
    along = np.broadcast_to((np.arange(len(middle)) + 0.5) / len(middle) * len(shown) - 0.5, across.shape)
    factor = 1 - sign * cv2.remap(depth, along.astype(np.float32), across, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    changed = (factor != 1) & (rows >= 0) & (rows < len(gray))
    flat = gray.copy()
    flat[rows[changed], np.broadcast_to(columns, rows.shape)[changed]] = (seen / factor).clip(0, 255)[changed]
    return flat, usual


def _profile(gray: Gray, columns: NDArray[np.int_], curve: Values, sign: int, scale: float) -> _Profile:
    """The profile across a curve, given by its row in each of these columns (W,)."""
    reach, stray = round(REACH * scale), round(MAX_STRAY * scale)
    rows = np.round(curve).astype(int) + np.arange(-reach, reach + 1)[:, None]
    seen = gray[rows.clip(0, len(gray) - 1), columns].astype(np.float32)
    parts = np.array_split(seen, max(3, round(len(columns) / (PART * scale))), axis=1)
    depth = sign * np.stack([_darkness(part) for part in parts], axis=1)
    near = cv2.blur(depth, (1, 2 * round(scale / 2) + 1))[reach - stray : reach + stray + 1]
    return _Profile(rows, seen, depth, near.argmax(axis=0) - stray, near.max(axis=0))


def _darkness(seen: Strength) -> Strength:
    """How much darker each row (N,) is than those at the edges, as a fraction. seen: gray levels (N, W)."""
    medians = np.median(seen, axis=1)
    fraction = np.linspace(0, 1, len(medians), dtype=np.float32)
    beside = medians[:3].mean() * (1 - fraction) + medians[-3:].mean() * fraction
    return np.asarray(1 - medians / np.maximum(beside, 1), np.float32)


def _end_depth(seen: Strength, sign: int, stray: int) -> float:
    """The depth of a fold at its two ends, where it is less. stray: greatest distance from the middle row."""
    length = max(4, round(END * seen.shape[1]))
    near = slice(len(seen) // 2 - stray, len(seen) // 2 + stray + 1)
    return min(float((sign * _darkness(end))[near].max()) for end in (seen[:, :length], seen[:, -length:]))


def _darkest_ink(gray: Gray, scale: float) -> float:
    """How much darker than the paper the darkest thin strokes are, as a fraction of the paper's brightness."""
    reduced = _reduced(gray, scale)
    paper = cv2.morphologyEx(reduced, cv2.MORPH_CLOSE, np.ones((WINDOW, WINDOW), np.uint8))
    return float(np.quantile(1 - reduced / np.maximum(paper, 1), DARKEST))
