"""Convert a picture to grayscale with dark ink on evenly lit paper, and measure its edges. NumPy and OpenCV only."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Strength = NDArray[np.float32]

RIM_WIDTH = 0.1  # fraction of each side where a frame or a table may lie
LIGHT_POINTS = 24  # points along the longer side to which the light is fitted
OUTER_PART = 12  # a twelfth of each side is left out at the border
MAX_LEFT_OUT = 0.05  # greatest fraction of a side that a quick look at the light leaves out
MAX_FITS = 8  # of the light that are tried
MAX_DARKER = 0.1  # paper is at most this fraction darker than the fit
MIN_UNEVEN = 0.2  # light that varies by a smaller fraction is kept
MIN_EXPLAINED = 0.75  # fraction of the paper that the fit must explain: it cannot follow the edge of a shadow
HEADROOM = 1.1  # factor by which evened paper stays below white, so that its noise is not clipped
MIN_LIGHT = 0.2  # fraction of the brightest light below which darkness is not evened out further
QUARTILES = 3.14  # of normal noise: standard deviation / lower quartile of absolute values = 1 / 0.3186, not π
MIN_SIGMAS = 5.0  # least contrast of ink, in standard deviations of the noise
LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue (ITU-R BT.601)
COLORS_SIDE = 64  # longer side in pixels of the picture that shows the colors
MIN_SECOND_COLOR = 0.05  # least variance of a second color, as a fraction of the first one's
MAX_PAPER_RANGE = 4.0  # gray levels by which a drawing's paper may vary
MIN_COLORED = 32.0  # gray levels by which colored areas differ from the paper
MIN_COLORED_WIDTH = 9  # of an area that is not a stroke, in pixels of a picture of side 2 · COLORS_SIDE
POLARITY_SIDE = 160  # least longer side in pixels of the picture that shows whether ink is dark or light
BACKGROUND_REACH = 8  # of the median filter that finds the background there, in pixels to each side
NOISE_SAMPLE = 4096  # pixels that are enough to measure the noise
# Factor on contrast by the paper's gray level; constant below 64, so that noise in deep shadow is not amplified.
AMPLIFICATION = np.float32(255) / np.arange(256, dtype=np.float32).clip(64)


class SearchScale(NamedTuple):
    """The sizes that writing may have, as fractions of the picture's longer side."""

    window: float  # what is wider is background
    min_size: float  # the least size of any writing
    coarse_side: int  # the longer side in pixels for the coarse first pass
    min_stroke: int  # the least stroke width in pixels after a picture is reduced
    grain_blurs: tuple[float, ...]  # factors on the blur that are tried in turn against grain


DIGIT = SearchScale(0.5, 0.25, 160, 3, ())  # reduced so much that hardly any grain is left
PAGE = SearchScale(0.15, 0.02, 800, 4, (1.4, 2.0, 2.8, 4.0))


def dark_on_light(pixels: NDArray[np.uint8], search: SearchScale = DIGIT) -> tuple[Gray, float]:
    """A picture, uint8 (H, W) or (H, W, 3), as gray (H, W) with dark ink on evenly lit paper; and how certain it is,
    from 0 to 1, that ink and paper are not swapped."""
    gray = to_gray(pixels, search)
    lightness = max((ink_lightness(gray, each) for each in dict.fromkeys((DIGIT, search))), key=abs)
    return 255 - gray if lightness > 0 else even_light(gray), abs(lightness)


