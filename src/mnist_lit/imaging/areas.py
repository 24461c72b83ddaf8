"""Smooth areas of a picture, such as sheets of paper: their outlines and corners. NumPy and OpenCV only."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_EDGE_GAP = 9  # widest gap in an edge, in pixels
MIN_FILLED = 0.92  # least fraction of its convex hull or its quadrilateral that an area fills
# How far a polygon may be from an outline, as a fraction of its length. For a quadrilateral they are tried in turn,
# since a finger may cover a corner.
POLYGON_TOLERANCE, CORNER_TOLERANCES = 0.01, (0.03, 0.05, 0.08)
MAX_HOLES = 0.05  # fraction of a round sheet that is holes: a zero has more

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float32]  # (N, 2): x and y, clockwise; a quadrilateral starts at the top left


class Area(NamedTuple):
    """A part of a picture without edges."""

    outline: NDArray[np.int32]  # (N, 1, 2): x and y
    hull: NDArray[Any]  # (M, 1, 2): the convex hull of the outline
    size: float  # within the outline, in pixels
    holes: float  # total area of its holes, in pixels


def smooth_areas(pixels: Pixels, edge: int, min_area: float) -> list[Area]:
    """The areas of a picture (H, W, C) without edges, the largest last. edge: least difference of neighbors at an edge,
    in gray levels. min_area: the smallest area to return, as a fraction of the picture."""
    near = np.ones((3, 3), np.uint8)
    steps = np.maximum.reduce(cv2.split(cv2.subtract(cv2.dilate(pixels, near), cv2.erode(pixels, near))))
    smooth = np.pad((steps < edge)[1:-1, 1:-1], 1).view(np.uint8)  # the picture's border is an edge
    opened = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, np.ones((MAX_EDGE_GAP, MAX_EDGE_GAP), np.uint8))
    outlines, links = cv2.findContours(opened, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    sizes = np.array([cv2.contourArea(outline) for outline in outlines])
    around = links[0][:, 3] if outlines else np.zeros(0)  # the outline around each hole; -1 for what is not a hole
    largest = sorted(np.flatnonzero((around < 0) & (sizes > min_area * steps.size)).tolist(), key=sizes.__getitem__)
    return [
        Area(
            np.asarray(outlines[n], np.int32),
            cv2.convexHull(outlines[n]),
            float(sizes[n]),
            float(sizes[around == n].sum()),
        )
        for n in largest
    ]


def quadrilateral(area: Area) -> Corners | None:
    """The corners of an area's outline if that is a quadrilateral."""
    for tolerance in CORNER_TOLERANCES:
        found = _approximate(area.hull, tolerance)
        if len(found) <= 4:
            break
    around = max(cv2.contourArea(area.hull), cv2.contourArea(found))
    return found if len(found) == 4 and area.size >= MIN_FILLED * around else None


def polygon(area: Area) -> Corners | None:
    """The corners of an area's outline if it is convex, as for round paper and scraps, and not that of a zero."""
    convex = area.size >= MIN_FILLED * cv2.contourArea(area.hull)
    return _approximate(area.hull, POLYGON_TOLERANCE) if convex and area.holes <= MAX_HOLES * area.size else None


def _approximate(hull: NDArray[Any], tolerance: float) -> Corners:
    """A polygon with fewer corners, clockwise from the start of the side that runs to the right."""
    found = cv2.approxPolyDP(hull, tolerance * cv2.arcLength(hull, True), True)[:, 0].astype(np.float32)
    from_middle = found - found.mean(axis=0)
    clockwise = found[np.arctan2(from_middle[:, 1], from_middle[:, 0]).argsort()]
    sides = np.roll(clockwise, -1, axis=0) - clockwise
    top = int((sides[:, 0] / np.maximum(np.linalg.norm(sides, axis=1), 1)).argmax())
    return np.asarray(np.roll(clockwise, -top, axis=0), np.float32)


def in_reading_order(found: list[Corners]) -> list[Corners]:
    """Polygons without those around others, in rows from the top, each row from the left."""
    middles = [corners.mean(axis=0).tolist() for corners in found]
    kept = [
        (middle, corners)
        for index, (middle, corners) in enumerate(zip(middles, found, strict=True))
        if not any(cv2.pointPolygonTest(corners, inner, False) > 0 for inner in middles[:index])
    ]
    rows: list[list[tuple[list[float], Corners]]] = []
    for middle, corners in sorted(kept, key=lambda pair: pair[0][1]):
        if rows and middle[1] < rows[-1][0][1][:, 1].max():  # above the bottom of the row's first one
            rows[-1].append((middle, corners))
        else:
            rows.append([(middle, corners)])
    return [corners for row in rows for _, corners in sorted(row, key=lambda pair: pair[0][0])]
