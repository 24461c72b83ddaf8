"""Digits are placed as MNIST's makers placed theirs."""

import numpy as np
import pytest

from mnist_lit.pixels import BOX, SIDE, place


def test_the_longer_side_fills_the_box_and_the_aspect_is_kept() -> None:
    rows, columns = place(np.full((30, 15), 255, np.uint8)).nonzero()
    assert np.ptp(rows) + 1 == BOX
    assert np.ptp(columns) + 1 == BOX // 2


def test_margins_do_not_matter() -> None:
    ink = np.zeros((40, 40), np.uint8)
    ink[3:9, 20:24] = 200
    assert np.array_equal(place(ink), place(ink[3:9, 20:24]))


def test_the_centre_of_mass_comes_to_the_middle() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, :14] = 255  # heavy on the left, a thin line to the right
    ink[10, :] = 255
    image = place(ink).astype(float)
    centre = (image.sum(axis=0) @ (np.arange(SIDE) + 0.5)) / image.sum()
    assert abs(centre - SIDE / 2) <= 0.5


def test_no_ink_leaves_the_image_however_heavy_one_side_is() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, 0] = ink[10, :] = 255
    assert np.ptp(place(ink).nonzero()[1]) + 1 == BOX


def test_a_dot_becomes_the_box() -> None:
    assert (place(np.array([[9]], np.uint8)) == 9).sum() == BOX * BOX


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        place(np.zeros((8, 8), np.uint8))
