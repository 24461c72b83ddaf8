"""From a picture to its ink: how much darker, or lighter, than the paper around it each pixel is. NumPy and SciPy only.

Light, shadow, the ink's colour and which of the two is darker end here; ruled lines too. Knows nothing of digits.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Ink", "RuledLine", "find_ink", "mean_width", "neighbours", "ruled_lines", "stroke_width"]

Mask = NDArray[np.bool_]
Grey = NDArray[np.float32]

WINDOW = 0.5  # of the longer side: what is wider than this is paper, not a stroke
RIM = 0.12  # of the shorter side: most of it is paper, be there a frame or a digit that fills the picture
STROKES = 8  # stroke widths: the same, once the stroke is known; and what is longer and straight may be a ruled line
NOISE = 5.0  # standard deviations of the paper that ink stands out by
CONTRAST = 12.0  # grey levels that ink stands out by
FAINT = 0.5  # of the threshold: what is fainter is no ink
FADED = 0.35  # of the darkest ink nearby: where a stroke ends
LUMA = (0.299, 0.587, 0.114)  # how light red, green and blue look (ITU-R BT.601)


class Ink(NamedTuple):
    """Where the ink is."""

    mask: Mask  # (H, W)
    level: Grey  # (H, W), 0 = paper, 1 = the edge of the ink, more is ink
    stroke: float  # its width in pixels


class RuledLine(NamedTuple):
    """A ruled line."""

    axis: int  # 1 = level, 0 = upright
    where: tuple[slice, ...]  # its rows and columns
    mask: Mask  # its pixels there


def find_ink(pixels: NDArray[np.uint8]) -> Ink | None:
    """The ink of a picture, uint8 (H, W) or (H, W, 3); None where nothing is written.

    >>> paper = np.full((40, 40), 200, np.uint8)
    >>> paper[10:30, 18:22] = 90
    >>> round(find_ink(paper).stroke)
    4
    """
    grey = _grey(pixels.astype(np.float32))
    if np.ptp(grey) < CONTRAST:
        return None
    if _light_on_dark(grey):
        grey = 255 - grey
    ink = _above_paper(_smooth(grey, max(grey.shape) / 300), WINDOW * max(grey.shape))
    if ink is not None and STROKES * ink.stroke < WINDOW / 2 * max(grey.shape):
        return _above_paper(_smooth(grey, ink.stroke / 6), STROKES * ink.stroke) or ink
    return ink


def stroke_width(mask: Mask) -> float:
    """The mean width of the strokes in pixels."""
    padded = np.pad(mask, 1)
    paper = ndimage.distance_transform_edt(padded, return_distances=False, return_indices=True)
    away = [nearest[padded] - index for nearest, index in zip(paper, padded.nonzero(), strict=True)]
    return mean_width(np.hypot(*away))


def mean_width(distances: NDArray[np.float64]) -> float:
    """The strokes' mean width from their pixels' distances to the paper: in a strip, their mean is a quarter of it."""
    return max(1.0, 4 * float(distances.mean()) - 2)


def neighbours(least: np.ufunc, grey: NDArray[Any]) -> NDArray[Any]:
    """The least, or with `np.maximum` the most, of each pixel and its eight neighbours."""
    down = grey.copy()
    least(down[1:], grey[:-1], out=down[1:])
    least(down[:-1], grey[1:], out=down[:-1])
    around = down.copy()
    least(around[:, 1:], down[:, :-1], out=around[:, 1:])
    least(around[:, :-1], down[:, 1:], out=around[:, :-1])
    return around


def ruled_lines(mask: Mask, stroke: float, share: float) -> list[RuledLine]:
    """Straight lines over that share of the picture's side, level or upright within 7°.

    What crosses a line is not part of it: only where the ink is no thicker than the line is it taken.
    """
    found = []
    for axis, turned in ((1, mask), (0, mask.T)):
        reach = round(STROKES * stroke)
        parts = _runs(turned) >= reach
        labels, _ = ndimage.label(_bridged(parts, reach), np.ones((3, 3)))
        down = _runs(turned.T).T
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            height, width = (part.stop - part.start for part in place)
            if width < share * turned.shape[1] or height > width / STROKES:
                continue
            line = (labels[place] == number) & turned[place]
            thick = float(np.median(line.sum(axis=0)))
            frayed = round(thick / 2) + 1  # beside the line
            where = (slice(max(0, place[0].start - frayed), place[0].stop + frayed), place[1])
            line = ndimage.binary_dilation(labels[where] == number, np.ones((2 * frayed + 1, 1)))
            line &= turned[where] & (down[where] <= 2 * (thick + 1))
            found.append(RuledLine(axis, where if axis else where[::-1], line if axis else line.T))
    return found


def _grey(pixels: Grey) -> Grey:
    """Colours along the line on which they differ most, (H, W, 3) → (H, W), from 0 = black to 255 = white."""
    if pixels.ndim == 2:
        return pixels
    colours = pixels.reshape(-1, 3)
    _, axes = np.linalg.eigh(np.cov(colours, rowvar=False))
    weights = axes[:, -1] / np.abs(axes[:, -1]).sum()
    weights *= -1 if weights @ LUMA < 0 else 1
    grey: Grey = (pixels @ weights - 255 * np.minimum(weights, 0).sum()).astype(np.float32)
    return grey


def _smooth(grey: Grey, sigma: float) -> Grey:
    if sigma < 0.4:  # a line of one pixel stays one
        return grey
    return ndimage.gaussian_filter(grey, sigma, mode="nearest")  # type: ignore[no-any-return]


def _edges(grey: Grey) -> tuple[Grey, Grey, float]:
    """At each pixel the middle of an edge there, and its weight: the square of its height beyond the noise's."""
    noise = 1.48 * float(np.median(np.abs(grey - ndimage.uniform_filter(grey, 3, mode="nearest"))))
    low, high = neighbours(np.minimum, grey), neighbours(np.maximum, grey)
    return (low + high) / 2, np.maximum(high - low - NOISE * noise, 0) ** 2, noise