def to_gray(pixels: NDArray[np.uint8], search: SearchScale = DIGIT) -> Gray:
    """uint8 (H, W) or (H, W, 3) → (H, W) along the colors' first principal component, 0 = dark to 255 = light: red ink
    on green paper can be as bright as the paper, but it differs along that axis. For strokes of several colors on paper
    of one color, the largest difference from the paper counts instead."""
    if pixels.ndim == 2:
        return pixels
    weights, colorful = _first_component(_shrunk(pixels, COLORS_SIDE).astype(np.float32))
    if colorful or weights.min() < 0:
        small = _shrunk(pixels, 2 * COLORS_SIDE)
        paper = np.median(small, axis=(0, 1)).astype(np.float32)
        difference = np.abs(small - paper).max(axis=2)
        has_areas = (
            cv2.erode(difference, np.ones((MIN_COLORED_WIDTH, MIN_COLORED_WIDTH), np.uint8), borderValue=0)
            > MIN_COLORED
        ).any()
        if colorful and np.median(difference) <= MAX_PAPER_RANGE and not has_areas:
            contrast = np.asarray(np.abs(pixels - paper).max(axis=2), np.uint8)
            return np.asarray(255 - contrast, np.uint8)
        # The color of a table, a hand or a highlighter does not count: only strokes change in a closing or an opening.
        window = np.ones((round(search.window * COLORS_SIDE) | 1,) * 2, np.uint8)
        light, dark = (cv2.morphologyEx(small, how, window) for how in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN))
        weights, _ = _first_component(2 * small.astype(np.float32) - light - dark)
    shift = -255 * float(np.minimum(weights, 0).sum())
    return np.asarray(cv2.transform(pixels, np.append(weights, shift).astype(np.float32)[None]))


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of at most that height and width. Averages, so no stroke is left out."""
    height, width = (min(length, side) for length in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _first_component(colors: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """The first principal component (3,) of colors (H, W, 3), its sign such that it grows with brightness and its
    absolute values summing to 1; and whether the colors differ much along the second one, too."""
    covariance = np.cov(colors.reshape(-1, 3), rowvar=False, bias=True)
    variances, axes = np.linalg.eigh(covariance + 1e-3 * np.outer(LUMA, LUMA))  # decides if there is only one color
    weights = axes[:, -1] / np.abs(axes[:, -1]).sum()
    colorful = variances[1] > MIN_SECOND_COLOR * variances[2]
    return np.asarray(weights * (-1 if weights @ LUMA < 0 else 1), np.float32), colorful


def ink_lightness(gray: Gray, search: SearchScale = DIGIT) -> float:
    """From -1, if all edges away from the picture's border are darker than the background around them, to 1, if all are
    brighter."""
    # Fine enough for a background, and coarse enough for a fast median filter.
    side = round(2 * BACKGROUND_REACH / search.window)
    gray = downscaled(gray, -(-max(gray.shape) // max(POLARITY_SIDE, 3 * side)))
    middle, weight, _ = edges(gray.astype(np.float32))
    coarse = downscaled(gray, max(1, max(gray.shape) // side))
    reach = min(round(search.window * max(coarse.shape) / 2), min(coarse.shape) - 1)
    padded = cv2.copyMakeBorder(coarse, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    background = cv2.medianBlur(padded, 2 * reach + 1)[reach:-reach, reach:-reach] if reach else coarse
    background = cv2.resize(background, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    votes = weight * (background - middle)
    rows, columns = (round(RIM_WIDTH * side) for side in gray.shape)
    inside = votes[rows : len(votes) - rows, columns : votes.shape[1] - columns]
    votes = inside if inside.any() else votes
    return -float(votes.sum() / max(np.abs(votes).sum(), 1e-9))


# A window's light, and a lens that darkens the corners, change the paper's brightness smoothly, like a polynomial in x
# and y. It is fitted to a closing, which has no thin strokes but is too bright along a dark border, so the fit leaves
# the border out. Other ink, shadows and tables are darker than the fit, so they are left out, and the fit is repeated.
def even_light(gray: Gray) -> Gray:
    """Divide a picture (H, W) by the light on its paper if the light is uneven."""
    scale = -(-max(gray.shape) // (4 * LIGHT_POINTS))
    # Most light is even. OpenCV sees that up to six times as fast without the rows and columns beyond a multiple of the
    # scale, if these are few.
    rest = [side % scale for side in gray.shape]
    if any(rest) and all(cut <= MAX_LEFT_OUT * side for cut, side in zip(rest, gray.shape, strict=True)):
        part = gray[: len(gray) - rest[0], : gray.shape[1] - rest[1]]
        if _is_even(_paper_levels(part, scale)):
            return gray
    points = _paper_levels(gray, scale)
    if _is_even(points):
        return gray
    terms = _polynomial(*points.shape)
    inner = tuple(slice(side // OUTER_PART, side - side // OUTER_PART) for side in points.shape)
    level, inner_terms = points[inner].ravel(), terms[inner].reshape(-1, terms.shape[-1])
    kept = np.ones(len(level), bool)
    for _ in range(MAX_FITS):
        weights = np.linalg.lstsq(inner_terms[kept], level[kept])[0]
        fit = (inner_terms @ weights).clip(1)
        fitted, kept = kept, level > (1 - MAX_DARKER) * fit
        if (kept == fitted).all():  # the next fit would be the same
            break
    if fit.min() > (1 - MIN_UNEVEN) * fit.max() or (np.abs(level / fit - 1) < MAX_DARKER / 2).mean() < MIN_EXPLAINED:
        return gray
    light = (terms @ weights).clip(1)
    light = HEADROOM * np.maximum(light / min(light.max(), 255), MIN_LIGHT).astype(np.float32)
    return np.asarray((gray / cv2.resize(light, gray.shape[::-1])).clip(0, 255), np.uint8)


def _paper_levels(gray: Gray, scale: int) -> NDArray[np.float64]:
    """The paper's gray levels at `LIGHT_POINTS` points along the longer side of a picture reduced by `scale`."""
    small = downscaled(gray, scale)
    reach = max(small.shape) // LIGHT_POINTS * 4 + 1
    paper = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    height, width = (min(side, LIGHT_POINTS) for side in small.shape)
    return np.asarray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_AREA), np.float64)


