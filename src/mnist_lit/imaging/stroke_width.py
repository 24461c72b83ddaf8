"""A digit's strokes, brought to the thickness that MNIST's digits have. NumPy and SciPy only."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_lit.imaging.ink import mean_width, neighbours

__all__ = ["normalize_stroke_width"]

Mask = NDArray[np.bool_]

THIN = 0.7  # of the half width of a digit's thinnest strokes: no more is taken off, so that none is lost


def normalize_stroke_width(mask: Mask, box: float, least: float, most: float) -> Mask:
    """Thicken or thin strokes so that they are `least` to `most` wide where the longer side is `box` long.

    mask: (H, W), the digit alone. Returns (H + 2 p, W + 2 p), with a margin p for what is added. The width is
    `ink.mean_width`. The longer side, which grows and shrinks with the strokes, is reckoned with.

    >>> bar = np.ones((100, 2), bool)
    >>> int(normalize_stroke_width(bar, 20, 2, 3)[50].sum())
    10
    """
    inside = ndimage.distance_transform_edt(np.pad(mask, 2))
    wide, side = mean_width(inside[inside > 0]), max(np.ptp(index) + 1 for index in mask.nonzero())
    goal = np.clip(wide * box / side, least, most)
    want = goal * max(side - wide, 1) / (box - goal)  # in the mask's pixels
    if want >= wide:
        padded = np.pad(mask, int(want - wide) + 2)
        return ndimage.distance_transform_edt(~padded) <= (want - wide) / 2  # type: ignore[no-any-return]
    ridge = inside[(inside == neighbours(np.maximum, inside)) & (inside > 0)]
    thin = THIN * float(np.percentile(ridge, 10))
    return inside > min((wide - want) / 2, thin)  # type: ignore[no-any-return]
