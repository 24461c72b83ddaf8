"""Find the sheets of paper that lie on a table in a photo, and flatten them. NumPy and OpenCV only."""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.areas import Area, Corners, Pixels, in_reading_order, polygon, quadrilateral, smooth_areas
from mnist_lit.imaging.border import border
from mnist_lit.imaging.sheet_edges import MIN_STEP, difference_from, has_edges, side_beside
from mnist_lit.imaging.sheet_writing import (
    MAX_STROKE,
    MIN_WRITING_CONTRAST,
    is_note,
    is_paper,
    is_part_of_page,
    is_printed,
    is_shadow,
    is_written_on,
)

SEARCH_SIDE = 240  # longer side in pixels of the resized picture that is searched for sheets
MIN_WHOLE_SCALE = 4 / 3  # least scale at which pictures are reduced by whole numbers: below, they would be halved
MIN_ASPECT = 0.25  # shorter side, as a fraction of the longer one, below which a picture is not searched
MIN_PHOTO_SIDE = 480  # longer side in pixels of a picture that may show a small sheet; a digit fills smaller ones
# For smaller pictures and for photos: side in pixels of the thumbnail for a quick check, and the least fraction of it
# that differs from its border, as a table or a sheet does, but not a stroke.
THUMBNAIL_SIDE, MIN_SURROUNDINGS = (24, 40), (0.06, 0.005)
MIN_AREA = (0.12, 0.01)  # for the same two: least fraction of the picture in the sheet's area without its edges
MAX_AREA = 0.97
MAX_ENLARGED_STROKE = 29  # like MAX_STROKE, in an enlarged picture
CUT_OUT_INSET = 7  # pixels of the resized picture by which a sheet that is not a quadrilateral is smaller
EDGE_STEPS = (9, 6, 18)  # least difference of neighbors at an edge, in gray levels, tried in turn
CHROMATICITY_LEVELS = 450  # between a color that is none of the brightness and one that is all of it
MIN_BRIGHTNESS = 48  # least sum of red, green and blue that shows a color
EDGE_INSET = 0.01  # fraction of the picture's longer side by which the sheet's edge is left out


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


# Document scanners look for a large quadrilateral whose sides are edges. Here it is the outline of a large area without
# edges, once a closing has removed the writing. Shadows and the light from a window have straight edges, too, but they
# run from border to border or are soft, so at least three sides of a sheet must be in view and sharp. Two are enough on
# a table that is much darker than any shadow, or of another color. And shadows change no color, so we look for the area
# in brightness and then in color. Without a quadrilateral, other convex areas count, unless the picture is so small
# that the area may be the inside of a zero.
def find_sheets(pixels: Pixels) -> list[Sheet]:
    """The sheets of paper in a photo, (H, W) or (H, W, 3), in reading order; empty unless at least two sides of one are
    in view."""
    is_photo = max(pixels.shape[:2]) >= MIN_PHOTO_SIDE
    if min(pixels.shape[:2]) < MIN_ASPECT * max(pixels.shape[:2]) or not _has_surroundings(pixels, is_photo):
        return []
    resized, scale = _resized(pixels)
    height, width = resized.shape[:2]
    stroke = MAX_STROKE if scale > 1 else MAX_ENLARGED_STROKE
    paper = cv2.morphologyEx(resized, cv2.MORPH_CLOSE, np.ones((stroke, stroke), np.uint8))
    small = np.asarray(cv2.medianBlur(paper, 5), np.uint8).reshape(height, width, -1)
    contrast = np.asarray(np.maximum.reduce(cv2.split(cv2.subtract(paper, resized))), np.uint8)
    scene = _Scene(small, resized.reshape(small.shape), contrast, stroke)
    areas = scene.candidates(MIN_AREA[is_photo])
    found = scene.outlines(quadrilateral, areas)
    if found or is_photo:
        # The closing has filled narrow strips of table, and so may have joined two sheets to one area, or a sheet to
        # what is beyond a corner of the table.
        apart = scene._replace(paper=np.asarray(cv2.medianBlur(resized, 5), np.uint8).reshape(small.shape))
        others = scene.outlines(quadrilateral, apart.candidates(MIN_AREA[is_photo]))
        found = max(found, [corners for corners in others if is_written_on(scene.writing, corners)], key=len)
    if found:
        return [_flatten(pixels, corners * scale) for corners in in_reading_order(found)]
    polygons = scene.outlines(polygon, areas) if scale > 1 else []
    return [_cut_out(pixels, corners * scale) for corners in in_reading_order(polygons)]


