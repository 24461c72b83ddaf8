"""Find the pictures in a figure or a screenshot: rectangles on a plain margin. NumPy and OpenCV only."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.areas import Pixels, in_reading_order
from mnist_lit.imaging.border import border, sides
from mnist_lit.imaging.mnist_format import IMAGE_SIZE
from mnist_lit.imaging.sheet import Sheet, upright_sheet
from mnist_lit.imaging.sheet_edges import difference_from

# Gray levels: largest range of a margin's, least difference from it, and least range within a panel.
MAX_MARGIN_RANGE, MIN_DIFFERENCE, MIN_RANGE = 8, 12, 40
MIN_PANEL_SIDE = 12  # in pixels
MAX_TICKS = 0.01  # widest ticks and letters beside a panel, as a fraction of the longer side; at least 3 pixels
# Least fractions of a panel's sides, and of its area, that differ from the margin.
MIN_STRAIGHT, MIN_DIFFERENT = 0.95, 0.55
MAX_LABEL = 0.25  # greatest height of a label, as a fraction of a panel's
MIN_BUTTON_WIDTH = 1.3  # least width of an app's button, which is as short as a label, in its heights
PANEL_INSET = 0.01  # by which a panel is cropped, as a fraction of its shorter side; at least a pixel


# A dark rectangle on a light margin looks like ink, and its digit like a hole. Only a figure has a margin without any
# noise and rectangles that are exactly upright, with nothing beside them but labels.
def find_panels(pixels: Pixels) -> list[Sheet]:
    """The rectangles on a plain margin of a picture, (H, W) or (H, W, 3), in reading order, if there is something in
    them."""
    margin = border(pixels)
    if np.ptp(margin, axis=0).max() > MAX_MARGIN_RANGE:
        return []
    different = _differs(pixels, np.median(margin, axis=0))
    ticks = max(3, round(MAX_TICKS * max(different.shape)) | 1)  # odd: an opening by an even width shifts the picture
    outlines, _ = cv2.findContours(different, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not any(_is_compact(outline) for outline in outlines):
        return []
    # The opening would cut into the side of a panel where a stroke of the margin's color is near, so holes are filled.
    filled = cv2.drawContours(np.zeros_like(different), outlines, -1, 1, -1)
    solid = np.asarray(cv2.morphologyEx(filled, cv2.MORPH_OPEN, np.ones((ticks, ticks), np.uint8)), np.uint8)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(solid)
    panels = [box for box in boxes[1:, :4].tolist() if _is_panel(pixels, different, solid, *box)]
    # The bowl of a label's letter may be solid, too.
    tallest = max((height for *_, height in panels), default=0)
    panels = [box for box in panels if box[3] > MAX_LABEL * tallest or min(box[2:]) >= IMAGE_SIZE]
    for left, top, width, height in panels:
        different[max(0, top - ticks) : top + height + ticks, max(0, left - ticks) : left + width + ticks] = 0
    _, _, beside, _ = cv2.connectedComponentsWithStats(different)
    panels = [box for box in panels if box[3] > MAX_LABEL * tallest or box[2] < MIN_BUTTON_WIDTH * box[3]]
    if not panels or beside[1:, 3].max(initial=0) > MAX_LABEL * min(height for *_, height in panels):
        return []
    corners = [
        np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float32)
        for x, y, width, height in panels
    ]
    return [_cut_out(pixels, *panel[[0, 2]].astype(int).ravel().tolist()) for panel in in_reading_order(corners)]


def _is_compact(outline: NDArray[Any]) -> bool:
    """Whether an outline, filled, covers most of the box around it."""
    _, _, width, height = cv2.boundingRect(outline)
    return min(width, height) >= MIN_PANEL_SIDE and cv2.contourArea(outline) >= MIN_DIFFERENT * (width - 1) * (
        height - 1
    )


def _is_panel(
    pixels: Pixels, different: NDArray[np.uint8], solid: NDArray[np.uint8], left: int, top: int, width: int, height: int
) -> bool:
    """Whether a component in a box is a rectangle, is more than a frame, and contains something."""
    inside = slice(top, top + height), slice(left, left + width)
    middles = (
        side[len(side) // 5 : len(side) - len(side) // 5] for side in sides(solid[inside])
    )  # its corners may be round
    straight = min(float(middle.mean()) for middle in middles) >= MIN_STRAIGHT
    is_rectangle = straight and different[inside].mean() >= MIN_DIFFERENT
    return bool(
        min(width, height) >= MIN_PANEL_SIDE and is_rectangle and np.ptp(pixels[inside], axis=(0, 1)).max() >= MIN_RANGE
    )


def _cut_out(pixels: Pixels, left: int, top: int, right: int, bottom: int) -> Sheet:
    """The panel in a box without its sides."""
    inset = max(1, round(PANEL_INSET * min(right - left, bottom - top)))
    return upright_sheet(pixels, slice(left + inset, right - inset), slice(top + inset, bottom - inset))


def _differs(pixels: Pixels, color: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Where a picture's color is not that of its margin: 0 or 1, (H, W)."""
    return np.asarray(difference_from(pixels, np.rint(color)) > MIN_DIFFERENCE).view(np.uint8)
