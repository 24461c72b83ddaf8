"""Measure how wide strokes are, and bring a digit's strokes to MNIST's width. NumPy and OpenCV only."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]

MAX_EROSION = 0.7  # fraction of the thinnest strokes' half width that may be taken off, so that no stroke is lost


def ink_distances(mask: Mask) -> Distances:
    """Each ink pixel's Euclidean distance, within 2 %, to the nearest pixel that is not ink; outside the mask (H, W) is
    paper."""
    return _distances(with_margin(mask.view(np.uint8), 1))[1:-1, 1:-1]


def width_of(mean_distance: float) -> float:
    """The width of strokes whose ink pixels have that mean distance, at least 1."""
    return max(1.0, 4 * mean_distance - 2)


def with_margin(image: NDArray[Any], width: int, value: int = 0) -> NDArray[Any]:
    """An image (H, W) with a margin of that many pixels: `np.pad` in an eighth of the time."""
    return np.asarray(cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_CONSTANT, value=value))


def stroke_width(mask: Mask) -> float:
    """Mean stroke width in pixels of a mask (H, W), at least 1.

    >>> round(stroke_width(np.ones((4, 100), bool)))
    4
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return _mean_width(ink_distances(mask[top : top + height, left : left + width]))


# How wide a digit's strokes come out depends on the pen and on how large the digit was written; MNIST's vary little.
# The Euclidean distance transform, each ink pixel's distance to the nearest background pixel, serves for measuring and
# for changing the width. Across a stroke of width w the distances rise from 1 to w/2 and fall again, so their mean is
# w/4 + 1/2 and w = 4 · mean - 2. Keeping what is farther than d from the background thins every stroke by 2d; adding
# what is nearer than d to the ink thickens it by 2d, with round ends, as a wider pen would.
# The digit is scaled into a box of side B afterwards, and its longer side, s = skeleton + w, changes with the strokes.
# Strokes of width v fill g pixels of that box if v · B / (s - w + v) = g, hence v = g (s - w) / (B - g).
def normalize_stroke_width(mask: Mask, box: float, min_width: float, max_width: float) -> Mask:
    """Thicken strokes, or thin them as far as the thinnest survives, so that they are `min_width` to `max_width` wide
    once the longer side is `box` long: bool (H, W), one digit → bool (H + 2p, W + 2p) with a margin for the added ink.

    >>> int(normalize_stroke_width(np.ones((100, 2), bool), 20, 2, 3)[50].sum())
    10
    """
    distances = _distances(with_margin(mask.view(np.uint8), 2))
    width = _mean_width(distances)
    side = max(cv2.boundingRect(mask.view(np.uint8))[2:])
    goal = min(max(width * box / side, min_width), max_width)  # in pixels of the box
    target = goal * max(side - width, 1) / (box - goal)  # in pixels of the mask
    if target >= width:
        to_ink = _distances(with_margin((~mask).view(np.uint8), int(target - width) + 2, value=1))
        return np.asarray(to_ink <= (target - width) / 2)
    medial_axis = distances[(distances == cv2.dilate(distances, np.ones((3, 3), np.uint8))) & (distances > 0)]
    limit = MAX_EROSION * float(np.percentile(medial_axis, 10))
    return np.asarray(distances > min((width - target) / 2, limit))


def _distances(image: NDArray[np.uint8]) -> Distances:
    return np.asarray(cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)


def _mean_width(distances: Distances) -> float:
    ink = distances > 0
    return width_of(float(distances[ink].mean())) if ink.any() else 1.0
