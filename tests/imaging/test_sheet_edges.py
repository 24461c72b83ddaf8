"""The edges of paper on a table are sharp, and there is no paper beyond them."""

import cv2
import numpy as np
import pytest

from mnist_lit.imaging.areas import Corners, Pixels
from mnist_lit.imaging.sheet_edges import filled, has_edges, side_beside

PAPER, TABLE = (230, 228, 220), (120, 90, 60)


def box(left: int, top: int, right: int, bottom: int) -> Corners:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def photo(corners: Corners, paper: tuple[int, ...] = PAPER, table: tuple[int, ...] = TABLE) -> Pixels:
    """A sheet with these corners on a table, (180, 240, 3)."""
    pixels = np.full((180, 240, 3), table, np.uint8)
    pixels[filled(corners, pixels.shape) > 0] = paper
    return pixels


SHEET = box(60, 50, 180, 130)


def test_a_filled_polygon_covers_its_corners() -> None:
    mask = filled(box(2, 1, 5, 3), (6, 8, 3))
    assert mask.shape == (6, 8)
    assert mask.nonzero()[0].tolist() == [1] * 4 + [2] * 4 + [3] * 4


def test_the_edges_of_a_sheet_are_sharp() -> None:
    pixels = photo(SHEET)
    assert has_edges(pixels, SHEET)
    assert not has_edges(np.asarray(cv2.GaussianBlur(pixels, (0, 0), 40)), SHEET)  # like light
    assert not has_edges(photo(SHEET, table=(220, 218, 210)), SHEET)  # as bright as the paper
    assert not has_edges(pixels, SHEET + 20)  # not where the edges are


def test_a_stroke_is_not_the_edge_of_a_sheet() -> None:
    pixels = photo(SHEET, table=PAPER)
    around = SHEET + np.array([(-6, -6), (6, -6), (6, 6), (-6, 6)], np.float32)
    cv2.polylines(pixels, [around.astype(np.int32)], True, (40, 40, 40), 10)
    assert not has_edges(pixels, SHEET)


@pytest.mark.parametrize(
    ("corners", "table", "expected"),
    [
        (box(60, 50, 239, 130), (170, 168, 160), True),  # one side is out of view
        (box(60, 50, 239, 179), (170, 168, 160), False),  # two: perhaps the edges of a shadow
        (box(60, 50, 239, 179), (60, 58, 55), True),  # no shadow is that dark
        (box(60, 50, 239, 179), (170, 130, 80), True),  # or has another color
        (box(60, 0, 239, 179), (60, 58, 55), False),  # three
    ],
)
def test_a_side_may_be_out_of_view_and_two_on_a_far_darker_or_colored_table(
    corners: Corners, table: tuple[int, ...], expected: bool
) -> None:
    assert has_edges(photo(corners, table=table), corners) is expected


def test_where_some_sides_change_the_color_the_others_must_too() -> None:
    pixels = photo(SHEET)
    assert has_edges(pixels, SHEET)
    pixels[:, 181:] = (115, 114, 110)  # beyond the right side is the same paper in a shadow
    assert not has_edges(pixels, SHEET)


def test_another_sheet_begins_beyond_a_dark_strip() -> None:
    other = box(186, 50, 230, 130)
    pixels = photo(SHEET)
    pixels[filled(other, pixels.shape) > 0] = PAPER
    assert not has_edges(pixels, SHEET)
    assert (side_beside(pixels, SHEET, [other], 15), side_beside(pixels, other, [SHEET], 15)) == (1, 3)
    assert has_edges(pixels, SHEET, beside=1)
    assert side_beside(pixels, SHEET, [], 15) is None
    assert side_beside(pixels, SHEET, [box(186, 90, 230, 130)], 15) is None  # along half of the side
    assert side_beside(pixels, SHEET, [other], 3) is None  # the strip is wider
    pixels[50:131, 181:186] = (120, 160, 230)
    assert side_beside(pixels, SHEET, [other], 15) is None  # a ruled line
    pixels[50:131, 181:186] = PAPER
    assert side_beside(pixels, SHEET, [other], 15) is None  # one sheet
    pixels[:, 181:] = np.multiply(PAPER, 0.7).astype(np.uint8)
    assert side_beside(pixels, SHEET, [other], 15) is None  # in a shadow
