"""What lies along a picture's border. NumPy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.stroke_width import Mask

MAX_CONTACT = 0.3  # fraction of a side above which ink along it is a table, a shadow or a page's edge
MAX_ALONG = 0.6  # fraction of its own longer side above which ink along the border is a table, a shadow or an edge
MIN_FRAME = 0.9  # fraction of a row or a column that is ink if it belongs to a frame


def sides(pixels: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The outermost rows and columns of (H, W) or (H, W, C): top, bottom, left and right."""
    return pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]


def border(pixels: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of (H, W) or (H, W, C), the corners twice: (2 · W + 2 · H,) or (2 · W + 2 · H, C)."""
    return np.concatenate(sides(pixels))


def border_coverage(mask: Mask) -> float:
    """The fraction of a picture's border that is ink."""
    around = border(mask)
    return int(np.count_nonzero(around)) / len(around)  # faster than the mean


def border_contact(
    labels: NDArray[np.int32], stats: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each component, as in `label_components`, the greatest length along one side of the picture: as a fraction of
    that side, and of the component's longer side; 0 for the paper."""
    contact, along = np.zeros(len(stats)), np.zeros(len(stats))
    for side in sides(labels):
        length = np.bincount(side, minlength=len(stats))
        np.maximum(contact, length / len(side), out=contact)
        np.maximum(along, length / stats[:, 2:4].max(axis=1), out=along)
    contact[0] = along[0] = 0
    return contact, along


def has_full_side(mask: Mask) -> bool:
    """Whether any of a picture's sides is ink from corner to corner."""
    return any(side.all() for side in sides(mask))


def from_each_side(mask: Mask) -> tuple[Mask, ...]:
    """The rows of (H, W) from the top and from the bottom, and its columns from the left and from the right."""
    return mask, mask[::-1], mask.T, mask.T[::-1]


def inked_corners(mask: Mask) -> int:
    """The number of a picture's corners that are ink."""
    return int(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum())


def frame_depths(mask: Mask) -> tuple[int, int, int, int]:
    """How many rows and columns of ink frame a picture: at its top, bottom, left and right."""
    if not border(mask).any():  # the usual case
        return 0, 0, 0, 0
    depths = []
    for rows in from_each_side(mask):
        limit = max(1, len(rows) // 4)
        full = rows[:limit].mean(axis=1) >= MIN_FRAME
        depths.append(int(full.argmin()) if not full.all() else limit)
    top, bottom, left, right = depths
    return top, bottom, left, right
