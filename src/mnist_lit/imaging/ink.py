"""Find a picture's ink and its ruled lines: in uneven light, shadows and colors, on dark backgrounds, and beside tables
and page edges. NumPy and OpenCV only; knows nothing about digits."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.stroke_width import Mask, ink_distances, stroke_width, width_of

Gray = NDArray[np.uint8]
Strength = NDArray[np.float32]

PHOTO = 320  # longer side in pixels of the smallest picture that may show a sheet of paper or its ruling
FINE = 4  # least stroke width in pixels at which a picture may be reduced
TABLE = 0.33  # brightness, as a share of the paper's, below which the background is not paper
STROKES = 8  # window in stroke widths, once they are known; what is longer and straight may be a ruled line
RIM = 0.1  # share of each side where a frame or a table may lie
LIGHT_POINTS = 24  # points along the longer side to which the light is fitted
DARKER, UNEVEN = 0.1, 0.2  # shares: paper is at most this much darker than the fit; light that varies less is kept
SMOOTH = 0.75  # share of the paper that the fit must explain: it cannot follow the edge of a shadow
DARKEST = 0.2  # light below this share of the brightest is evened out no further
MIN_SIGMAS, MIN_CONTRAST = 5.0, 12.0  # least contrast of ink, in standard deviations of the noise and in gray levels
ACROSS, SEEDED = 3.5, 0.25  # longest stroke, in windows; least share of a stroke's ink that is above the threshold
MIN_LOCAL, FADED = 0.5, 0.35  # local threshold: least share of the global one; share of the strongest ink nearby
PALER = 1 / 3  # strength, instead of 1, down to which faint strokes are followed
PALE, SIMILAR = 0.6, 2.0  # contrast of a paler ink, as a share of the threshold; factor by which its writing may differ
LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue (ITU-R BT.601)
COLORFUL = 0.05  # least variance of a second color, as a share of the first one's
FLAT, COLORED = 4.0, 32.0  # gray levels by which a drawing's paper varies, and by which colored areas differ from it
WIDE = 9  # width of the narrowest colored area that is not a stroke, in a picture of side 2 · COLORS_SIDE
POLARITY_SIDE = 160  # least longer side in pixels of the picture that shows whether ink is dark or light
REACH = 8  # of the median filter that finds its background, in pixels to each side
SAMPLE, COLORS_SIDE = 4096, 64  # pixels that are enough for the noise; sides of the picture that shows the colors
CONTACT = 0.3  # share of the border along which ink is a table, a shadow or a page's edge
ALONG = 0.6  # share of its own longer side with which such ink lies along the border
FRAME = 0.9  # share of a row or a column that is ink if it belongs to a frame
BROAD = 2.0  # strokes this many times as wide as the third quartile do not count
THICK = 3.0  # stroke widths: thicker ink at the border is not writing


class Look(NamedTuple):
    """What to look for. Shares of the picture's longer side."""

    window: float  # what is wider is background
    smallest: float  # the least size of any writing
    coarse: int  # the longer side in pixels for a first look


DIGIT, PAGE = Look(0.5, 0.25, 160), Look(0.15, 0.02, 800)


