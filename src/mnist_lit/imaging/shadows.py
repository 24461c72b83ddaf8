"""Tell shadows from ink by their soft edges and by their place in the picture."""

from collections.abc import Sequence

import numpy as np

from mnist_lit.imaging.digit_ink import MIN_CERTAINTY
from mnist_lit.imaging.gray import DIGIT, Gray, Strength
from mnist_lit.imaging.hypotheses import Box
from mnist_lit.imaging.ink import edge_sharpness
from mnist_lit.imaging.reduced_picture import ReducedPicture

MAX_GAP = 0.02  # greatest distance of a shadow from the border, as a fraction of the picture's longer side
MIN_SHARPNESS = 0.1  # least sharpness of the edges of ink
MIN_SHADOW_SHARPNESS = 0.4  # the same, for what may well be the edge of a shadow
# Greatest thresholds of the ink of shadows, in gray levels; the second of one that spans nearly all of the picture.
MAX_SHADOW, MAX_FILLING_SHADOW = 55, 18
MIN_NEARLY_FILLING = 0.75  # fraction of the width and height that this one spans
MIN_POLARITY = 0.4  # least certainty that ink is dark or light; below it, there may be only light and shadow


# Shadows have soft edges, which say little about whether the ink is dark or light. Most touch the picture's border, but
# only faint ones fill the picture, as an enlarged digit does.
def is_light(gray: Gray, certainty: float, thresholds: Sequence[Strength], box: Box, picture: ReducedPicture) -> bool:
    """Whether the ink in this box is only light and shadow. certainty: see `dark_on_light`; thresholds: those of all
    ink that may be the digit's."""
    at_border, fills = is_at_border(box, picture), picture.is_filled(box, MIN_NEARLY_FILLING)
    if certainty < MIN_POLARITY or (at_border and not fills and max(picture.scale) > 1):
        threshold = max(float(np.median(each)) for each in thresholds)
        if threshold < (MAX_FILLING_SHADOW if fills else MAX_SHADOW):
            return is_smooth(gray, MIN_SHADOW_SHARPNESS)
    return (certainty < MIN_CERTAINTY or at_border) and is_smooth(gray)


def is_at_border(box: Box, picture: ReducedPicture) -> bool:
    """Whether a box touches, or nearly touches, the border."""
    return picture.border_distance(box) <= MAX_GAP * max(picture.size)


def is_strip(box: Box, picture: ReducedPicture) -> bool:
    """Whether a box is a narrow strip along the border."""
    (width, height), (left, top, right, bottom) = picture.size, box
    return min(right / width, 1 - left / width, bottom / height, 1 - top / height) <= MAX_GAP


def is_smooth(gray: Gray, least: float = MIN_SHARPNESS) -> bool:
    """Whether even a picture's sharpest edges are softer than `least`. Tiny pictures have too few edges to tell."""
    return max(gray.shape) >= DIGIT.coarse_side and edge_sharpness(gray) < least
