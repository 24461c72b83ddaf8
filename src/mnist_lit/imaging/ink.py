"""Find a picture's ink: in uneven light and shadows, and beside tables and page edges. NumPy and OpenCV only; knows
nothing about digits."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.border import MAX_ALONG, MAX_CONTACT, border_contact, border_coverage
from mnist_lit.imaging.components import clear_of_border, label_components
from mnist_lit.imaging.gray import (
    DIGIT,
    MIN_SIGMAS,
    QUARTILES,
    Gray,
    SearchScale,
    Strength,
    downscaled,
    edges,
    quantile,
    relative_contrast,
    sampled,
)
from mnist_lit.imaging.stroke_width import Mask, ink_distances, stroke_width, width_of

COARSE_BLUR = 1 / 150  # standard deviation of the coarse pass's blur, in windows
BLUR = 1 / 6  # the same, in stroke widths, once these are known
MAX_PASSES = 4  # of the refinement
TABLE_BRIGHTNESS = 0.33  # as a fraction of the paper's: a darker background is not paper
WINDOW_STROKES = 8  # window in stroke widths, once these are known; longer straight ink may be a ruled line
MIN_SIGMA = 0.4  # least blur, in pixels: less would only blur strokes of a single pixel
GRAIN_REACH = 2.0  # of the mean that shows the paper without its grain: to each side, as a multiple of the blur
MIN_CLARITY = 9.0  # least threshold, in standard deviations of the grain, at which ink is clear of it
MIN_GRAIN = 1.0  # gray levels: less does not matter
MIN_CLARITY_GAIN = 1.5  # least factor by which more blur must raise that; for textures as coarse as strokes it does not
MIN_CONTRAST = 12.0  # least contrast of ink, in gray levels
MAX_LENGTH = 3.5  # longest stroke, in windows
MIN_SEEDED = 0.25  # least fraction of a stroke's ink that is above the threshold
MIN_LOCAL = 0.5  # least local threshold, as a fraction of the global one
FADED_LEVEL = 0.35  # local threshold, as a fraction of the strongest ink nearby
PALEST = 1 / 3  # strength, instead of 1, down to which faint strokes are followed
PALE_CONTRAST = 0.6  # contrast of a paler ink, as a fraction of the threshold
MAX_SIZE_RATIO = 2.0  # factor by which the size and the pen of writing in a paler ink may differ
MIN_PALER_PEN = 0.3  # width of the pen of a paler ink, as a fraction of the other pen's
MAX_BROAD = 2.0  # greatest width of strokes that count, as a multiple of the third quartile
MAX_UNEVEN = 0.8  # brightness of the darkest paper, as a fraction of the brightest, below which there may be shadows
MIN_SHADOWED = 160  # shorter side in pixels of a picture in which the corners of shadows are looked for
RING_WIDTH = 2  # pixels: what surrounds a component is at most this far away
MAX_DARK_AROUND = 0.2  # greatest fraction of what surrounds ink that is as dark as the ink
MAX_BORDER_STROKE = 3.0  # stroke widths: thicker ink at the border is not writing


class Ink(NamedTuple):
    """The ink of a picture."""

    mask: Mask  # (H, W)
    strength: Strength  # (H, W): 0 = background, 1 = edge of a stroke, higher = ink
    noise: float  # the contrast that noise may have, in gray levels
    threshold: Strength  # (H, W): the contrast whose strength is 1, in gray levels
    stroke: float  # mean stroke width in pixels
    paper: Gray  # (H, W): the background
    scale: int = 1  # pixels of the picture per pixel of the mask, across and down


# No fixed threshold works for photos: a shadow is often darker than ink in the light. So ink is found in four steps.
# 1. Polarity (in gray.py): edges lie between ink and background. If most are brighter than a median-filtered picture,
#    invert it.
# 2. Background: a gray closing (Serra 1982) with a window wider than any stroke fills all strokes and leaves the
#    paper with its shadows. Dividing by it cancels the light, since brightness is light times reflectance.
# 3. Threshold: halfway up the edges, where the eye puts a stroke's edge. It is the mean of the gray levels at edges,
#    weighted by the squared edge height above the noise, so that flat areas have no say (simple image statistic,
#    Kittler et al. 1985). Unlike Otsu's method it does not depend on how much ink there is.
# 4. Hysteresis (Canny 1986): grow that mask into fainter ink by a threshold relative to the strongest ink nearby, so
#    that a stroke fading out is followed to its end, unless it is a faint line across the page. What looks like the
#    writing but is paler, such as pencil beside ink, counts as well.
# Then what surrounds the writing, such as a table or a shadow at the border, is replaced by paper, and the steps are
# repeated with the window and the smoothing that fit the stroke width measured so far.
def find_ink(gray: Gray, search: SearchScale = DIGIT) -> Ink | None:
    """Dark ink of a picture, uint8 (H, W); None if it is blank.

    >>> page = np.full((40, 40), 200, np.uint8)
    >>> page[10:30, 18:22] = 90
    >>> round(find_ink(page).stroke)
    4
    """
    found = coarse_ink(gray, search)
    return refine_ink(gray, found, search) if found else None


def coarse_ink(gray: Gray, search: SearchScale) -> Ink | None:
    """The coarse first pass: all dark ink of the reduced picture, written or not."""
    scale = -(-max(gray.shape) // search.coarse_side)
    gray = downscaled(gray, scale)
    size = search.window * max(gray.shape)
    found = _extract(gray, COARSE_BLUR * size, size, search)
    return found._replace(scale=scale) if found else None


def edge_sharpness(gray: Gray, search: SearchScale = DIGIT) -> float:
    """The steepest rise from paper to ink within three pixels of the coarse picture, as a fraction of the whole rise:
    from 0 for a smooth shadow to 1 for a sharp stroke; 1 also for noise without edges, as in a dithered scan."""
    gray = downscaled(gray, -(-max(gray.shape) // search.coarse_side))
    middle, weight, noise = edges(_contrast(gray, search.window * max(gray.shape))[0])
    rise = 2 * float((weight * middle).sum())
    return float((weight * np.sqrt(weight)).sum()) / rise if rise else float(noise > 0)


def refine_ink(gray: Gray, ink: Ink, search: SearchScale) -> Ink:
    """The ink of `coarse_ink` without what surrounds the writing, at the resolution that its strokes require."""
    size = search.window * max(ink.mask.shape)
    sigma = COARSE_BLUR * size
    original, gray = gray, downscaled(gray, ink.scale)
    removed: list[tuple[Mask, Gray]] = []  # the surroundings of each pass, and the paper that replaces them
    for _ in range(MAX_PASSES):
        outside, stroke = _surroundings(ink, search)
        finer = min(size, max(WINDOW_STROKES * stroke, 3))
        if not outside.any() and finer > size / 2 and BLUR * stroke > sigma / 2:
            break
        scale = min(ink.scale, max(1, int(stroke * ink.scale / search.min_stroke)))
        if scale < ink.scale:
            gray = downscaled(original, scale)
            for surroundings in removed:
                gray = _clear(gray, *surroundings)
            stroke, finer = stroke * ink.scale / scale, finer * ink.scale / scale
        # The threshold follows the strongest edges, so fainter writing appears once the surroundings are replaced by
        # paper. If none does, the surroundings were the writing.
        cleared = _clear(gray, outside, ink.paper) if outside.any() else gray
        again = _extract(cleared, BLUR * stroke, finer, search)
        if not again or (outside.any() and not _has_writing(again.mask, search.min_size)):
            break
        if outside.any():
            removed.append((outside, ink.paper))
        sigma, size = BLUR * stroke, finer
        gray, ink = cleared, again._replace(scale=scale)
    return ink


def _clear(gray: Gray, outside: Mask, paper: Gray) -> Gray:
    """A picture (H, W) with `paper` where `outside` is true. Both may have a lower resolution."""
    size = gray.shape[::-1]
    where = cv2.resize(outside.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.where(where, cv2.resize(paper, size, interpolation=cv2.INTER_LINEAR), gray)


# Where a pen hardly touches the paper, a stroke may have a tenth of its usual contrast. Shadows' edges, what shows
# through the paper and JPEG's artifacts are as pale, so the network chooses between this ink and the usual one.
def follow_faint_strokes(ink: Ink) -> Ink | None:
    """Extend the ink along much paler strokes that continue it; None if there are none beyond its edges."""
    reach = 2 * round(ink.stroke / 4) + 3
    beyond = cv2.dilate(ink.mask.view(np.uint8), np.ones((reach, reach), np.uint8)) == 0
    if not (beyond & (ink.strength >= PALEST)).any():
        return None
    strength = np.asarray(ink.strength / (np.float32(ink.noise) / ink.threshold).clip(PALEST, 1), np.float32)
    labels, stats = label_components(strength >= 1)
    inked = np.bincount(labels[ink.mask], minlength=len(stats)) > 0
    return ink._replace(mask=inked[labels], strength=strength)


def _surroundings(ink: Ink, search: SearchScale) -> tuple[Mask, float]:
    """Ink at the picture's border that is not written but a table, a shadow or a page's edge, (H, W), and the mean
    width of the other strokes."""
    mask = ink.mask
    if not border_coverage(mask):
        return np.zeros(mask.shape, bool), ink.stroke
    labels, stats = label_components(mask)
    distances = ink_distances(mask)
    sizes = np.maximum(stats[:, 2], stats[:, 3])
    contact, along = border_contact(labels, stats)
    written = (sizes >= search.min_size * max(mask.shape)) & (contact == 0)
    written[0] = False
    inked = np.flatnonzero(mask)
    sums = np.bincount(labels.take(inked), distances.take(inked), len(stats))
    widths = sums / np.maximum(stats[:, 4], 1)
    if written.any():
        # Wider ones are blots, or the shadow of a finger.
        written &= widths <= MAX_BROAD * np.quantile(widths[written], 0.75)
    stroke = width_of(float(sums[written].sum() / stats[written, 4].sum())) if written.any() else 0.0
    outside = (contact > MAX_CONTACT) | (along > MAX_ALONG)
    for label in np.flatnonzero((contact > 0) & ~outside & (stroke > 0)).tolist():
        left, top, width, height, _ = stats[label]
        part = slice(top, top + height), slice(left, left + width)
        outside[label] = 2 * distances[part][labels[part] == label].max() > MAX_BORDER_STROKE * stroke
    reach = 2 * round(stroke / 2) + 3  # a blurred edge belongs to it
    grown = cv2.dilate(outside[labels].view(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return grown, stroke or ink.stroke


def _has_writing(mask: Mask, smallest: float) -> bool:
    """Whether there is ink of at least that size that does not touch the border."""
    _, stats = label_components(mask)
    sizes = stats[1:, 2:4].max(axis=1)
    return bool((sizes[clear_of_border(stats[1:], mask.shape)] >= smallest * max(mask.shape)).any())


def _contrast(gray: Gray, window: float) -> tuple[Strength, Gray]:
    """How much darker than the background each pixel is; and the background, which is wider than the window."""
    kernel = np.ones((min(max(3, round(window)), 2 * max(gray.shape)) | 1,) * 2, np.uint8)
    paper = np.asarray(cv2.morphologyEx(gray, cv2.MORPH_CLOSE, kernel), np.uint8)
    return relative_contrast(gray, paper), paper


class _Levels(NamedTuple):
    """The levels of ink and paper in a blurred picture (H, W)."""

    gray: Gray
    strength: Strength  # how much darker than the background each pixel is
    paper: Gray  # the background
    threshold: float  # the strength of ink
    noise: float  # standard deviation of the paper's strength


def _levels(gray: Gray, sigma: float, window: float, *, strong: bool) -> _Levels:
    """Step 2, and the threshold of step 3. The parameters are those of `_extract`."""
    if sigma >= MIN_SIGMA:
        gray = np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
    strength, paper = _contrast(gray, window)
    middle, weight, noise = edges(strength)
    weight = weight * weight if strong else weight
    middle *= weight
    threshold = float(middle.sum() / max(float(weight.sum()), 1.0))
    some = sampled(strength)
    below = some[some <= threshold]
    lift = quantile(below, 0.5) if below.size else 0.0  # by which noise raises the closing above the paper
    strength -= lift
    threshold -= lift
    return _Levels(gray, strength, paper, threshold, noise)


# In a photo taken in the dark, neighboring pixels share their noise. This grain may be as strong as ink, but it is
# finer than strokes, so the picture is blurred until ink is clear of it.
def _grainless_levels(gray: Gray, sigma: float, window: float, search: SearchScale, *, strong: bool) -> _Levels:
    """The levels after a blur by sigma pixels, or by more if the grain requires it; then strong edges alone set the
    threshold, and the grain is the noise."""
    levels = _levels(gray, sigma, window, strong=strong)
    blurs = [blur for factor in search.grain_blurs if (blur := factor * sigma) >= MIN_SIGMA]
    is_blank = levels.threshold < MIN_CONTRAST / 2
    if is_blank or not blurs or _clarity(levels, sigma) >= MIN_CLARITY:
        return levels
    clarity = max(0.0, MIN_CLARITY_GAIN * _clarity(_levels(gray, sigma, window, strong=True), sigma))
    for blur in blurs:
        blurred = _levels(gray, blur, window, strong=True)
        if (again := _clarity(blurred, blur)) > clarity:
            levels, clarity = blurred._replace(noise=blurred.threshold / again), again
            if clarity >= MIN_CLARITY:
                break
    return levels


def _clarity(levels: _Levels, sigma: float) -> float:
    """The threshold of ink, in standard deviations of the grain after a blur by sigma pixels."""
    side = 2 * round(GRAIN_REACH * max(sigma, MIN_SIGMA)) + 1
    smooth = cv2.blur(levels.strength, (side, side), borderType=cv2.BORDER_REPLICATE)
    grain = QUARTILES * quantile(np.abs(sampled(levels.strength) - sampled(np.asarray(smooth))), 0.25)
    return levels.threshold / max(grain, MIN_GRAIN)


def _extract(gray: Gray, sigma: float, window: float, search: SearchScale, *, strong: bool = False) -> Ink | None:
    """Steps 2 to 4: ink darker than its background, which is wider than the window, after a blur by at least sigma
    pixels. strong: only strong edges set the threshold."""
    gray, strength, paper, threshold, noise = _grainless_levels(gray, sigma, window, search, strong=strong)
    usual = quantile(sampled(paper), 0.75) if paper.min() < TABLE_BRIGHTNESS * 255 else 0.0  # else nothing is darker
    table = paper < TABLE_BRIGHTNESS * usual
    mask = (strength > threshold) & ~table
    if threshold < MIN_CONTRAST / 2 or not mask.any():
        return None
    stroke = stroke_width(mask)
    pale = strength > PALE_CONTRAST * threshold
    reach = round(2 * stroke) | 1
    peak = cv2.dilate(strength, np.ones((reach, reach), np.uint8))
    local = np.clip(FADED_LEVEL * peak, max(MIN_LOCAL * threshold, MIN_SIGMAS * noise), threshold)
    strength /= local
    if table.any():  # erase it with its blurred edge, where dark spots have no paper around them
        edge = np.ones((4 * reach + 1, 4 * reach + 1), np.uint8)
        strength[cv2.dilate(table.view(np.uint8), edge) > 0] = 0
        mask &= strength > 0
    inked = strength >= 1
    labels, stats = label_components(inked)
    seeds = np.bincount(labels[mask], minlength=len(stats))
    seeds[0] = 0
    if paler := _paler_writing(labels, stats, seeds, pale, stroke):
        seeds[paler] = stats[paler, 4]
        mask |= np.isin(np.arange(len(stats)), paler)[labels]
    # Ink across the whole page is the paper's ruling, whose many edges have lowered the threshold, so extract again by
    # strong edges. Ink across the page that is then still below the threshold is not a stroke fading out.
    longest = MAX_LENGTH * search.window * max(gray.shape)
    across = ((stats[:, 2:4] > longest) | (stats[:, 2:4] == mask.shape[::-1])).any(axis=1)
    across &= seeds > 0
    if not strong and across.any():
        return _extract(gray, 0, window, search, strong=True)
    across &= seeds < MIN_SEEDED * stats[:, 4]
    strokes = inked if seeds[1:].all() else (seeds > 0).take(labels)
    if across.any():
        ruling = across.take(labels) & ~mask
        strokes &= ~ruling
        strength[ruling] = 0
    ink = Ink(strokes, strength, MIN_SIGMAS * noise, local, stroke, paper)
    if search is not DIGIT and min(gray.shape) >= MIN_SHADOWED and paper.min() < MAX_UNEVEN * paper.max():
        return _without_shadows(gray, ink)
    return ink


# The closing's window is a square, so the corner of a tilted shadow looks like ink: it is darker than the lit paper
# around it. On the inner side, though, the shadow goes on, while ink is darker than what is around it on all sides.
def _without_shadows(gray: Gray, ink: Ink) -> Ink:
    """The ink without the corners of shadows: if much of what surrounds a component is as dark as the component, only
    what is darker than these surroundings counts."""
    labels, stats = label_components(ink.mask)
    ring = np.ones((2 * RING_WIDTH + 1, 2 * RING_WIDTH + 1), np.uint8)
    grown = cv2.dilate(labels.astype(np.float32), ring).astype(np.int32)
    around = (grown > 0) & ~ink.mask
    nearest, levels = grown[around], gray[around]
    means = np.bincount(labels[ink.mask], gray[ink.mask], len(stats)) / np.maximum(stats[:, 4], 1)
    dark = levels <= means[nearest]
    areas = np.bincount(nearest[dark], minlength=len(stats))
    shaded = areas > MAX_DARK_AROUND * np.bincount(nearest, minlength=len(stats))
    shaded &= clear_of_border(stats, labels.shape)
    if not shaded.any():
        return ink
    shadows = np.bincount(nearest[dark], levels[dark], len(stats)) / np.maximum(areas, 1)
    part = shaded[labels]
    paper = np.where(part, np.minimum(shadows[labels], ink.paper), ink.paper).astype(np.uint8)
    deeper = np.where(gray < paper, relative_contrast(gray, paper) / ink.threshold, 0)
    strength = np.where(part, deeper, ink.strength).astype(np.float32)
    return ink._replace(mask=ink.mask & (strength >= 1), strength=strength, paper=paper)


def _paler_writing(
    labels: NDArray[np.int32], stats: NDArray[np.int64], seeds: NDArray[np.int64], pale: Mask, stroke: float
) -> list[int]:
    """The components without `seeds` that resemble those with some: about as large, drawn with about as wide a pen, and
    in good part at least `pale`."""
    left, top, width, height, area = stats.T
    written = seeds > 0
    other = clear_of_border(stats, labels.shape) & ~written
    other[0] = False
    if not other.any() or not written.any():
        return []
    size = np.maximum(width, height)
    usual = np.quantile(size[written], 0.5, weights=area[written], method="inverted_cdf")
    other &= (MAX_SIZE_RATIO * height >= usual) & (size <= MAX_SIZE_RATIO * usual)
    if not other.any():
        return []
    other &= np.bincount(labels[pale], minlength=len(stats)) >= MIN_SEEDED * area
    found = []
    for label in np.flatnonzero(other).tolist():
        part = slice(top[label], top[label] + height[label]), slice(left[label], left[label] + width[label])
        if MIN_PALER_PEN <= stroke_width(labels[part] == label) / stroke <= MAX_SIZE_RATIO:
            found.append(label)
    return found
