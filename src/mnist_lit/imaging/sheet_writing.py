"""Tell a sheet of paper on a table from a part of a page by the writing on it and around it. NumPy and OpenCV only."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.areas import MAX_EDGE_GAP, Area, Corners, Pixels
from mnist_lit.imaging.border import border
from mnist_lit.imaging.components import clear_of_border, label_components
from mnist_lit.imaging.ink import TABLE_BRIGHTNESS
from mnist_lit.imaging.sheet_edges import (
    FAR_DARKER,
    MIN_CHROMATICITY_CHANGE,
    MIN_STEP,
    chromaticity_change,
    difference_from,
    filled,
)

# In pixels of the resized picture.
MAX_STROKE = 15  # widest stroke that is not an edge of the paper
SIDE_WIDTH = 7  # of a sheet's sides, which a stroke may cross
MIN_WRITING_SIZE = 6  # longer side of a piece of writing
MIN_WRITING_CONTRAST = 42  # least difference of paper and ink, in gray levels
MIN_PRINT = 0.003  # least fraction of the picture that is writing around a box on a page
MIN_BESIDE, MIN_BESIDE_RATIO = 2, 0.25  # pieces of writing around a part of a page; as a fraction of those on it
GRAIN_LEVELS = 3  # least contrast of writing, as a multiple of the upper quartile of the contrast around the sheet
INK_LEVEL = 0.998  # fraction of a sheet's pixels that are lighter than its darkest ink
MIN_NOTE_TABLE = 0.95  # fraction of a small sheet's surroundings that is table
MIN_NOTE_WRITING = 0.02  # fraction of a small sheet that is writing
MIN_NOTE_ASPECT = 0.38  # shortest side of a small sheet, as a fraction of its longest


def is_printed(pixels: Pixels, writing: NDArray[np.bool_], area: Area, areas: list[Area]) -> bool:
    """Whether an area is printed on a page: there is writing around it, on a larger area that is not much darker.
    pixels: (H, W, C). writing: (H, W)."""
    middle = area.outline.mean(axis=(0, 1)).tolist()
    larger = [other.hull for other in areas if other.size > area.size]
    pages = [hull for hull in larger if cv2.pointPolygonTest(hull, middle, False) > 0]
    if not pages:
        return False
    boxes = [other.hull for other in areas if not any(other.hull is page for page in pages)]
    blank = np.zeros(writing.shape, np.uint8)
    page = cv2.erode(cv2.drawContours(blank.copy(), pages, -1, 1, -1), np.ones((MAX_EDGE_GAP, MAX_EDGE_GAP), np.uint8))
    near = np.ones((2 * MAX_STROKE + 1, 2 * MAX_STROKE + 1), np.uint8)
    covered = cv2.dilate(cv2.drawContours(blank, boxes, -1, 1, -1), near)
    beside = page > covered
    if np.count_nonzero(writing & beside) <= MIN_PRINT * writing.size:
        return False
    box = cv2.drawContours(np.zeros_like(page), [area.outline], 0, 1, -1)
    around, inside = (sum(cv2.mean(pixels, where)) for where in (beside.view(np.uint8), box))
    return around > TABLE_BRIGHTNESS * inside


def is_paper(writing: NDArray[np.bool_], corners: Corners) -> bool:
    """Whether most of a polygon is paper, rather than light digits on a dark background that the closing has joined."""
    return bool(writing[filled(corners, writing.shape) > 0].mean() < 0.5)


def is_written_on(writing: NDArray[np.bool_], corners: Corners) -> bool:
    """Whether there is writing inside a polygon, not only along its sides."""
    near = np.ones((MAX_EDGE_GAP, MAX_EDGE_GAP), np.uint8)
    return bool(writing[cv2.erode(filled(corners, writing.shape), near) > 0].any())


# A shadow with three sides in view looks like a darker sheet of the same color, but writing does not end at its sides.
def is_shadow(pixels: Pixels, writing: NDArray[np.bool_], corners: Corners) -> bool:
    """Whether a polygon is darker than what is around it, of the same color, and a stroke crosses its sides. pixels:
    (H, W, C)."""
    near = np.ones((SIDE_WIDTH, SIDE_WIDTH), np.uint8)
    sheet = filled(corners, writing.shape)
    inside, outside = cv2.erode(sheet, near) > 0, cv2.dilate(sheet, near) == 0
    if not (inside.any() and outside.any()) or pixels[inside].mean() >= pixels[outside].mean():
        return False
    levels = (pixels[part].astype(np.float32) for part in (inside, outside))
    if chromaticity_change(*levels) > MIN_CHROMATICITY_CHANGE:
        return False
    labels, stats = label_components(cv2.dilate(writing.view(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    counts = (np.bincount(labels[part], minlength=len(stats))[1:] for part in (inside, outside))
    return bool(np.logical_and(*counts).any())


# The panels between the folds of a page, and the shadow of a phone, have straight edges and the color of what is around
# them, as a sheet on a table may. But they reach the picture's border, and the writing continues beyond their edges.
def is_part_of_page(paper: Pixels, contrast: Pixels, sheets: list[Corners], strip: int) -> bool:
    """Whether sheets that reach the picture's border are parts of one page: their surroundings have their color, are
    not far darker, and have at least a quarter as many pieces of writing, of the same size and as dark. paper:
    (H, W, C), without the writing. contrast: (H, W), of the writing. strip: the greatest width of a strip of table
    between two sheets, in pixels."""
    near = np.ones((MAX_EDGE_GAP, MAX_EDGE_GAP), np.uint8)
    covered = np.maximum.reduce([filled(corners, contrast.shape) for corners in sheets])
    if not border(cv2.dilate(covered, near)).any():
        return False
    inside = cv2.erode(covered, near) > 0
    covered = cv2.morphologyEx(covered, cv2.MORPH_CLOSE, np.ones((strip + 2, strip + 2), np.uint8))
    covered = np.asarray(cv2.dilate(covered, near), np.uint8)  # with the edges
    for corner in np.concatenate(sheets).round().astype(int).tolist():  # an area's corners are rounded
        cv2.circle(covered, corner, MAX_EDGE_GAP, 1, -1)
    outside, beside = covered == 0, cv2.dilate(covered, near) > covered
    if not (inside.any() and beside.any()):
        return False
    sheet, around = (np.median(paper[part], axis=0)[None] for part in (inside, beside))
    if around.sum() < FAR_DARKER * sheet.sum() or chromaticity_change(sheet, around) > MIN_CHROMATICITY_CHANGE:
        return False
    darkest, grain = np.quantile(contrast[inside], INK_LEVEL), np.quantile(contrast[outside], 0.75)
    dark = contrast > max(MIN_STEP, darkest / 2, GRAIN_LEVELS * grain)
    ink = cv2.dilate(dark.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    written = label_components(ink & inside)[1][1:, 2:4].max(axis=1)
    # What touches a lighter sheet may be the shadow that it casts.
    others = _sizes(ink & outside, covered if sheet.sum() > around.sum() else np.zeros_like(covered))
    least, most = float(MIN_WRITING_SIZE), math.inf
    if len(written):
        usual = float(np.quantile(written, 0.5, weights=written, method="inverted_cdf"))
        least, most = max(least, usual / 2), 2 * usual
    count, alike = (np.count_nonzero((sizes >= least) & (sizes <= most)) for sizes in (written, others))
    return bool(alike >= max(MIN_BESIDE, MIN_BESIDE_RATIO * count))


def _sizes(ink: NDArray[np.bool_], apart_from: Pixels) -> NDArray[np.int64]:
    """The sizes of the pieces of ink that touch neither an area nor the picture's border, where the closing takes
    corners of the table for writing."""
    labels, stats = label_components(ink)
    kept = clear_of_border(stats, ink.shape)
    kept[0] = False
    kept[labels[cv2.dilate(apart_from, np.ones((3, 3), np.uint8)) > 0]] = False
    return np.asarray(stats[kept, 2:4].max(axis=1))


# In a digit that fills the picture, parts of strokes and the paper between them may look like small sheets.
def is_note(pixels: Pixels, corners: Corners) -> bool:
    """Whether a quadrilateral is a small sheet: there is writing on it, and table all around it and along the picture's
    border. pixels: (H, W, C), with the writing."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    if len(corners) > 4 or sides.min() < MIN_NOTE_ASPECT * sides.max():
        return False
    near = np.ones((MAX_EDGE_GAP, MAX_EDGE_GAP), np.uint8)
    sheet = filled(corners, pixels.shape)
    inner, outer = cv2.erode(sheet, near), cv2.dilate(sheet, near, iterations=2)
    around = cv2.dilate(outer, np.ones((3, 3), np.uint8)) > outer
    if not inner.any():
        return False
    paper, table = (np.median(part, axis=0).round() for part in (pixels[inner > 0], border(pixels)))
    if paper.sum() < FAR_DARKER * table.sum():  # ink on paper
        return False
    difference = difference_from(pixels, paper)
    differs = min(float((levels > MIN_STEP).mean()) for levels in (difference[around], border(difference)))
    darker = (paper - pixels[inner > 0]).max(axis=1)  # the paper in the loops of a digit is lighter than its ink
    return differs > MIN_NOTE_TABLE and float((darker > MIN_WRITING_CONTRAST).mean()) > MIN_NOTE_WRITING