def _light_on_dark(grey: Grey) -> bool:
    """Whether edges are, on the whole, lighter than what surrounds them."""
    middle, weight, _ = _edges(grey)
    step = max(1, max(grey.shape) // 32)
    top, left = (min(step, side) // 2 for side in grey.shape)
    coarse = ndimage.uniform_filter(grey, step, mode="nearest")[top::step, left::step]
    rim = np.ones(coarse.shape, bool)
    width = max(1, round(RIM * min(coarse.shape)))
    rim[width:-width, width:-width] = False
    around = float(np.median(coarse[rim]))  # beyond the picture there is paper
    size = round(WINDOW * max(coarse.shape)) | 1
    paper = ndimage.median_filter(coarse, size, mode="constant", cval=around)
    rows, columns = (np.arange(side) // step for side in grey.shape)
    paper = paper[np.ix_(np.minimum(rows, len(paper) - 1), np.minimum(columns, paper.shape[1] - 1))]
    return bool((weight * (paper - middle)).sum() < 0)


def _above_paper(grey: Grey, window: float) -> Ink | None:
    """Ink darker than its paper, which is what a closing leaves: all that is wider than the window.

    Its edge is halfway up the steepest edges of the picture.
    """
    size = max(3, round(window))
    paper = ndimage.grey_closing(grey, (size, size), mode="nearest")
    level = (paper - grey) * (255 / np.maximum(paper, 64))
    level -= np.median(level)
    middle, weight, noise = _edges(level)
    threshold = float((weight * middle).sum() / max(float(weight.sum()), 1.0))
    if threshold < CONTRAST / 2:
        return None
    mask = level > threshold
    if not mask.any():
        return None
    peak = ndimage.maximum_filter(level, round(2 * stroke_width(mask)) | 1)
    # A faint stroke ends where it is fainter than itself, not where it is fainter than the others.
    level /= np.clip(FADED * peak, max(FAINT * threshold, NOISE * noise), threshold)
    mask = ndimage.binary_propagation(mask, mask=level >= 1)
    return Ink(mask, level, stroke_width(mask))


def _bridged(mask: Mask, reach: int) -> Mask:
    """The mask with the gaps in its rows closed, up to that length."""
    gaps = _runs(~mask)
    inner = np.logical_or.accumulate(mask, axis=1) & np.logical_or.accumulate(mask[:, ::-1], axis=1)[:, ::-1]
    return mask | (inner & (gaps <= reach))


def _runs(mask: Mask) -> NDArray[np.int64]:
    """For each pixel of the mask the length of the unbroken row that it is in; elsewhere 0."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8).ravel())
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    row = np.zeros(len(edges) + 1, np.int64)
    row[starts + 1] = ends - starts
    row[ends + 1] -= ends - starts
    return row.cumsum().reshape(mask.shape[0], -1)[:, 1:-1] * mask
