"""Find the sheet of paper that lies on a table in a photo, and flatten it. NumPy and OpenCV only."""

from collections.abc import Iterator
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
COLOR, DARK = 450, 48  # gray levels for a share of 1; least sum of red, green and blue that shows a color
OUTLINES = 3  # of the largest areas without edges
SEEN, WHOLE = 0.6, 0.8  # least shares of an edge that
LEAST, MOST = 0.2, 0.97  # shares of the picture that the sheet covers
STRAIGHT = 0.92  # least share of its quadrilateral that the sheet fills
CORNERS = (0.03, 0.05, 0.08)  # how far an edge may be from straight, as a share of the outline: a finger covers corners
INSET = 0.01  # share of the picture's longer side by which the sheet's edge is left out

Pixels = NDArray[np.uint8]
Levels = NDArray[np.float32]
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
    small = np.asarray(cv2.medianBlur(paper, 5), np.uint8).reshape(height, width, -1)
    for version in (small, _colors(small)) if small.shape[2] > 1 else (small,):
        for corners in _quadrilaterals(version):
            if _has_edges(version, corners):
                return _flatten(pixels, corners * scale)
    return None


def _colors(pixels: Pixels) -> Pixels:
    """Each color's share of the brightness, (H, W, 3): the same in the light and in a shadow."""
    levels = pixels.astype(np.float32)
    total = np.maximum(cv2.transform(levels, np.ones((1, 3), np.float32))[..., None], DARK)
    return np.asarray((levels * (COLOR / total) + (128 - COLOR / 3)).clip(0, 255), np.uint8)


def _quadrilaterals(pixels: Pixels) -> Iterator[Corners]:
    """Quadrilaterals without edges inside, in a picture (H, W, C)."""
    near = np.ones((3, 3), np.uint8)
    steps = np.maximum.reduce(cv2.split(cv2.subtract(cv2.dilate(pixels, near), cv2.erode(pixels, near))))
    for edge in EDGES:
        smooth = np.pad((steps < edge)[1:-1, 1:-1], 1).view(np.uint8)  # the picture's border is an edge
        opened = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, np.ones((GAP, GAP), np.uint8))
        outlines, links = cv2.findContours(opened, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        whole = [
            outline for outline, (*_, hole) in zip(outlines, links[0] if outlines else (), strict=True) if hole < 0
        ]
        for outline in sorted(whole, key=cv2.contourArea)[-OUTLINES:]:
            corners = _corners(np.asarray(outline, np.int32), steps.size)
            if corners is not None:
                yield corners


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


def _has_edges(colors: Pixels, corners: Corners) -> bool:
    """Whether the sides of a quadrilateral, all but one at the picture's border, part paper from table: the color
    changes there, and not as gradually as in the half-shadow."""
    height, width = colors.shape[:2]
    shares = np.linspace(0.1, 0.9, 33)[:, None]
    at_border = 0
    hues = []
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        right, down = (stop - start) / max(float(np.linalg.norm(stop - start)), 1.0)
        points = [start + shares * (stop - start) + distance * np.array([down, -right]) for distance in DISTANCES]
        across = np.array(points).round().astype(int)  # (inside, outside, farther; 33; x, y)
        seen = np.all((across >= 0) & (across < (width, height)), axis=2)[:2].all(axis=0)
        x, y = across[:, seen].clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
        inside, outside, farther = colors[y, x].astype(np.float32)  # (≤ 33, C) each
        sharp = seen.mean() >= SEEN and _is_sharp(inside, outside, farther)
        if not sharp and seen.mean() >= WHOLE:
            return False
        if not sharp:
            at_border += 1
            continue
        hue, hue_outside = (levels.sum(axis=0) / max(float(levels.sum()), 1.0) for levels in (inside, outside))
        hues.append(float(np.abs(hue - hue_outside).max()))
    if at_border > 1:
        return False
    # Where some sides change the color, one that changes only the brightness is the edge of a shadow.
    return max(hues) < COLORED or min(hues) > ALIKE * max(hues)


def _is_sharp(inside: Levels, outside: Levels, farther: Levels) -> bool:
    """Whether colors, (N, C) each, change at an edge and hardly beyond it."""
    step = np.median(np.abs(outside - inside).max(axis=1))
    change, drift = (
        np.abs((there - here).mean(axis=0)).max() for here, there in ((inside, outside), (outside, farther))
    )
    return bool(step >= STEP and drift <= DRIFT * change)


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