class Ink(NamedTuple):
    """Where the ink is."""

    mask: Mask  # (H, W)
    strength: Strength  # (H, W): 0 = background, 1 = edge of a stroke, higher = ink
    noise: Strength  # (H, W): the strength that noise may have
    stroke: float  # mean stroke width in pixels
    scale: int = 1  # pixels of the picture per pixel of the mask, across and down


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
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))

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

    def encloses(self, one: "Component") -> bool:
        """Whether this component has ink to the left and right of the other's middle, and above and below."""
        if not self.contains(one):
            return False
        row, column = (
            self.mask[(one.top + one.bottom) // 2 - self.top],
            self.mask[:, (one.left + one.right) // 2 - self.left],
        )
        around = row[: one.left - self.left], row[one.right - self.left :]
        return all(map(np.any, (*around, column[: one.top - self.top], column[one.bottom - self.top :])))

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
#    that a stroke fading out is followed to its end, unless it is a faint line across the page. What looks like the
#    writing but is paler, such as pencil beside ink, counts as well.
# Then what surrounds the writing, such as a table or a shadow at the border, is replaced by paper, and the steps are
# repeated with the window and the smoothing that fit the stroke width measured so far.
def find_ink(gray: Gray, look: Look = DIGIT) -> Ink | None:
    """Dark ink of a picture, uint8 (H, W); None if it is blank.

    >>> page = np.full((40, 40), 200, np.uint8)
    >>> page[10:30, 18:22] = 90
    >>> round(find_ink(page).stroke)
    4
    """
    found = first_ink(gray, look)
    return refine_ink(gray, *found, look) if found else None


def first_ink(gray: Gray, look: Look) -> tuple[Ink, Gray] | None:
    """All dark ink of the reduced picture, written or not, and the background."""
    scale = -(-max(gray.shape) // look.coarse)
    gray = _reduce(gray, scale)
    size = look.window * max(gray.shape)
    found = _extract(gray, size / 150, size, ACROSS * size)
    return (found[0]._replace(scale=scale), found[1]) if found else None


def edge_sharpness(gray: Gray) -> float:
    """The steepest rise from paper to ink within three pixels of a first look for one digit, as a share of the whole
    rise: from 0 for a smooth shadow to 1 for a sharp stroke."""
    gray = _reduce(gray, -(-max(gray.shape) // DIGIT.coarse))
    middle, weight, _ = _edges(_contrast(gray, DIGIT.window * max(gray.shape))[0])
    rise = 2 * float((weight * middle).sum())
    return float((weight * np.sqrt(weight)).sum()) / rise if rise else 0.0


def refine_ink(gray: Gray, ink: Ink, paper: Gray, look: Look) -> Ink:
    """The ink without what surrounds the writing, at the resolution that its strokes require."""
    sigma, size = (look.window * max(ink.mask.shape) / part for part in (150, 1))
    original, gray = gray, _reduce(gray, ink.scale)
    for _ in range(4):
        outside, stroke = _surroundings(ink, look)
        finer = min(size, max(STROKES * stroke, 3))
        if not outside.any() and finer > size / 2 and stroke / 6 > sigma / 2:
            break
        scale = min(ink.scale, max(1, int(stroke * ink.scale / FINE)))
        if scale < ink.scale:
            gray = _reduce(original, scale)
            outside = cv2.resize(outside.view(np.uint8), gray.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
            paper = np.asarray(cv2.resize(paper, gray.shape[::-1], interpolation=cv2.INTER_LINEAR))
            stroke, finer = stroke * ink.scale / scale, finer * ink.scale / scale
        # The threshold follows the strongest edges, so fainter writing appears once the surroundings are paper. If
        # none does, they were the writing.
        cleared = np.where(outside, paper, gray)
        again = _extract(cleared, stroke / 6, finer, ACROSS * look.window * max(gray.shape))
        if not again or (outside.any() and not _has_writing(again[0].mask, look.smallest)):
            break
        original, sigma, size = cleared, stroke / 6, finer
        gray, ink, paper = cleared, again[0]._replace(scale=scale), again[1]
    return ink


# Where a pen hardly touches the paper, a stroke may have a tenth of its usual contrast. Shadows' edges, what shows
# through the paper and JPEG's artifacts are as pale, so the network chooses between this ink and the usual one.
def follow_faint_strokes(ink: Ink) -> Ink | None:
    """The ink with what is much paler and continues it; None if there is nothing as pale beyond the strokes' edges."""
    reach = 2 * round(ink.stroke / 4) + 3
    beyond = cv2.dilate(ink.mask.view(np.uint8), np.ones((reach, reach), np.uint8)) == 0
    if not (beyond & (ink.strength >= PALER)).any():
        return None
    strength = np.asarray(ink.strength / ink.noise.clip(PALER, 1), np.float32)
    labels, stats = label_components(strength >= 1)
    inked = np.bincount(labels[ink.mask], minlength=len(stats)) > 0
    return ink._replace(mask=inked[labels], strength=strength)


def _reduce(gray: Gray, scale: int) -> Gray:
    """The picture with each side divided by `scale`."""
    height, width = (max(1, round(side / scale)) for side in gray.shape)
    return np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)) if scale > 1 else gray


def sides(pixels: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The outermost rows and columns of (H, W): top, bottom, left and right."""
    return pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]


def border(pixels: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of (H, W): (2 · H + 2 · W,)."""
    return np.concatenate(sides(pixels))


def share_of_rim(mask: Mask) -> float:
    """The share of a picture's border that is ink."""
    return float(border(mask).mean())


def has_full_side(mask: Mask) -> bool:
    """Whether any of a picture's sides is ink from corner to corner."""
    return any(side.all() for side in sides(mask))


def corners(mask: Mask) -> int:
    """How many of a picture's corners are ink."""
    return int(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum())


def frame_depths(mask: Mask) -> tuple[int, int, int, int]:
    """How many rows and columns of ink frame a picture: at its top, bottom, left and right."""
    depths = []
    for rows in (mask, mask[::-1], mask.T, mask.T[::-1]):
        limit = max(1, len(rows) // 4)
        full = rows[:limit].mean(axis=1) >= FRAME
        depths.append(int(full.argmin()) if not full.all() else limit)
    top, bottom, left, right = depths
    return top, bottom, left, right


def to_gray(pixels: NDArray[np.uint8], look: Look = DIGIT) -> Gray:
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
        has_areas = (cv2.erode(difference, np.ones((WIDE, WIDE), np.uint8), borderValue=0) > COLORED).any()
        if colorful and np.median(difference) <= FLAT and not has_areas:
            contrast = np.asarray(np.abs(pixels - paper).max(axis=2), np.uint8)
            return contrast if paper @ LUMA < 128 else np.asarray(255 - contrast, np.uint8)
        # The color of a table, a hand or a highlighter does not count: only strokes change in a closing or an opening.
        window = np.ones((round(look.window * COLORS_SIDE) | 1,) * 2, np.uint8)
        light, dark = (cv2.morphologyEx(small, how, window) for how in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN))
        weights, _ = _first_component(2 * small.astype(np.float32) - light - dark)
    shift = -255 * float(np.minimum(weights, 0).sum())
    return np.asarray(cv2.transform(pixels, np.append(weights, shift).astype(np.float32)[None]))


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of at most that height and width. Averages, so no stroke is left out."""
    height, width = (min(length, side) for length in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _first_component(colors: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """The first principal component of (H, W, 3), brighter upwards, (3,), its absolute values summing to 1; and whether
    the colors differ much along the second one, too."""
    covariance = np.cov(colors.reshape(-1, 3), rowvar=False, bias=True)
    variances, axes = np.linalg.eigh(covariance + 1e-3 * np.outer(LUMA, LUMA))  # decides if there is only one color
    weights = axes[:, -1] / np.abs(axes[:, -1]).sum()
    return np.asarray(weights * (-1 if weights @ LUMA < 0 else 1), np.float32), variances[1] > COLORFUL * variances[2]


def dark_on_light(pixels: NDArray[np.uint8], look: Look = DIGIT) -> tuple[Gray, float]:
    """A picture, uint8 (H, W) or (H, W, 3), as gray (H, W) with dark ink on evenly lit paper; and how certain it is,
    from 0 to 1, that ink and paper are not mixed up."""
    gray = to_gray(pixels, look)
    lightness = max((ink_lightness(gray, each) for each in dict.fromkeys((DIGIT, look))), key=abs)
    return 255 - gray if lightness > 0 else even_light(gray), abs(lightness)


def ink_lightness(gray: Gray, look: Look = DIGIT) -> float:
    """From -1, if all edges away from the picture's border are darker than the background around them, to 1, if all are
    brighter."""
    side = round(2 * REACH / look.window)  # fine enough for a background, and coarse enough for a fast median filter
    gray = _reduce(gray, -(-max(gray.shape) // max(POLARITY_SIDE, 3 * side)))
    middle, weight, _ = _edges(gray.astype(np.float32))
    coarse = _reduce(gray, max(1, max(gray.shape) // side))
    reach = min(round(look.window * max(coarse.shape) / 2), min(coarse.shape) - 1)
    padded = cv2.copyMakeBorder(coarse, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    background = cv2.medianBlur(padded, 2 * reach + 1)[reach:-reach, reach:-reach] if reach else coarse
    background = cv2.resize(background, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    votes = weight * (background - middle)
    rows, columns = (round(RIM * side) for side in gray.shape)
    inside = votes[rows : len(votes) - rows, columns : votes.shape[1] - columns]
    votes = inside if inside.any() else votes
    return -float(votes.sum() / max(np.abs(votes).sum(), 1e-9))


# Light from a window or a lens that darkens the corners changes the paper smoothly, like a polynomial in x and y. It is
# fitted to the picture without thin strokes (a closing). Other ink, shadows and tables are darker than the fit, so they
# are left out, and the fit is repeated.
def even_light(gray: Gray) -> Gray:
    """The picture (H, W) divided by the light on its paper, if that varies much."""
    small = _reduce(gray, -(-max(gray.shape) // (4 * LIGHT_POINTS)))
    reach = max(small.shape) // LIGHT_POINTS * 4 + 1
    paper = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    height, width = (min(side, LIGHT_POINTS) for side in small.shape)
    level = cv2.resize(paper, (width, height), interpolation=cv2.INTER_AREA).ravel().astype(np.float64)
    if level.min() > (1 - UNEVEN) * level.max():
        return gray
    terms = _polynomial(height, width)
    fit, kept = level, np.ones(len(level), bool)
    for _ in range(4):
        fit = (terms @ np.linalg.lstsq(terms[kept], level[kept])[0]).clip(1)
        fitted, kept = kept, level > (1 - DARKER) * fit
        if kept.mean() < SMOOTH:
            return gray
        if (kept == fitted).all():  # the next fit would be the same
            break
    if fit.min() > (1 - UNEVEN) * fit.max() or (np.abs(level / fit - 1) < DARKER / 2).mean() < SMOOTH:
        return gray
    light = np.maximum(fit / fit.max(), DARKEST).reshape(height, width).astype(np.float32)
    return np.asarray((gray / cv2.resize(light, gray.shape[::-1])).clip(0, 255), np.uint8)


@lru_cache(maxsize=8)
def _polynomial(height: int, width: int) -> NDArray[np.float64]:
    """1, x, y, x², xy and y² at each of height × width points: (height · width, 6)."""
    y, x = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"))
    return np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=1)


def label_components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """8-connected components: labels (H, W), 0 = paper, and (N + 1, 5) with left, top, width, height, area of each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8),
        connectivity=8,
        ltype=cv2.CV_32S,
        ccltype=cv2.CCL_GRANA,  # the fastest on one core
    )
    return np.asarray(labels, np.int32), np.asarray(stats, np.int32)


def _surroundings(ink: Ink, look: Look) -> tuple[Mask, float]:
    """Ink at the picture's border that is not written but a table, a shadow or a page's edge, (H, W), and the mean
    width of the other strokes."""
    mask = ink.mask
    if not share_of_rim(mask):
        return np.zeros(mask.shape, bool), ink.stroke
    labels, stats = label_components(mask)
    distances = ink_distances(mask)
    sizes = np.maximum(stats[:, 2], stats[:, 3])
    contact, along = np.zeros(len(stats)), np.zeros(len(stats))  # as shares of the border's side and of its own
    for edge in sides(labels):
        length = np.bincount(edge, minlength=len(stats))
        np.maximum(contact, length / len(edge), out=contact)
        np.maximum(along, length / sizes, out=along)
    written = (sizes >= look.smallest * max(mask.shape)) & (contact == 0)
    written[0] = contact[0] = along[0] = False
    sums = np.bincount(labels.ravel(), distances.ravel(), len(stats))
    widths = sums / np.maximum(stats[:, 4], 1)
    if written.any():
        # Wider ones are blots, or the shadow of a finger.
        written &= widths <= BROAD * np.quantile(widths[written], 0.75)
    stroke = width_of(float(sums[written].sum() / stats[written, 4].sum())) if written.any() else 0.0
    outside = (contact > CONTACT) | (along > ALONG)
    for label in np.flatnonzero((contact > 0) & ~outside & (stroke > 0)).tolist():
        left, top, width, height, _ = stats[label]
        part = slice(top, top + height), slice(left, left + width)
        outside[label] = 2 * distances[part][labels[part] == label].max() > THICK * stroke
    reach = 2 * round(stroke / 2) + 3  # a blurred edge belongs to it
    grown = cv2.dilate(outside[labels].view(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return grown, stroke or ink.stroke


def _has_writing(mask: Mask, smallest: float) -> bool:
    """Whether there is ink of at least that size that does not touch the border."""
    _, stats = label_components(mask)
    sizes = stats[1:, 2:4].max(axis=1)
    return bool((sizes[_clear_of_border(stats[1:], mask.shape)] >= smallest * max(mask.shape)).any())


def _clear_of_border(stats: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which components of a picture, as in `label_components`, do not touch its border."""
    left, top, width, height, _ = stats.T
    return np.asarray((left > 0) & (top > 0) & (left + width < shape[1]) & (top + height < shape[0]), bool)


def _edges(gray: Strength) -> tuple[Strength, Strength, float]:
    """Middle gray level of each 3×3 neighborhood, its weight (squared range above the noise), and the noise."""
    rough = gray - np.asarray(cv2.blur(gray, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)
    # A quarter of the pixels has no edges even where a digit fills the picture.
    noise = 3.14 * _quantile(np.abs(_sample(rough)), 0.25)
    kernel = np.ones((3, 3), np.uint8)
    low, high = np.asarray(cv2.erode(gray, kernel), np.float32), np.asarray(cv2.dilate(gray, kernel), np.float32)
    weight = np.maximum(high - low - np.float32(MIN_SIGMAS * noise), np.float32(0)) ** 2
    return (low + high) * np.float32(0.5), weight.astype(np.float32), noise


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    step = -(-values.size // SAMPLE)
    while math.gcd(step, values.shape[-1]) > 1:  # otherwise only some columns would be sampled
        step += 1
    return values.ravel()[::step]


def _quantile(values: NDArray[Any], share: float) -> float:
    """A quantile without interpolation, which would take longer than everything else here. Sorts, because
    `np.partition` takes ten times as long if most values are equal."""
    return float(np.sort(values)[int(share * (values.size - 1))])


def _contrast(gray: Gray, window: float) -> tuple[Strength, Gray]:
    """How much darker than the background each pixel is; and the background, which is wider than the window."""
    kernel = np.ones((min(max(3, round(window)), 2 * max(gray.shape)) | 1,) * 2, np.uint8)
    paper = np.asarray(cv2.morphologyEx(gray, cv2.MORPH_CLOSE, kernel), np.uint8)
    level = np.maximum(paper, 64).astype(np.float32)  # 64: noise in deep shadow is not amplified
    return (paper - gray).astype(np.float32) * (np.float32(255) / level), paper


def _extract(
    gray: Gray, sigma: float, window: float, longest: float, *, strong: bool = False
) -> tuple[Ink, Gray] | None:
    """Steps 2 to 4: ink darker than its background, which is wider than the window, after smoothing by sigma pixels;
    and the background. longest: size of the largest digit. strong: strong edges alone set the threshold."""
    if sigma >= 0.4:  # less would only blur strokes of a single pixel
        gray = np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
    strength, paper = _contrast(gray, window)
    middle, weight, noise = _edges(strength)
    weight = weight * weight if strong else weight
    threshold = float((weight * middle).sum() / max(float(weight.sum()), 1.0))
    some = _sample(strength)
    below = some[some <= threshold]
    lift = _quantile(below, 0.5) if below.size else 0.0  # noise lifts a closing
    strength -= lift
    threshold -= lift
    table = paper < TABLE * _quantile(_sample(paper), 0.75)
    mask = (strength > threshold) & ~table
    if threshold < MIN_CONTRAST / 2 or not mask.any():
        return None
    stroke = stroke_width(mask)
    pale = strength > PALE * threshold
    reach = round(2 * stroke) | 1
    peak = cv2.dilate(strength, np.ones((reach, reach), np.uint8))
    local = np.clip(FADED * peak, max(MIN_LOCAL * threshold, MIN_SIGMAS * noise), threshold)
    strength /= local
    if table.any():  # and its blurred edge, where dark spots have no paper around them
        edge = np.ones((4 * reach + 1, 4 * reach + 1), np.uint8)
        strength[cv2.dilate(table.view(np.uint8), edge) > 0] = 0
        mask &= strength > 0
    labels, stats = label_components(strength >= 1)
    seeds = np.bincount(labels[mask], minlength=len(stats))
    seeds[0] = 0
    if paler := _paler_writing(labels, stats, seeds, pale, stroke):
        seeds[paler] = stats[paler, 4]
        mask |= np.isin(np.arange(len(stats)), paler)[labels]
    # Ink that runs across the page is the paper's ruling, whose many edges have lowered the threshold, so extract again
    # by strong edges. Ink across the page that is then still below the threshold is not a stroke fading out.
    across = ((stats[:, 2:4] > longest) | (stats[:, 2:4] == mask.shape[::-1])).any(axis=1)
    across &= seeds > 0
    if not strong and across.any():
        return _extract(gray, 0, window, longest, strong=True)
    across &= seeds < SEEDED * stats[:, 4]
    ruling = across[labels] & ~mask
    mask = (seeds > 0)[labels] & ~ruling
    strength[ruling] = 0
    return Ink(mask, strength, np.float32(MIN_SIGMAS * noise) / local, stroke), paper


def _paler_writing(
    labels: NDArray[np.int32], stats: NDArray[np.int32], seeds: NDArray[np.int64], pale: Mask, stroke: float
) -> list[int]:
    """The components without `seeds` that resemble those with some: about as large, drawn with about as wide a pen, and
    in good part at least `pale`."""
    left, top, width, height, area = stats.T
    written = seeds > 0
    other = _clear_of_border(stats, labels.shape) & ~written
    other[0] = False
    if not other.any() or not written.any():
        return []
    size = np.maximum(width, height)
    usual = np.quantile(size[written], 0.5, weights=area[written], method="inverted_cdf")
    other &= (SIMILAR * height >= usual) & (size <= SIMILAR * usual)
    if not other.any():
        return []
    other &= np.bincount(labels[pale], minlength=len(stats)) >= SEEDED * area
    found = []
    for label in np.flatnonzero(other).tolist():
        part = slice(top[label], top[label] + height[label]), slice(left[label], left[label] + width[label])
        if 1 / SIMILAR <= stroke_width(labels[part] == label) / stroke <= SIMILAR:
            found.append(label)
    return found


def ruled_lines(mask: Mask, stroke: float, share: float) -> list[Component]:
    """Straight lines longer than this share of the picture's side, within 7° of horizontal or vertical, without the ink
    that crosses them: pixels count only where the ink is no thicker than the line."""
    lines = []
    reach = round(STROKES * stroke) | 1
    for turned in (mask, np.ascontiguousarray(mask.T)):  # the lines are horizontal in it
        # Like run-length smoothing (Wong et al. 1982): join long runs of ink over gaps, then label what is connected.
        ink = turned.view(np.uint8)
        columns_with_ink = np.flatnonzero(turned.any(axis=0))
        if reach >= ink.shape[1] or not columns_with_ink.size or np.ptp(columns_with_ink) < share * ink.shape[1] - 1:
            continue
        row = np.ones((1, reach), np.uint8)
        padded = np.pad(ink, ((0, 0), (reach, reach)))  # of paper; OpenCV's own borders count as ink when it erodes
        long = cv2.morphologyEx(padded, cv2.MORPH_OPEN, row)
        if not long.any():
            continue
        joined = cv2.morphologyEx(long, cv2.MORPH_CLOSE, row)[:, reach:-reach]
        labels, stats = label_components(np.ascontiguousarray(joined) > 0)
        thickness = None
        for number, (left, top, width, height, _) in enumerate(stats.tolist()):
            if number == 0 or width < share * turned.shape[1] or height > width / STROKES:
                continue
            thickness = _run_lengths(turned.T).T if thickness is None else thickness
            rows, columns = slice(top, top + height), slice(left, left + width)
            usual = float(np.median(((labels[rows, columns] == number) & turned[rows, columns]).sum(axis=0)))
            fringe = round(usual / 2) + 1  # rows above and below with the line's ragged edge
            first, last = max(0, top - fringe), min(len(turned), top + height + fringe)
            near = (labels[first:last, columns] == number).astype(np.uint8)
            line = cv2.dilate(near, np.ones((2 * fringe + 1, 1), np.uint8)) > 0
            line &= turned[first:last, columns] & (thickness[first:last, columns] <= 2 * (usual + 1))
            found = Component(first, left, last, left + width, line)
            lines.append(found if turned is mask else Component(left, first, left + width, last, line.T))
    return lines


def _run_lengths(mask: Mask) -> NDArray[np.int64]:
    """For each pixel of the mask the length of its unbroken run in the row; 0 elsewhere."""
    pixels = np.pad(mask, ((0, 0), (1, 1))).ravel()  # the padding ends every run with its row
    lengths = np.diff(np.flatnonzero(np.diff(pixels)) + 1, prepend=0, append=len(pixels))
    return np.repeat(lengths, lengths).reshape(len(mask), -1)[:, 1:-1] * mask
