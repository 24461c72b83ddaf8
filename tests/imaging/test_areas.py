"""Areas without edges are found, and their outlines become polygons in reading order."""

import cv2
import numpy as np
import pytest

from mnist_lit.imaging.areas import Pixels, in_reading_order, polygon, quadrilateral, smooth_areas


def picture(*shapes: list[tuple[int, int]], side: int = 120) -> Pixels:
    """White polygons on black, (side, side, 1)."""
    pixels = np.zeros((side, side), np.uint8)
    for shape in shapes:
        cv2.fillPoly(pixels, [np.array(shape, np.int32)], 255)
    return pixels[..., None]


SQUARE = [(30, 30), (90, 30), (90, 90), (30, 90)]
DIAMOND = [(60, 15), (105, 60), (60, 105), (15, 60)]
OCTAGON = [(45, 15), (75, 15), (105, 45), (105, 75), (75, 105), (45, 105), (15, 75), (15, 45)]
ARROW = [(20, 20), (60, 60), (100, 20), (60, 100)]


def test_areas_are_those_between_edges_and_the_largest_comes_last() -> None:
    small, large = smooth_areas(picture(SQUARE), 9, 0.12)
    assert small.size == pytest.approx(58**2, rel=0.1)
    assert large.size == pytest.approx(118**2, rel=0.1)
    assert large.holes == pytest.approx(62**2, rel=0.1)  # where the square lies
    assert len(smooth_areas(picture(SQUARE), 9, 0.5)) == 1
    assert len(smooth_areas(picture(SQUARE) // 32, 9, 0.12)) == 1  # a step of 7 gray levels is not an edge


@pytest.mark.parametrize("shape", [SQUARE, DIAMOND])
def test_the_corners_of_a_quadrilateral_are_clockwise_from_the_side_that_runs_to_the_right(
    shape: list[tuple[int, int]],
) -> None:
    corners = quadrilateral(smooth_areas(picture(shape), 9, 0.1)[0])
    assert corners is not None
    assert corners.shape == (4, 2)
    top = corners[1] - corners[0]
    assert top[0] > 0
    assert abs(top[1]) <= abs(top[0]) + 2
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    assert (sides[:, 0] * following[:, 1] > sides[:, 1] * following[:, 0]).all()


@pytest.mark.parametrize(("shape", "is_polygon"), [(OCTAGON, True), (ARROW, False)])
def test_convex_shapes_are_polygons(shape: list[tuple[int, int]], is_polygon: bool) -> None:
    corners = polygon(smooth_areas(picture(shape), 9, 0.05)[0])
    assert (corners is not None and len(corners) == len(shape)) == is_polygon


def test_an_area_with_a_large_hole_is_not_a_polygon() -> None:
    square = [(5, 5), (114, 5), (114, 114), (5, 114)]
    ring = picture(square)
    ring[30:90, 30:90] = 0
    assert polygon(smooth_areas(picture(square), 9, 0.3)[-1]) is not None
    assert polygon(smooth_areas(ring, 9, 0.3)[-1]) is None


def test_polygons_are_read_in_rows_without_those_around_others() -> None:
    def box(left: int, top: int, size: int = 10) -> np.ndarray:
        return np.array([(left, top), (left + size, top), (left + size, top + size), (left, top + size)], np.float32)

    first, second, third = box(10, 14), box(50, 10), box(20, 40)
    order = in_reading_order([third, first, second, box(0, 0, 90)])
    assert [corners.tolist() for corners in order] == [corners.tolist() for corners in (first, second, third)]