def _is_even(levels: NDArray[np.float64]) -> bool:
    return bool(levels.min() > (1 - MIN_UNEVEN) * levels.max())


@lru_cache(maxsize=8)
def _polynomial(height: int, width: int) -> NDArray[np.float64]:
    """1, x, y, x², xy and y² at each of height × width points: (height, width, 6)."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=2)
    terms.flags.writeable = False  # the cache returns the same array to every thread
    return terms


def relative_contrast(gray: Gray, paper: Gray) -> Strength:
    """How much each pixel differs from the paper behind it, (H, W), in gray levels as if the paper were white."""
    return np.asarray(cv2.absdiff(paper, gray) * cv2.LUT(paper, AMPLIFICATION), np.float32)


def downscaled(gray: Gray, scale: int) -> Gray:
    """The picture with each side divided by `scale`."""
    height, width = (max(1, round(side / scale)) for side in gray.shape)
    return np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)) if scale > 1 else gray


def edges(gray: Strength) -> tuple[Strength, Strength, float]:
    """Middle gray level of each 3×3 neighborhood, its weight (squared range above the noise), and the noise."""
    blurred = np.asarray(cv2.blur(gray, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)
    # A quarter of the pixels has no edges even where a digit fills the picture.
    noise = QUARTILES * quantile(np.abs(sampled(gray) - sampled(blurred)), 0.25)
    kernel = np.ones((3, 3), np.uint8)
    low, high = np.asarray(cv2.erode(gray, kernel), np.float32), np.asarray(cv2.dilate(gray, kernel), np.float32)
    weight = high - low
    weight -= np.float32(MIN_SIGMAS * noise)
    np.maximum(weight, 0, out=weight)
    weight *= weight
    low += high
    low *= 0.5
    return low, weight, noise


def sampled(values: NDArray[Any]) -> NDArray[Any]:
    """Every n-th of the values (…, W), about `NOISE_SAMPLE` in all, from every column: (N,)."""
    step = -(-values.size // NOISE_SAMPLE)
    while math.gcd(step, values.shape[-1]) > 1:  # otherwise only some columns would be sampled
        step += 1
    return values.ravel()[::step]


def quantile(values: NDArray[Any], fraction: float) -> float:
    """A quantile without interpolation, which would take longer than everything else here. Sorts, because
    `np.partition` takes ten times as long if most values are equal."""
    return float(np.sort(values)[int(fraction * (values.size - 1))])
