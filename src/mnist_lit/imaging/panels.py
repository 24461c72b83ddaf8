"""Find the pictures in a figure or a screenshot: rectangles on a plain margin. NumPy and OpenCV only."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.ink import border
from mnist_lit.imaging.sheet import Pixels, Sheet

# Gray levels: largest range of a margin's, least difference from it, and least range within a panel.
PLAIN, DIFFERENT, CONTRAST = 8, 12, 40
SIDE, SHARE = 12, 0.15  # shortest side of a panel, in pixels; least share of the picture in panels
TICKS = 0.01  # widest ticks and letters beside a panel, as a share of the picture's longer side; at least 7 pixels
EDGE, INSIDE = 0.95, 0.75  # least share of a panel's sides, and of lines inside it, that differs from the margin
DEPTH = 0.04  # of these lines, as a share of the panel's shorter side
INSET = 0.01  # by which a panel is cropped, as a share of its shorter side; at least a pixel


# A dark rectangle on a light margin looks like ink, and its digit like a hole. Only a figure has a margin without any
# noise and a rectangle that is exactly upright, so photos and drawings are no panels.
def find_panels(pixels: Pixels) -> list[Sheet]:
    """The rectangles on a plain margin, (H, W) or (H, W, 3), in reading order, if there is something in them."""
    margin = border(pixels)
    if np.ptp(margin, axis=0).max() > PLAIN:
        return []
    different = _differs(pixels, np.median(margin, axis=0))
    if different.mean() < SHARE:
        return []
    ticks = max(7, round(TICKS * max(different.shape)))
    solid = cv2.morphologyEx(different, cv2.MORPH_OPEN, np.ones((ticks, ticks), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(solid)
    panels = []
    for left, top, width, height, _ in boxes[1:].tolist():
        inset = max(1, round(INSET * min(width, height)))
        if min(width, height) < SIDE or not _is_filled(solid[top : top + height, left : left + width].view(bool)):
            continue
        panel = pixels[top + inset : top + height - inset, left + inset : left + width - inset]
        if np.ptp(panel, axis=(0, 1)).max() >= CONTRAST:
            shift = np.array([[1.0, 0.0, left + inset], [0.0, 1.0, top + inset], [0.0, 0.0, 1.0]])
            panels.append((top + height / 2, left, Sheet(np.ascontiguousarray(panel), shift)))
    return [panel for _, _, panel in sorted(panels, key=lambda one: one[:2])]


def _differs(pixels: Pixels, color: NDArray[np.float64] | np.float64) -> NDArray[np.uint8]:
    """Where a picture's color is not that of its margin: 0 or 1, (H, W)."""
    difference = cv2.absdiff(pixels, np.full_like(pixels, np.rint(color)))
    return np.asarray(difference.reshape(*pixels.shape[:2], -1).max(axis=2) > DIFFERENT).view(np.uint8)


def _is_filled(panel: NDArray[np.bool_]) -> bool:
    """Whether a rectangle has straight sides and is more than a frame. panel: where it differs from the margin."""
    depth = max(2, round(DEPTH * min(panel.shape)))
    outer, inner = (min(float(side.mean()) for side in _sides(panel, at)) for at in (0, depth))
    return outer >= EDGE and inner >= INSIDE


def _sides(mask: NDArray[np.bool_], depth: int) -> tuple[NDArray[np.bool_], ...]:
    return mask[depth], mask[-1 - depth], mask[:, depth], mask[:, -1 - depth]