class _Scene(NamedTuple):
    """A resized picture that is searched for sheets."""

    paper: Pixels  # (H, W, C), without the writing
    seen: Pixels  # (H, W, C), with it
    contrast: Pixels  # (H, W), of what the closing has removed
    stroke: int  # greatest width of strokes, and of strips of table mistaken for strokes

    @property
    def writing(self) -> NDArray[np.bool_]:
        """Where the contrast is that of writing: (H, W)."""
        return np.asarray(self.contrast > MIN_WRITING_CONTRAST)

    def candidates(self, min_area: float) -> list[tuple[Pixels, list[Area]]]:
        """The areas that may be sheets: in brightness and then in color, for each difference that may be an edge."""
        versions = [self.paper, _colors(self.paper)] if self.paper.shape[2] > 1 else [self.paper]
        return [(version, smooth_areas(version, edge, min_area)) for version in versions for edge in EDGE_STEPS]

    def outlines(
        self, shape: Callable[[Area], Corners | None], candidates: list[tuple[Pixels, list[Area]]]
    ) -> list[Corners]:
        """The outlines of sheets among the first of these areas that have some."""
        largest = MAX_AREA * self.writing.size
        for version, areas in candidates:
            inside = [a for a in areas if a.size < largest and not is_printed(self.paper, self.writing, a, areas)]
            outlines = [corners for area in inside if (corners := shape(area)) is not None]
            lit = [corners for corners in outlines if is_paper(self.writing, corners)]
            lit_sides = [(corners, self._side_beside(corners, lit)) for corners in lit]
            sheets = [
                (corners, side)
                for corners, side in lit_sides
                if side is not None or not is_shadow(self.paper, self.writing, corners)
            ]
            found = [corners for corners, side in sheets if has_edges(version, corners, side)]
            found = [corners for corners in found if _is_large(corners, self.paper) or is_note(self.seen, corners)]
            if found and not is_part_of_page(self.paper, self.contrast, found, self.stroke):
                return found
        return []

    def _side_beside(self, one: Corners, lit: list[Corners]) -> int | None:
        """See `side_beside`; only sheets with writing are beside each other."""
        if len(lit) == 1 or not is_written_on(self.writing, one):
            return None
        others = [other for other in lit if other is not one and is_written_on(self.writing, other)]
        return side_beside(self.seen, one, others, self.stroke)


def _resized(pixels: Pixels) -> tuple[Pixels, float]:
    """The picture with a longer side of about SEARCH_SIDE, and the scale: pixels of the picture per resized pixel."""
    scale, resampling = max(pixels.shape[:2]) / SEARCH_SIDE, cv2.INTER_LINEAR
    if scale >= MIN_WHOLE_SCALE:  # reducing by a whole number is several times as fast
        scale, resampling = math.ceil(scale), cv2.INTER_AREA
        pixels = pixels[: len(pixels) // scale * scale, : pixels.shape[1] // scale * scale]
    height, width = (round(side / scale) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=resampling), np.uint8), scale


