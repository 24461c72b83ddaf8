"""Tell the edges of a sheet of paper on a table from those of shadows, boxes and strokes. NumPy and OpenCV only."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.areas import Corners, Pixels
from mnist_lit.imaging.border import border

EDGE_DISTANCES = (-2, 7, 14, 28, 42)  # in pixels: the first three show an edge, the others whether paper follows it
MIN_STEP = 14.0  # least difference of paper and table, in gray levels
MIN_SEEN, SEEN_WHOLE = 0.6, 0.8  # least fraction of a side in view that shows an edge; above the second one it must
MAX_DRIFT = 0.8  # largest change of the table's color beyond an edge, as a fraction of that at the edge
MAX_ENCLOSED = 0.2  # greatest fraction of the sides beyond which there is paper again, as around a zero
MIN_CHROMATICITY_CHANGE = 0.03  # of a color's fraction of the brightness, at an edge
MIN_CHROMATICITY_RATIO = 0.25  # of a side's change to the largest one: below this, only the brightness changes
FAR_DARKER = 0.5  # brightness, as a fraction of the paper's, below which a table is not paper in shadow; also for ink

Levels = NDArray[np.float32]


def has_edges(colors: Pixels, corners: Corners, beside: int | None = None) -> bool:
    """Whether a polygon's sides separate paper from table. One may be out of view, or two of a quadrilateral if the
    table is far darker or of another color. beside: a side that counts as out of view, see `side_beside`."""
    sides: list[Levels] = []
    for number, (start, stop) in enumerate(_sides(corners)):
        if number == beside:
            continue
        levels, seen = _levels_across(colors, start, stop)
        if seen >= MIN_SEEN and _is_sharp(*levels[:3]):
            sides.append(levels)
        elif seen >= SEEN_WHOLE:
            return False
    changes = [chromaticity_change(levels[0], levels[1]) for levels in sides]
    far_darker = all(levels[1].sum() < FAR_DARKER * levels[0].sum() for levels in sides)
    far = far_darker or min(changes, default=0) > MIN_CHROMATICITY_CHANGE
    # Where some sides change the color, one that changes only the brightness is the edge of a shadow.
    largest = max(changes, default=0)
    in_shadow = largest > MIN_CHROMATICITY_CHANGE and min(changes) < MIN_CHROMATICITY_RATIO * largest
    if len(corners) - len(sides) > 1 + (far and len(corners) == 4) or in_shadow:
        return False
    doubtful = len(corners) > 4 or len(sides) == 2
    if doubtful and np.concatenate([_is_stroke(levels) for levels in sides]).mean() > MAX_ENCLOSED:
        return False  # the inside of a zero, or of the corner of a seven
    sheet = filled(corners, colors.shape)
    outside = border(colors)[border(sheet) == 0]
    if not len(outside):
        return False
    paper = np.mean([levels[0].mean(axis=0) for levels in sides], axis=0)
    # If the difference is small, there is paper outside, too, as around a box.
    return bool(np.median(np.abs(outside - paper).max(axis=1)) > MIN_STEP)


# The closing that removes the writing also fills a narrow strip of table between two sheets. Unlike a ruled line, the
# strip has the table's color.
def side_beside(seen: Pixels, corners: Corners, others: Sequence[Corners], widest: int) -> int | None:
    """The number of the side of a polygon beyond which, after a strip of table, another polygon begins; None if there
    is none. seen: the picture, (H, W, C), with the writing. widest: greatest width of the strip, in pixels."""
    height, width = seen.shape[:2]
    on_table = np.all([border(filled(polygon, seen.shape)) == 0 for polygon in (corners, *others)], axis=0)
    if not (others and on_table.any()):
        return None
    table = np.median(border(seen)[on_table], axis=0)
    for number, (start, stop) in enumerate(_sides(corners)):
        across = _points_across(start, stop, range(-2, widest + 3))
        x, y = across.clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
        colors = seen[y, x].astype(np.float32)  # (D, 33, C), from the paper
        like_table = np.abs(colors - table).sum(axis=2) < np.abs(colors - colors[0]).sum(axis=2)
        has_table = like_table.any(axis=0) & ~like_table[-1]
        if has_table.mean() < MIN_SEEN * SEEN_WHOLE:  # far faster to find than what is beyond
            continue
        for other in others:
            beyond = [cv2.pointPolygonTest(other, point, False) >= 0 for point in across[-1].tolist()]
            if np.mean(beyond) >= MIN_SEEN and has_table[beyond].mean() >= SEEN_WHOLE:
                return number
    return None


def _sides(corners: Corners) -> Iterator[tuple[Levels, Levels]]:
    """The start and the end of each side of a polygon."""
    return zip(corners, np.roll(corners, -1, axis=0), strict=True)


def _points_across(start: Levels, stop: Levels, distances: Sequence[int]) -> NDArray[np.int64]:
    """Points at these distances from one side of a polygon, outside if positive, at 33 places: x and y, (D, 33, 2)."""
    points = start + np.linspace(0.1, 0.9, 33)[:, None] * (stop - start)
    right, down = (stop - start) / max(float(np.linalg.norm(stop - start)), 1.0)
    return np.array([points + distance * np.array([down, -right]) for distance in distances]).round().astype(int)


def _levels_across(colors: Pixels, start: Levels, stop: Levels) -> tuple[Levels, float]:
    """The colors at EDGE_DISTANCES from one side of a polygon, (len(EDGE_DISTANCES), N, C), at those of 33 points where
    the first two are in the picture; and the fraction of such points. Beyond the picture, the colors at its border
    count."""
    height, width = colors.shape[:2]
    across = _points_across(start, stop, EDGE_DISTANCES)
    seen = np.all((across >= 0) & (across < (width, height)), axis=2)[:2].all(axis=0)
    x, y = across[:, seen].clip(0, (width - 1, height - 1)).transpose(2, 0, 1)
    return colors[y, x].astype(np.float32), float(seen.mean())


def chromaticity_change(inside: Levels, outside: Levels) -> float:
    """The largest change of a color's fraction of the brightness at an edge: levels (N, C) each."""
    here, there = (levels.sum(axis=0) / max(float(levels.sum()), 1.0) for levels in (inside, outside))
    return float(np.abs(here - there).max())


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
    return bool(step >= MIN_STEP and drift <= MAX_DRIFT * change)


def filled(corners: Corners, shape: tuple[int, ...]) -> Pixels:
    """A polygon in a picture of that shape: 1 inside, 0 outside, (H, W)."""
    return np.asarray(cv2.fillConvexPoly(np.zeros(shape[:2], np.uint8), corners.round().astype(np.int32), 1), np.uint8)


def difference_from(pixels: Pixels, color: NDArray[Any]) -> Pixels:
    """How much each pixel of a picture differs from a color, in the channel where it differs most: (H, W)."""
    difference = np.asarray(cv2.absdiff(pixels, np.full_like(pixels, color)), np.uint8)
    return difference if pixels.ndim == 2 else np.asarray(np.maximum.reduce(cv2.split(difference)), np.uint8)
