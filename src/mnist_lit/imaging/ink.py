"""Find a picture's ink, in uneven light, shadows and colors and on dark backgrounds, and its ruled lines. NumPy and
SciPy only; knows nothing about digits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_lit.imaging.stroke_width import Mask, local_extremum, stroke_width

Gray = NDArray[np.float32]

WINDOW = 0.5  # share of the longer side: what is wider is background
STROKES = 8  # the same in stroke widths, once they are known; what is longer and straight may be a ruled line
RIM = 0.12  # share of the shorter side: a rim that is mostly background, even around a frame or a very large digit
MIN_SIGMAS, MIN_CONTRAST = 5.0, 12.0  # least contrast of ink, in standard deviations of the noise and in gray levels
MIN_LOCAL, FADED = 0.5, 0.35  # local threshold: least share of the global one; share of the strongest ink nearby
LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue (ITU-R BT.601)


class Ink(NamedTuple):
    """Where the ink is."""

    mask: Mask  # (H, W)
    strength: Gray  # (H, W): 0 = background, 1 = edge of a stroke, higher = ink
    stroke: float  # mean stroke width in pixels


class Component(NamedTuple):
    """Ink that belongs together, such as a digit or a ruled line, and its box; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int
    mask: Mask  # (bottom - top, right - left)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def size(self) -> int:
        return max(self.height, self.width)

    @property
    def axis(self) -> int:
        return int(self.width > self.height)  # the longer one: 0 = vertical, 1 = horizontal

    @property
    def where(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def span(self, axis: int) -> tuple[int, int]:
        return (self.left, self.right) if axis else (self.top, self.bottom)

    def contains(self, one: "Component") -> bool:
        return self.top <= one.top and self.left <= one.left and one.bottom <= self.bottom and one.right <= self.right

    def clear_of_border(self, shape: tuple[int, ...]) -> bool:
        return self.top > 0 and self.left > 0 and self.bottom < shape[0] and self.right < shape[1]


# No fixed threshold works for photos: a shadow is often darker than ink in the light. So ink is found in four steps.
# 1. Polarity: edges lie between ink and background. If most are brighter than a median-filtered picture, invert it.
# 2. Background: a gray closing (Serra 1982) with a window wider than any stroke fills all strokes and leaves the
#    paper with its shadows. Dividing by it cancels the light, since brightness is light times reflectance.
# 3. Threshold: halfway up the edges, where the eye puts a stroke's edge. It is the mean of the gray levels at edges,
#    weighted by the squared edge height above the noise, so that flat areas have no say (simple image statistic,
#    Kittler et al. 1985). Unlike Otsu's method it does not depend on how much ink there is.
# 4. Hysteresis (Canny 1986): grow that mask into fainter ink by a threshold relative to the strongest ink nearby, so
#    that a stroke fading out is followed to its end.
# A second pass fits the window and the smoothing to the stroke width that the first pass measured.
def find_ink(pixels: NDArray[np.uint8]) -> Ink | None:
    """Ink of a picture, uint8 (H, W) or (H, W, 3); None if it is blank.

    >>> page = np.full((40, 40), 200, np.uint8)
    >>> page[10:30, 18:22] = 90
    >>> round(find_ink(page).stroke)
    4
    """
    gray = pixels.astype(np.float32)
    if gray.ndim == 3:  # (H, W, 3) → (H, W) along the colors' first principal component, 0 = dark to 255 = light:
        # red ink on green paper can be as bright as the paper, but it differs along that axis.
        _, axes = np.linalg.eigh(np.cov(gray.reshape(-1, 3), rowvar=False))
        weights = axes[:, -1] / np.abs(axes[:, -1]).sum()
        weights *= -1 if weights @ LUMA < 0 else 1
        gray = (gray @ weights - 255 * np.minimum(weights, 0).sum()).astype(np.float32)
    side = max(gray.shape)
    if np.ptp(gray) < MIN_CONTRAST:
        return None
    gray = 255 - gray if _is_light_on_dark(gray) else gray
    ink = _extract(gray, side / 300, WINDOW * side)
    if ink and STROKES * ink.stroke < WINDOW / 2 * side:
        ink = _extract(gray, ink.stroke / 6, STROKES * ink.stroke) or ink
    return ink


def ruled_lines(mask: Mask, stroke: float, share: float) -> list[Component]:
    """Straight lines longer than that share of the picture's side, within 7° of horizontal or vertical, without the ink
    that crosses them: pixels count only where the ink is no thicker than the line."""
    lines = []
    reach = round(STROKES * stroke)
    for turned in (mask, mask.T):  # the lines are horizontal in it
        # Like run-length smoothing (Wong et al. 1982): join long runs of ink over gaps, then label what is connected.
        long = _run_lengths(turned) >= reach
        inner = np.logical_or.accumulate(long, axis=1) & np.logical_or.accumulate(long[:, ::-1], axis=1)[:, ::-1]
        labels, _ = ndimage.label(long | (inner & (_run_lengths(~long) <= reach)), np.ones((3, 3)))
        thickness = _run_lengths(turned.T).T
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            height, width = rows.stop - rows.start, columns.stop - columns.start
            if width < share * turned.shape[1] or height > width / STROKES:
                continue
            usual = float(np.median(((labels[rows, columns] == number) & turned[rows, columns]).sum(axis=0)))
            fringe = round(usual / 2) + 1  # rows above and below with the line's ragged edge
            top, bottom = max(0, rows.start - fringe), min(len(turned), rows.stop + fringe)
            line = ndimage.binary_dilation(labels[top:bottom, columns] == number, np.ones((2 * fringe + 1, 1)))
            line &= turned[top:bottom, columns] & (thickness[top:bottom, columns] <= 2 * (usual + 1))
            found = Component(top, columns.start, bottom, columns.stop, line)
            lines.append(found if turned is mask else Component(columns.start, top, columns.stop, bottom, line.T))
    return lines


def _edges(gray: Gray) -> tuple[Gray, Gray, float]:
    """Middle gray level of each 3×3 neighborhood, its weight (squared range above the noise), and the noise."""
    noise = 1.48 * float(np.median(np.abs(gray - ndimage.uniform_filter(gray, 3, mode="nearest"))))
    low, high = local_extremum(np.minimum, gray), local_extremum(np.maximum, gray)
    return (low + high) / 2, np.maximum(high - low - MIN_SIGMAS * noise, 0) ** 2, noise


def _is_light_on_dark(gray: Gray) -> bool:
    middle, weight, _ = _edges(gray)
    step = max(1, max(gray.shape) // 32)  # a background of 32 pixels is fine enough, and its median filter fast
    top, left = (min(step, side) // 2 for side in gray.shape)
    coarse = ndimage.uniform_filter(gray, step, mode="nearest")[top::step, left::step]
    width = max(1, round(RIM * min(coarse.shape)))
    rim = np.ones(coarse.shape, bool)
    rim[width:-width, width:-width] = False
    size = round(WINDOW * max(coarse.shape)) | 1
    background = ndimage.median_filter(coarse, size, mode="constant", cval=float(np.median(coarse[rim])))
    rows, columns = (np.minimum(np.arange(s) // step, c - 1) for s, c in zip(gray.shape, coarse.shape, strict=True))
    return bool((weight * (background[np.ix_(rows, columns)] - middle)).sum() < 0)


def _extract(gray: Gray, sigma: float, window: float) -> Ink | None:
    """Steps 2 to 4: ink darker than its background, which is wider than the window, after smoothing by sigma pixels."""
    if sigma >= 0.4:  # less would only blur strokes of a single pixel
        gray = ndimage.gaussian_filter(gray, sigma, mode="nearest")
    background = ndimage.grey_closing(gray, max(3, round(window)), mode="nearest")
    strength = (background - gray) * (255 / np.maximum(background, 64))  # 64: noise in deep shadow is not amplified
    strength -= np.median(strength)
    middle, weight, noise = _edges(strength)
    threshold = float((weight * middle).sum() / max(float(weight.sum()), 1.0))
    mask = strength > threshold
    if threshold < MIN_CONTRAST / 2 or not mask.any():
        return None
    peak = ndimage.maximum_filter(strength, round(2 * stroke_width(mask)) | 1)
    strength /= np.clip(FADED * peak, max(MIN_LOCAL * threshold, MIN_SIGMAS * noise), threshold)
    mask = ndimage.binary_propagation(mask, mask=strength >= 1)
    return Ink(mask, strength, stroke_width(mask))


def _run_lengths(mask: Mask) -> NDArray[np.int64]:
    """For each pixel of the mask the length of its unbroken run in the row; 0 elsewhere."""
    pixels = np.pad(mask, ((0, 0), (1, 1))).ravel()  # the padding ends every run with its row
    lengths = np.diff(np.flatnonzero(np.diff(pixels)) + 1, prepend=0, append=len(pixels))
    return np.repeat(lengths, lengths).reshape(len(mask), -1)[:, 1:-1] * mask
