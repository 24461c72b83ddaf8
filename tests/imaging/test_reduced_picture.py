"""What is found in a reduced picture has its place in the original."""

import numpy as np
import pytest
from PIL import Image

from mnist_lit.imaging.components import components
from mnist_lit.imaging.ink import Ink
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.imaging.reduced_picture import reduced_picture


def test_a_small_picture_is_not_reduced() -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    reduced = reduced_picture(pixels, 40)
    assert np.array_equal(reduced.pixels, pixels)
    assert (reduced.scale, reduced.size) == ((1, 1), (40, 30))


def test_boxes_and_gaps_are_those_of_the_original() -> None:
    picture = open_picture(Image.new("L", (6000, 3000)))  # which reduces it for the first time
    reduced = reduced_picture(picture, 600)
    assert reduced.pixels.shape == (300, 600)
    assert reduced.scale == (10, 10)
    assert reduced.size == (6000, 3000)
    assert reduced.original((1, 2, 3, 5)) == (10, 20, 30, 50)
    assert reduced.original((1, 2, 1, 2)) == (10, 20, 11, 21)  # at least a pixel
    assert [reduced.border_distance(box) for box in ((70, 80, 90, 100), (70, 80, 5990, 100), (70, 80, 90, 2950))] == [
        70,
        10,
        50,
    ]


def test_a_digit_whose_ink_has_a_margin_is_drawn_where_it_lies_in_the_picture() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 25:30] = mask[55:, 50:] = True
    ink = Ink(mask, mask.astype(np.float32), 0.0, np.ones((60, 60), np.float32), 5.0, np.zeros((60, 60), np.uint8), 2)
    reduced = reduced_picture(np.zeros((100, 100), np.uint8), 100)
    inside, cut_off = reduced.draw(ink, components(mask), top=-10, left=-10)
    assert (inside[0], cut_off[0]) == ((40, 30, 50, 70), (90, 100 - 1, 100, 100))
    assert max(inside[1].strength.shape) >= 100


@pytest.mark.parametrize("shape", [(0, 5), (5, 5, 4), (5,)])
def test_only_what_open_picture_returns_is_accepted(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="call open_picture first"):
        reduced_picture(np.zeros(shape, np.uint8), 100)
