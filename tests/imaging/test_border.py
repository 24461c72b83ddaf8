"""What is along a picture's border is counted on each side."""

import numpy as np
import pytest

from mnist_lit.imaging.border import border, border_coverage, frame_depths, has_full_side, inked_corners, sides

L_SHAPE = np.zeros((10, 20), bool)  # a strip of two rows at the bottom, and one of three columns at the left
L_SHAPE[-2:] = L_SHAPE[:, :3] = True


def test_the_sides_are_top_bottom_left_and_right() -> None:
    top, bottom, left, right = sides(np.arange(6).reshape(2, 3))
    assert [side.tolist() for side in (top, bottom, left, right)] == [[0, 1, 2], [3, 4, 5], [0, 3], [2, 5]]
    assert border(np.zeros((10, 20))).shape == (60,)


def test_ink_at_the_border_is_counted() -> None:
    assert border_coverage(L_SHAPE) == (3 + 20 + 10 + 2) / 60
    assert inked_corners(L_SHAPE) == 3
    assert has_full_side(L_SHAPE)
    assert not has_full_side(L_SHAPE & (np.arange(20) != 0) & (np.arange(20) != 19))


@pytest.mark.parametrize(("picture", "expected"), [(L_SHAPE, (0, 2, 3, 0)), (~L_SHAPE, (0, 0, 0, 0))])
def test_a_frame_is_as_deep_as_its_full_rows_and_columns(picture: np.ndarray, expected: tuple[int, ...]) -> None:
    assert frame_depths(picture) == expected


def test_a_frame_is_at_most_a_quarter_of_a_side_deep() -> None:
    assert frame_depths(np.ones((10, 20), bool)) == (2, 2, 5, 5)
