"""Find the sheets of paper that lie on a table in a photo, and flatten them. NumPy and OpenCV only."""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.border import border
from mnist_lit.imaging.ink import TABLE

SIDE = 240  # longer side in pixels of the resized picture in which the sheet is looked for
WHOLE_SCALE = 4 / 3  # least scale at which pictures are reduced by whole numbers: nearer to 1, they would be halved
NARROW = 0.25  # shorter side, as a share of the longer one, below which no sheet is looked for
PHOTO = 480  # longer side in pixels of a picture that may show a small sheet; a smaller one is filled by its digit
# In smaller pictures and in photos: sides in pixels of the picture of the first, quick look, and the least share of it
# that differs from its border, as a table or a sheet does, but not a stroke.
COARSE, SURROUNDINGS = (24, 40), (0.06, 0.005)
# In pixels of the resized picture.
STROKE, GAP = 15, 9  # widest stroke that is not an edge of the paper, and widest gap in an edge
THICK_STROKE = 29  # the widest stroke in an enlarged picture, which its digit fills
INSIDE = 7  # by which a cut-out sheet is smaller
DISTANCES = (-2, 7, 14, 28, 42)  # from an edge: the first three show it, the others whether there is paper again
EDGES = (9, 6, 18)  # least difference of neighbors at an edge, in gray levels; tried in turn
STEP, WRITING = 14.0, 42  # least difference of paper and table, and of paper and ink, in gray levels
DRIFT = 0.8  # largest change of the table's color from the second to the third distance, as a share of that at the edge
ENCLOSED = 0.2  # greatest share of a polygon's edge beyond which there is paper again, as around a zero
COLORED, ALIKE = 0.03, 0.25  # least change of a color's share; below this share of the largest, it is brightness only
COLOR, DARK = 450, 48  # gray levels for a share of 1; least sum of red, green and blue that shows a color
HOLES = 0.05  # largest share of holes in a round sheet: a zero has more
# Of a small sheet: least share of what is around it that is table, least share of it that is writing, and least shorter
# side as a share of the longer one.
ALL_AROUND, WRITTEN, STRIP = 0.95, 0.02, 0.38
PRINTED = 0.003  # share of the picture that is writing around a box on a page
FAR_DARKER = 0.5  # a table's brightness, as a share of the paper's, below which it is not in shadow; and ink's
SEEN, WHOLE = 0.6, 0.8  # least share of a side in view that shows an edge; above the second one it must
LEAST, MOST = (0.12, 0.01), 0.97  # least share of the picture that the sheet covers, in the same two, and greatest
STRAIGHT = 0.92  # least share of its quadrilateral that the sheet fills
ROUND = 0.01  # how far a polygon may be from an outline, as a share of its length
CORNERS = (0.03, 0.05, 0.08)  # the same of a quadrilateral, tried in turn: a finger covers corners
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


class Area(NamedTuple):
    """A part of a picture without edges."""

    outline: NDArray[np.int32]  # (N, 1, 2): x and y
    hull: NDArray[Any]  # (M, 1, 2): the convex hull of the outline
    size: float  # within the outline, in pixels
    holes: float  # size of those in it


