"""Sharp edges tell digits from shadows: where a photo has its one digit, what is only shadow, and which window finds a
page's ink. NumPy and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np

from mnist_lit.imaging.components import label_components
from mnist_lit.imaging.gray import Gray, SearchScale, Strength, downscaled
from mnist_lit.imaging.ink import Ink, coarse_ink
from mnist_lit.imaging.stroke_width import Mask

EDGE_BLUR, MIN_EDGE = 0.8, 25.0  # pixels; least range of an edge, in gray levels
MIN_STEEPNESS = 0.45  # least fraction of a sharp edge's range that lies within a pixel
DARKEST_PAPER = 0.1  # quantile of the gray levels on the lighter side of sharp edges: what is lighter is paper
BLACK = 20  # what ink becomes: paper as dark as 0 has no brightness to divide by
MAX_EDGE_GAP = 0.03  # greatest gap between the edges of one digit, as a fraction of the picture's longer side
MIN_TOGETHER = 0.9  # least fraction of a picture's sharp edges that its one digit has
MIN_OUTLINE = 1.0  # least number of its sharp pixels, as a multiple of the circumference of its box
MAX_ONE_WINDOW = 640  # longer side in pixels of the largest picture in which a narrower window is not tried
NARROWER = (0.25, 0.125)  # widths of the windows that are tried, as fractions of the usual one's
MAX_EDGE_NOISE = 12.0  # greatest noise, in gray levels, with which they are tried
MIN_FOLLOWED = 0.985  # least fraction of a picture's sharp edges that the outline of its ink follows


class Levels(NamedTuple):
    """The gray levels on both sides of sharp edges."""

    ink: float  # the median of the darker side
    paper: float  # nearly the darkest of the lighter side

    def stretched(self, gray: Gray) -> Gray:
        """A picture (H, W) with its ink black, and its paper white in all shadows that are lighter than `paper`."""
        levels = np.interp(np.arange(256), (self.ink, max(self.paper, self.ink + 1)), (BLACK, 255))
        return levels.astype(np.uint8)[gray]


class SharpPart(NamedTuple):
    """The part of a picture that has nearly all of its sharp edges."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are exclusive
    levels: Levels


def sharp_part(gray: Gray) -> SharpPart | None:
    """The part with nearly all sharp edges of a picture (H, W) if these lie close together."""
    sharp = _sharp_edges(gray)
    reach = round(MAX_EDGE_GAP * max(gray.shape)) | 1
    labels, stats = label_components(cv2.dilate(sharp, np.ones((reach, reach), np.uint8)) > 0)
    sums = np.bincount(labels.ravel(), sharp.ravel(), len(stats))
    largest = int(sums.argmax())
    if sums[largest] == 0 or sums[largest] < MIN_TOGETHER * sums.sum():
        return None
    edges = (labels == largest) & (sharp > 0)
    left, top, width, height = cv2.boundingRect(edges.view(np.uint8))
    if np.count_nonzero(edges) < MIN_OUTLINE * 2 * (width + height):  # out of focus
        return None
    return SharpPart((left, top, left + width, top + height), _levels(gray, edges))


# Shadows side by side, such as those of fingers, blinds or a window's bars, are narrower than the window and look like
# strokes. With a narrower window they are background, but so are thick strokes. Sharp edges tell: if the window fits,
# the outline of the ink follows them all. What is written within a supposed stroke has sharp edges away from it.
def narrow_window(gray: Gray, ink: Ink, search: SearchScale) -> tuple[Ink, SearchScale]:
    """The result of `coarse_ink`, and the search for it; with a narrower window if only then the ink's outline follows
    the sharp edges of a large picture."""
    if max(gray.shape) <= MAX_ONE_WINDOW or ink.noise > MAX_EDGE_NOISE:
        return ink, search
    sharp = _sharp_edges(downscaled(gray, ink.scale))
    if _followed(sharp, ink.mask) >= MIN_FOLLOWED:
        return ink, search
    for factor in NARROWER:
        narrower = search._replace(window=factor * search.window)
        found = coarse_ink(gray, narrower)
        if found and _followed(sharp, found.mask) >= MIN_FOLLOWED:
            return found, narrower
    return ink, search


def _sharp_edges(gray: Gray) -> Strength:
    """The range of gray levels within a pixel of each pixel (H, W) if it is much of that within five pixels; else 0."""
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), EDGE_BLUR)
    near, far = (
        cv2.dilate(smooth, kernel) - cv2.erode(smooth, kernel)
        for kernel in (np.ones((3, 3), np.uint8), np.ones((11, 11), np.uint8))
    )
    return np.where((near > MIN_STEEPNESS * far) & (far > MIN_EDGE), near, np.float32(0))


def _levels(gray: Gray, edges: Mask) -> Levels:
    """The levels of a picture (H, W) two pixels from these edges, of which there is at least one."""
    kernel = np.ones((5, 5), np.uint8)
    darker, lighter = (change(gray, kernel)[edges] for change in (cv2.erode, cv2.dilate))
    return Levels(float(np.median(darker)), float(np.quantile(lighter, DARKEST_PAPER)))


def _followed(sharp: Strength, mask: Mask) -> float:
    """The fraction of sharp edges that lie within two pixels of the outline of the ink; 1 if there are none."""
    ink, kernel = mask.view(np.uint8), np.ones((5, 5), np.uint8)
    outline = cv2.dilate(ink, kernel) > cv2.erode(ink, kernel, borderValue=1)
    return float(sharp[outline].sum() / total) if (total := float(sharp.sum())) else 1.0