def _has_surroundings(pixels: Pixels, is_photo: bool) -> bool:  # noqa: FBT001
    """Whether something other than strokes differs from the picture's border; a quick check that spares most small
    pictures the search."""
    side = THUMBNAIL_SIDE[is_photo]
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # every pixel would take as long as the rest
    some = np.ascontiguousarray(pixels[::step, ::step])
    coarse = np.asarray(cv2.resize(some, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    around = np.median(border(coarse), axis=0).astype(np.uint8)
    return bool((cv2.medianBlur(difference_from(coarse, around), 7) > MIN_STEP).mean() > MIN_SURROUNDINGS[is_photo])


def _colors(pixels: Pixels) -> Pixels:
    """The chromaticity, each color's fraction of the brightness, (H, W, 3): the same in the light and in a shadow."""
    levels = pixels.astype(np.float32)
    total = np.maximum(cv2.transform(levels, np.ones((1, 3), np.float32))[..., None], MIN_BRIGHTNESS)
    return np.asarray((levels * (CHROMATICITY_LEVELS / total) + (128 - CHROMATICITY_LEVELS / 3)).clip(0, 255), np.uint8)


def _is_large(corners: Corners, pixels: Pixels) -> bool:
    """Whether a polygon covers so much of a picture that hardly anything but a sheet does."""
    return bool(cv2.contourArea(corners) > MIN_AREA[0] * pixels.shape[0] * pixels.shape[1])


def _flatten(pixels: Pixels, corners: Corners) -> Sheet:
    """The part of a picture between four corners as a rectangle, without its edge. One that is upright is cropped:
    resampling would blur the strokes."""
    inset = EDGE_INSET * max(pixels.shape[:2])
    near = max(1.0, inset)
    spans = []  # of columns and rows
    for at, side in zip(np.sort(corners, axis=0).T.tolist(), pixels.shape[1::-1], strict=True):
        start = 0 if at[1] <= near else math.ceil(at[1])
        stop = side if at[2] >= side - 1 - near else math.floor(at[2]) + 1
        if max(at[1] - at[0], at[3] - at[2]) <= near and stop > start + 1:
            spans.append(slice(start, stop))
    if len(spans) == 2:
        return upright_sheet(pixels, *spans)
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    width, height = (max(2, round(float(lengths[side] + lengths[side + 2]) / 2)) for side in (0, 1))
    left, top, right, bottom = -inset, -inset, width + inset, height + inset
    flat = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    to_sheet = cv2.getPerspectiveTransform(corners, flat)
    sheet = cv2.warpPerspective(pixels, to_sheet, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return Sheet(np.asarray(sheet, np.uint8), np.asarray(np.linalg.inv(to_sheet), np.float64))


def upright_sheet(pixels: Pixels, columns: slice, rows: slice) -> Sheet:
    """The part of a picture in these columns and rows."""
    to_picture = np.array([[1.0, 0, columns.start], [0, 1, rows.start], [0, 0, 1]])
    return Sheet(np.ascontiguousarray(pixels[rows, columns]), to_picture)


def _cut_out(pixels: Pixels, corners: Corners) -> Sheet:
    """The part of a picture around a polygon; outside, the nearest paper continues."""
    x, y, width, height = cv2.boundingRect(corners.astype(np.int32))
    part = pixels[y : y + height, x : x + width]
    scale = -(-max(part.shape[:2]) // SEARCH_SIDE)
    reduced = cv2.resize(part, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    outside = np.ones(reduced.shape[:2], np.uint8)
    cv2.fillConvexPoly(outside, ((corners - (x, y)) / scale).astype(np.int32), 0)
    outside = cv2.dilate(outside, np.ones((CUT_OUT_INSET, CUT_OUT_INSET), np.uint8))
    paper = cv2.morphologyEx(reduced, cv2.MORPH_CLOSE, np.ones((MAX_STROKE, MAX_STROKE), np.uint8))
    _, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colors = np.zeros((int(nearest.max()) + 1, *paper.shape[2:]), np.uint8)
    colors[nearest[outside == 0]] = paper[outside == 0]
    around = cv2.resize(
        cv2.blur(colors[nearest], (MAX_STROKE, MAX_STROKE)), part.shape[1::-1], interpolation=cv2.INTER_LINEAR
    )
    hidden = cv2.resize(outside, part.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    sheet = np.where(hidden if part.ndim == 2 else hidden[..., None], around, part)
    return upright_sheet(pixels, slice(x, x + width), slice(y, y + height))._replace(pixels=np.asarray(sheet, np.uint8))