# Document scanners look for a large quadrilateral whose sides are edges. Here it is the outline of a large area without
# edges, once a closing has removed the writing. Shadows and the light from a window have straight edges, too, but they
# run from border to border or are soft, so all sides of a sheet but one must be in view, and sharp; or two of them on a
# table that is much darker than any shadow, or of another color. And shadows change no color, so we look for the area
# in brightness and then in color. Without a quadrilateral, other convex areas count, unless the picture is so small
# that the area may be the inside of a zero.
def find_sheets(pixels: Pixels) -> list[Sheet]:
    """The sheets of paper in a photo, (H, W) or (H, W, 3), in reading order; empty unless at least two sides of one are
    in view."""
    is_photo = max(pixels.shape[:2]) >= PHOTO
    if min(pixels.shape[:2]) < NARROW * max(pixels.shape[:2]) or not _has_surroundings(pixels, is_photo):
        return []
    resized, scale = _resized(pixels)
    height, width = resized.shape[:2]
    stroke = STROKE if scale > 1 else THICK_STROKE
    paper = cv2.morphologyEx(resized, cv2.MORPH_CLOSE, np.ones((stroke, stroke), np.uint8))
    small = np.asarray(cv2.medianBlur(paper, 5), np.uint8).reshape(height, width, -1)
    writing = np.maximum.reduce(cv2.split(cv2.subtract(paper, resized))) > WRITING
    versions = [small, _colors(small)] if small.shape[2] > 1 else [small]
    candidates = [(version, _smooth_areas(version, edge, LEAST[is_photo])) for version in versions for edge in EDGES]
    shapes = [(_quadrilateral, _flatten), (_polygon, _cut_out)][: 2 if scale > 1 else 1]
    for shape, sheet in shapes:
        for version, areas in candidates:
            inside = [
                area
                for area in areas
                if area.size < MOST * height * width and not _is_printed(small, writing, area, areas)
            ]
            outlines = [corners for area in inside if (corners := shape(area)) is not None]
            found = [corners for corners in outlines if _is_paper(writing, corners) and _has_edges(version, corners)]
            found = [
                corners
                for corners in found
                if _is_large(corners, small) or _is_note(resized.reshape(small.shape), corners)
            ]
            if found:
                return [sheet(pixels, corners * scale) for corners in in_reading_order(found)]
    return []


def _resized(pixels: Pixels) -> tuple[Pixels, float]:
    """The picture with a longer side of about SIDE, and how many of its pixels each of those stands for."""
    scale, resampling = max(pixels.shape[:2]) / SIDE, cv2.INTER_LINEAR
    if scale >= WHOLE_SCALE:  # a multiple of a whole number is reduced several times as fast
        scale, resampling = math.ceil(scale), cv2.INTER_AREA
        pixels = pixels[: len(pixels) // scale * scale, : pixels.shape[1] // scale * scale]
    height, width = (round(side / scale) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=resampling), np.uint8), scale


