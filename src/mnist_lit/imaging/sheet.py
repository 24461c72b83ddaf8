"""Find the sheet of paper that lies on a table in a photo, and flatten it. NumPy and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PHOTO = 320  # longer side in pixels of the smallest picture that may show more than the paper
SIDE = 240  # longer side in pixels of the reduced picture in which the sheet is looked for
# In pixels of the reduced picture.
STROKE, GAP = 11, 9  # widest stroke that is not an edge of the paper, and widest gap in an edge
DISTANCES = (-2, 7, 14)  # from an edge to where the colors of paper and table are compared
EDGES = (9, 6)  # least difference of neighbors at an edge, in gray levels; tried in turn
STEP = 14.0  # least difference of paper and table, in gray levels
DRIFT = 0.8  # largest change of the table's color between the last two distances, as a share of that at the edge
COLORED, ALIKE = 0.03, 0.25  # least change of a color's share; below this share of the largest, it is brightness only
SEEN = 0.8  # least share of an edge that can be compared
LEAST, MOST = 0.2, 0.97  # shares of the picture that the sheet covers
STRAIGHT = 0.92  # least share of its quadrilateral that the sheet fills
CORNERS = (0.03, 0.05, 0.08)  # how far an edge may be from straight, as a share of the outline: a finger covers corners
INSET = 0.01  # share of the picture's longer side by which the sheet's edge is left out

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float32]  # (4, 2): x and y, clockwise from the top left


class Sheet(NamedTuple):
    """A sheet of paper, flattened."""

    pixels: Pixels  # (H, W) or (H, W, 3)
    to_picture: NDArray[np.float64]  # (3, 3): homography from its pixels to the picture's

    def in_picture(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """The box around what lies in a box of the sheet: left, top, right, bottom in pixels."""
        left, top, right, bottom = box
        corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]], np.float64)
        x, y = cv2.perspectiveTransform(corners, self.to_picture)[0].T
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


# Document scanners look for a large quadrilateral whose sides are edges. Here it is the outline of the largest area
# without edges, once a closing has removed the writing. Shadows and the light from a window have straight edges, too,
# but they run from border to border or are soft; so at least three sharp sides of the sheet must be seen.
def find_sheet(pixels: Pixels) -> Sheet | None:
    """The sheet of paper in a photo, (H, W) or (H, W, 3), of which at least three sides are seen; else None."""
    scale = -(-max(pixels.shape[:2]) // SIDE)
    height, width = (side // scale for side in pixels.shape[:2])
    if max(pixels.shape[:2]) < PHOTO or min(height, width) < 4 * STROKE:
        return None
    whole = pixels[: height * scale, : width * scale]  # a whole number of pixels each: reduces several times as fast
    reduced = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    paper = cv2.morphologyEx(reduced, cv2.MORPH_CLOSE, np.ones((STROKE, STROKE), np.uint8))
    small = np.asarray(cv2.medianBlur(paper, 5), np.uint8)
    near = np.ones((3, 3), np.uint8)
    steps = np.maximum.reduce(cv2.split(cv2.subtract(cv2.dilate(small, near), cv2.erode(small, near))))
    for edge in EDGES:
        smooth = np.pad((steps < edge)[1:-1, 1:-1], 1).view(np.uint8)  # the picture's border is an edge
        opened = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, np.ones((GAP, GAP), np.uint8))
        outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in sorted(outlines, key=cv2.contourArea)[-2:]:
            corners = _corners(np.asarray(outline, np.int32), height * width)
            if corners is not None and _has_edges(small, corners):
                return _flatten(pixels, corners * scale)
    return None


def _corners(outline: NDArray[np.int32], size: int) -> Corners | None:
    """The corners of an outline, if it is a quadrilateral that covers enough of a picture of that size."""
    hull = cv2.convexHull(outline)
    for tolerance in CORNERS:
        found = cv2.approxPolyDP(hull, tolerance * cv2.arcLength(hull, True), True)[:, 0].astype(np.float32)
        if len(found) <= 4:
            break
    area, around = cv2.contourArea(outline), max(cv2.contourArea(hull), cv2.contourArea(found))
    if len(found) != 4 or not LEAST * size < area < MOST * size or area < STRAIGHT * around:
        return None
    from_middle = found - found.mean(axis=0)
    clockwise = found[np.arctan2(from_middle[:, 1], from_middle[:, 0]).argsort()]
    sides = np.roll(clockwise, -1, axis=0) - clockwise
    top = int((sides[:, 0] / np.linalg.norm(sides, axis=1)).argmax())  # it runs to the right
    return np.asarray(np.roll(clockwise, -top, axis=0), np.float32)


def _has_edges(pixels: Pixels, corners: Corners) -> bool:
    """Whether the sides of a quadrilateral, all but one at the picture's border, part paper from table: the color
    changes there, and not as gradually as in the half-shadow."""
    height, width = pixels.shape[:2]
    colors = pixels.reshape(height, width, -1).astype(np.float32)
    shares = np.linspace(0.1, 0.9, 33)[:, None]
    at_border = 0
    hues = []
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        right, down = (stop - start) / max(float(np.linalg.norm(stop - start)), 1.0)
        points = [start + shares * (stop - start) + distance * np.array([down, -right]) for distance in DISTANCES]
        across = np.array(points).round().astype(int)  # (inside, outside, farther; 33; x, y)
        seen = np.all((across >= 0) & (across < (width, height)), axis=2)
        if np.all(seen[:2], axis=0).mean() < SEEN:
            at_border += 1
            continue
        x, y = across.clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
        inside, outside, farther = colors[y, x]  # (33, C) each
        step = np.abs(outside - inside).max(axis=1)
        drift = np.abs((farther - outside).mean(axis=0)).max()
        if np.median(step) < STEP or drift > DRIFT * np.abs((outside - inside).mean(axis=0)).max():
            return False
        hue, hue_outside = (levels.sum(axis=0) / max(float(levels.sum()), 1.0) for levels in (inside, outside))
        hues.append(float(np.abs(hue - hue_outside).max()))
    if at_border > 1:
        return False
    # Where some sides change the color, one that changes only the brightness is the edge of a shadow.
    return max(hues) < COLORED or min(hues) > ALIKE * max(hues)


def _flatten(pixels: Pixels, corners: Corners) -> Sheet:
    """The part of a picture between four corners as a rectangle, without its edge."""
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width, height = (max(2, round(float(lengths[side] + lengths[side + 2]) / 2)) for side in (0, 1))
    inset = INSET * max(pixels.shape[:2])
    left, top, right, bottom = -inset, -inset, width + inset, height + inset
    flat = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    to_sheet = cv2.getPerspectiveTransform(corners, flat)
    sheet = cv2.warpPerspective(pixels, to_sheet, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return Sheet(np.asarray(sheet, np.uint8), np.asarray(np.linalg.inv(to_sheet), np.float64))