def _has_surroundings(pixels: Pixels, is_photo: bool) -> bool:  # noqa: FBT001
    """Whether something other than strokes differs from what is along the picture's border; a quick look that spares
    most small pictures the search."""
    side = COARSE[is_photo]
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # every pixel would take as long as the rest
    some = np.ascontiguousarray(pixels[::step, ::step])
    coarse = np.asarray(cv2.resize(some, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    around = np.median(border(coarse), axis=0).astype(np.uint8)
    return bool((cv2.medianBlur(difference_from(coarse, around), 7) > STEP).mean() > SURROUNDINGS[is_photo])


def difference_from(pixels: Pixels, color: NDArray[Any]) -> Pixels:
    """How much each pixel of a picture differs from a color, in the channel where it differs most: (H, W)."""
    return np.asarray(np.maximum.reduce(cv2.split(cv2.absdiff(pixels, np.full_like(pixels, color)))), np.uint8)


def _colors(pixels: Pixels) -> Pixels:
    """Each color's share of the brightness, (H, W, 3): the same in the light and in a shadow."""
    levels = pixels.astype(np.float32)
    total = np.maximum(cv2.transform(levels, np.ones((1, 3), np.float32))[..., None], DARK)
    return np.asarray((levels * (COLOR / total) + (128 - COLOR / 3)).clip(0, 255), np.uint8)


def _smooth_areas(pixels: Pixels, edge: int, least: float) -> list[Area]:
    """The areas of a picture (H, W, C) where neighbors differ less than at an edge, the largest last. least: the share
    of the picture that they cover."""
    near = np.ones((3, 3), np.uint8)
    steps = np.maximum.reduce(cv2.split(cv2.subtract(cv2.dilate(pixels, near), cv2.erode(pixels, near))))
    smooth = np.pad((steps < edge)[1:-1, 1:-1], 1).view(np.uint8)  # the picture's border is an edge
    opened = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, np.ones((GAP, GAP), np.uint8))
    outlines, links = cv2.findContours(opened, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    sizes = np.array([cv2.contourArea(outline) for outline in outlines])
    around = links[0][:, 3] if outlines else np.zeros(0)  # the outline around each hole; -1 for what is not a hole
    largest = sorted(np.flatnonzero((around < 0) & (sizes > least * steps.size)).tolist(), key=sizes.__getitem__)
    return [
        Area(
            np.asarray(outlines[n], np.int32),
            cv2.convexHull(outlines[n]),
            float(sizes[n]),
            float(sizes[around == n].sum()),
        )
        for n in largest
    ]


def _is_printed(pixels: Pixels, writing: NDArray[np.bool_], area: Area, areas: list[Area]) -> bool:
    """Whether an area is printed on a page: there is writing around it, on a larger area that is not much darker.
    pixels: (H, W, C). writing: (H, W)."""
    middle = area.outline.mean(axis=(0, 1)).tolist()
    larger = [other.hull for other in areas if other.size > area.size]
    pages = [hull for hull in larger if cv2.pointPolygonTest(hull, middle, False) > 0]
    if not pages:
        return False
    boxes = [other.hull for other in areas if not any(other.hull is page for page in pages)]
    blank = np.zeros(writing.shape, np.uint8)
    page = cv2.erode(cv2.drawContours(blank.copy(), pages, -1, 1, -1), np.ones((GAP, GAP), np.uint8))
    near = np.ones((2 * STROKE + 1, 2 * STROKE + 1), np.uint8)
    covered = cv2.dilate(cv2.drawContours(blank, boxes, -1, 1, -1), near)
    beside = page > covered
    if np.count_nonzero(writing & beside) <= PRINTED * writing.size:
        return False
    box = cv2.drawContours(np.zeros_like(page), [area.outline], 0, 1, -1)
    around, inside = (sum(cv2.mean(pixels, where)) for where in (beside.view(np.uint8), box))
    return around > TABLE * inside


def _quadrilateral(area: Area) -> Corners | None:
    """The corners of an area's outline if that is a quadrilateral."""
    for tolerance in CORNERS:
        found = _approximate(area.hull, tolerance)
        if len(found) <= 4:
            break
    around = max(cv2.contourArea(area.hull), cv2.contourArea(found))
    return found if len(found) == 4 and area.size >= STRAIGHT * around else None


def _polygon(area: Area) -> Corners | None:
    """The corners of an area's outline if it is convex, as for round paper and scraps, and not that of a zero."""
    convex = area.size >= STRAIGHT * cv2.contourArea(area.hull)
    return _approximate(area.hull, ROUND) if convex and area.holes <= HOLES * area.size else None


def _approximate(hull: NDArray[Any], tolerance: float) -> Corners:
    """A polygon with fewer corners, clockwise from the start of the side that runs to the right."""
    found = cv2.approxPolyDP(hull, tolerance * cv2.arcLength(hull, True), True)[:, 0].astype(np.float32)
    from_middle = found - found.mean(axis=0)
    clockwise = found[np.arctan2(from_middle[:, 1], from_middle[:, 0]).argsort()]
    sides = np.roll(clockwise, -1, axis=0) - clockwise
    top = int((sides[:, 0] / np.maximum(np.linalg.norm(sides, axis=1), 1)).argmax())
    return np.asarray(np.roll(clockwise, -top, axis=0), np.float32)


def in_reading_order(found: list[Corners]) -> list[Corners]:
    """Polygons without those around others, in rows from the top, each from the left."""
    middles = [corners.mean(axis=0).tolist() for corners in found]
    kept = [
        (middle, corners)
        for place, (middle, corners) in enumerate(zip(middles, found, strict=True))
        if not any(cv2.pointPolygonTest(corners, inner, False) > 0 for inner in middles[:place])
    ]
    rows: list[list[tuple[list[float], Corners]]] = []
    for middle, corners in sorted(kept, key=lambda pair: pair[0][1]):
        if rows and middle[1] < rows[-1][0][1][:, 1].max():  # above the lower end of the row's first
            rows[-1].append((middle, corners))
        else:
            rows.append([(middle, corners)])
    return [corners for row in rows for _, corners in sorted(row, key=lambda pair: pair[0][0])]


def _has_edges(colors: Pixels, corners: Corners) -> bool:
    """Whether a polygon's sides separate paper from table. One may be out of view, or two of a quadrilateral if the
    table is far darker or of another color."""
    sides: list[Levels] = []
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        levels, seen = _levels_across(colors, start, stop)
        if seen >= SEEN and _is_sharp(*levels[:3]):
            sides.append(levels)
        elif seen >= WHOLE:
            return False
    hues = [_hue_change(levels[0], levels[1]) for levels in sides]
    far = all(levels[1].sum() < FAR_DARKER * levels[0].sum() for levels in sides) or min(hues, default=0) > COLORED
    # Where some sides change the color, one that changes only the brightness is the edge of a shadow.
    in_shadow = max(hues, default=0) > COLORED and min(hues) < ALIKE * max(hues)
    if len(corners) - len(sides) > 1 + (far and len(corners) == 4) or in_shadow:
        return False
    doubtful = len(corners) > 4 or len(sides) == 2
    if doubtful and np.concatenate([_is_stroke(levels) for levels in sides]).mean() > ENCLOSED:
        return False  # the inside of a zero, or of the corner of a seven
    sheet = _filled(corners, colors.shape)
    outside = border(colors)[border(sheet) == 0]
    if not len(outside):
        return False
    paper = np.mean([levels[0].mean(axis=0) for levels in sides], axis=0)
    return bool(np.median(np.abs(outside - paper).max(axis=1)) > STEP)  # otherwise it is paper, too, as around a box


def _filled(corners: Corners, shape: tuple[int, ...]) -> Pixels:
    """A polygon in a picture of that shape: 1 inside, 0 outside, (H, W)."""
    return np.asarray(cv2.fillConvexPoly(np.zeros(shape[:2], np.uint8), corners.round().astype(np.int32), 1), np.uint8)


def _is_paper(writing: NDArray[np.bool_], corners: Corners) -> bool:
    """Whether most of a polygon is paper, not the background of light digits that the closing has joined."""
    return bool(writing[_filled(corners, writing.shape) > 0].mean() < 0.5)


def _is_large(corners: Corners, pixels: Pixels) -> bool:
    """Whether a polygon covers so much of a picture that hardly anything but a sheet does."""
    return bool(cv2.contourArea(corners) > LEAST[0] * pixels.shape[0] * pixels.shape[1])


# In a digit that fills the picture, parts of strokes and the paper between them may look like small sheets.
def _is_note(pixels: Pixels, corners: Corners) -> bool:
    """Whether a quadrilateral is a small sheet: there is writing on it, and table all around it and along the picture's
    border. pixels: (H, W, C), with the writing."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    if len(corners) > 4 or sides.min() < STRIP * sides.max():
        return False
    near = np.ones((GAP, GAP), np.uint8)
    sheet = _filled(corners, pixels.shape)
    inner, outer = cv2.erode(sheet, near), cv2.dilate(sheet, near, iterations=2)
    around = cv2.dilate(outer, np.ones((3, 3), np.uint8)) > outer
    if not inner.any():
        return False
    paper, table = (np.median(part, axis=0).round() for part in (pixels[inner > 0], border(pixels)))
    if paper.sum() < FAR_DARKER * table.sum():  # ink on paper
        return False
    difference = difference_from(pixels, paper)
    differs = min(float((levels > STEP).mean()) for levels in (difference[around], border(difference)))
    darker = (paper - pixels[inner > 0]).max(axis=1)  # the paper in the loops of a digit is lighter than its ink
    return differs > ALL_AROUND and float((darker > WRITING).mean()) > WRITTEN


def _levels_across(colors: Pixels, start: Levels, stop: Levels) -> tuple[Levels, float]:
    """The colors at DISTANCES from one side of a polygon, (len(DISTANCES), N, C), at those of 33 points where the
    first two are in the picture; and the share of such points. Beyond the picture, the colors at its border count."""
    height, width = colors.shape[:2]
    points = start + np.linspace(0.1, 0.9, 33)[:, None] * (stop - start)
    right, down = (stop - start) / max(float(np.linalg.norm(stop - start)), 1.0)
    across = np.array([points + distance * np.array([down, -right]) for distance in DISTANCES]).round().astype(int)
    seen = np.all((across >= 0) & (across < (width, height)), axis=2)[:2].all(axis=0)
    x, y = across[:, seen].clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
    return colors[y, x].astype(np.float32), float(seen.mean())


def _hue_change(inside: Levels, outside: Levels) -> float:
    """How much the share of a color in the brightness changes at an edge."""
    hues = [levels.sum(axis=0) / max(float(levels.sum()), 1.0) for levels in (inside, outside)]
    return float(np.abs(hues[0] - hues[1]).max())


def _is_stroke(levels: Levels) -> NDArray[np.bool_]:
    """Where there is paper again beyond an edge: levels (D, N, C) from the inside → (N,)."""
    inside, outside, _, *beyond = levels
    again = [np.abs(there - inside).sum(axis=1) < np.abs(there - outside).sum(axis=1) for there in beyond]
    return np.asarray(np.any(again, axis=0))


def _is_sharp(inside: Levels, outside: Levels, farther: Levels) -> bool:
    """Whether colors, (N, C) each, change at an edge and hardly beyond it."""
    step = np.median(np.abs(outside - inside).max(axis=1))
    change, drift = (
        np.abs((there - here).mean(axis=0)).max() for here, there in ((inside, outside), (outside, farther))
    )
    return bool(step >= STEP and drift <= DRIFT * change)


def _flatten(pixels: Pixels, corners: Corners) -> Sheet:
    """The part of a picture between four corners as a rectangle, without its edge. One that is upright is cropped:
    resampling would blur the strokes."""
    inset = INSET * max(pixels.shape[:2])
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
    """The part of a picture around a polygon; the paper at its edge continues outside."""
    x, y, width, height = cv2.boundingRect(corners.astype(np.int32))
    part = pixels[y : y + height, x : x + width]
    scale = -(-max(part.shape[:2]) // SIDE)
    reduced = cv2.resize(part, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    outside = np.ones(reduced.shape[:2], np.uint8)
    cv2.fillConvexPoly(outside, ((corners - (x, y)) / scale).astype(np.int32), 0)
    outside = cv2.dilate(outside, np.ones((INSIDE, INSIDE), np.uint8))
    paper = cv2.morphologyEx(reduced, cv2.MORPH_CLOSE, np.ones((STROKE, STROKE), np.uint8))
    _, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colors = np.zeros((int(nearest.max()) + 1, *paper.shape[2:]), np.uint8)
    colors[nearest[outside == 0]] = paper[outside == 0]
    around = cv2.resize(cv2.blur(colors[nearest], (STROKE, STROKE)), part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    hidden = cv2.resize(outside, part.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    sheet = np.where(hidden if part.ndim == 2 else hidden[..., None], around, part)
    return upright_sheet(pixels, slice(x, x + width), slice(y, y + height))._replace(pixels=np.asarray(sheet, np.uint8))
