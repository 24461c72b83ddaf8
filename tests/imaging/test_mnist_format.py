"""Digits are found in pictures and placed as MNIST's makers placed theirs."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from imaging.drawing import likeness, page, write_seven
from mnist_lit.data.datasets import load_dataset
from mnist_lit.imaging.mnist_format import (
    BOX_SIZE,
    IMAGE_SIZE,
    center_digit,
    digit_hypotheses,
    find_digit,
    find_digits,
    fit_to_box,
)
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.imaging.segmentation import SECOND


def test_the_longer_side_fills_the_box_and_the_aspect_ratio_is_kept() -> None:
    rows, columns = fit_to_box(np.full((30, 15), 255, np.uint8)).nonzero()
    assert np.ptp(rows) + 1 == BOX_SIZE
    assert np.ptp(columns) + 1 == BOX_SIZE // 2


def test_margins_do_not_matter() -> None:
    ink = np.zeros((40, 40), np.uint8)
    ink[3:9, 20:24] = 200
    assert np.array_equal(fit_to_box(ink), fit_to_box(ink[3:9, 20:24]))


def test_the_center_of_mass_becomes_the_center() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, :14] = 255  # heavy on the left, a thin line to the right
    ink[10, :] = 255
    image = fit_to_box(ink).astype(float)
    center = (image.sum(axis=0) @ (np.arange(IMAGE_SIZE) + 0.5)) / image.sum()
    assert abs(center - IMAGE_SIZE / 2) <= 0.5


def test_a_digit_heavy_on_one_side_keeps_all_of_its_ink() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, 0] = ink[10, :] = 255
    assert np.ptp(fit_to_box(ink).nonzero()[1]) + 1 == BOX_SIZE


def test_a_dot_fills_the_box() -> None:
    assert (fit_to_box(np.array([[9]], np.uint8)) == 9).sum() == BOX_SIZE * BOX_SIZE


def test_an_empty_image_is_rejected() -> None:
    with pytest.raises(ValueError, match="empty"):
        fit_to_box(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("paper", [0, 127, 255])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (640, 480)])
def test_blank_paper_has_no_digit(paper: int, size: tuple[int, int]) -> None:
    assert find_digit(page(*size, paper)) is None
    assert find_digits(page(*size, paper)) == []
    assert not center_digit(page(*size, paper)).any()


def test_a_digit_is_found_where_it_was_written() -> None:
    found = find_digit(write_seven(page(), 70, 50))
    assert found
    assert np.allclose(found.box, (66, 46, 134, 154), atol=4)


def test_boxes_refer_to_the_picture_before_it_was_reduced() -> None:
    small = find_digit(write_seven(page(), 70, 50))
    large = find_digit(open_picture(write_seven(page(5000, 5000), 1750, 1250, zoom=25, pen=200)))
    assert small
    assert large
    assert np.allclose(np.array(large.box) / 25, small.box, atol=4)


@pytest.mark.parametrize("short", [1, 2, 8, 60])
def test_a_long_thin_picture_raises_no_error(short: int) -> None:
    thin = np.random.default_rng(0).integers(0, 256, (4000, short), np.uint8)
    thin[1000:2000] = 255
    for picture in (thin, thin.T.copy()):
        found = find_digit(picture)
        assert found is None or found.image.any()
        assert all(digit.image.any() for digit in find_digits(picture))


@pytest.mark.parametrize("side", [(1, 40), (2, 28), (2, 100), (99, 2)])
def test_a_number_one_or_two_pixels_high_raises_no_error(side: tuple[int, int]) -> None:
    strip = np.full(side, 255, np.uint8)
    strip[:, 1:3] = strip[:, -3:-1] = 0
    assert all(digit.image.any() for digit in find_digits(strip))


def test_a_page_with_dark_edges_on_two_sides_is_not_a_cropped_number() -> None:
    dark = page(600, 500)
    for top in (70, 200, 330):
        for left in (100, 220, 340, 460):
            write_seven(dark, left, top, zoom=0.6, pen=6)
    for edge in (((0, 20), (25, 499), (0, 499)), ((0, 499), (560, 499), (560, 490), (0, 475))):
        ImageDraw.Draw(dark).polygon(edge, 60)
    assert [digit.line for digit in find_digits(dark)] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def test_the_embedded_digits_stay_unchanged(images: Tensor) -> None:
    kept = [np.array_equal(center_digit(image), image) for image in images.numpy()]
    assert np.mean(kept) > 0.9


def test_mnist_stays_unchanged_and_so_does_its_negative(mnist_dir: str) -> None:
    images = load_dataset("mnist", mnist_dir).test_images.numpy()
    assert sum(np.array_equal(center_digit(image), image) for image in images) >= 9990
    assert all(np.array_equal(center_digit(255 - image), center_digit(image)) for image in images[:500])


@pytest.mark.parametrize("side", [332, 335, 638, 1278])
def test_a_box_lies_in_the_picture_however_it_was_reduced(side: int) -> None:
    pixels = np.full((side, side), 235, np.uint8)
    pixels[side // 2 :, side // 3 : side // 2] = 20
    boxes = [found.box for found in (find_digit(pixels), *find_digits(pixels)) if found]
    assert boxes
    assert all(0 <= left < right <= side and 0 <= top < bottom <= side for left, top, right, bottom in boxes)


def digits_of_strokes(zoom: int) -> dict[str, Image.Image]:
    """A 4 whose stem and bar cross the picture, a 5 with its bar apart, and an 8 with a hole at the top: each 20·zoom
    pixels high, antialiased, on paper with a margin of 10·zoom."""
    strokes = {
        "4": (((12, 0), (2, 12), (18, 12)), ((13, 6), (13, 20))),
        "5": (((3, 1), (3, 9), (11, 8), (15, 13), (11, 19), (2, 18)), ((6, 0), (16, 0))),
        "8": (((8, 0), (3, 4), (13, 14), (8, 19), (3, 14), (13, 4), (8, 0)),),
    }
    pictures = {}
    for digit, lines in strokes.items():
        large = Image.new("L", (160 * zoom, 160 * zoom), 235)
        for line in lines:
            ImageDraw.Draw(large).line(
                [(4 * zoom * (10 + x), 4 * zoom * (10 + y)) for x, y in line], 30, 10 * zoom, "curve"
            )
        pictures[digit] = large.resize((40 * zoom, 40 * zoom), Image.Resampling.BOX)
    return pictures


@pytest.mark.parametrize("digit", "458")
@pytest.mark.parametrize("zoom", [1, 8])
@pytest.mark.parametrize("light_on_dark", [False, True])
def test_a_digit_that_fills_the_picture_is_like_one_with_a_margin(digit: str, zoom: int, light_on_dark: bool) -> None:
    pixels = np.asarray(digits_of_strokes(zoom)[digit])
    rows, columns = (np.flatnonzero((pixels < 130).any(axis=axis)) for axis in (1, 0))
    tight = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    tight = 255 - tight if light_on_dark else tight
    found = find_digit(tight)
    assert found
    assert np.allclose(found.box, (0, 0, tight.shape[1], tight.shape[0]), atol=max(1, zoom // 2))
    assert likeness(found.image, center_digit(pixels)) > 0.9


@pytest.mark.parametrize("light_on_dark", [False, True])
def test_a_one_cropped_to_three_columns_is_found(light_on_dark: bool) -> None:
    one = np.full((23, 3), 255, np.uint8)
    one[1:22, 1] = 0
    found = find_digit(255 - one if light_on_dark else one)
    assert found
    assert found.box == (1, 1, 2, 22)


def test_a_table_below_a_high_digit_is_not_part_of_it(seven: NDArray[np.uint8]) -> None:
    above = np.asarray(write_seven(page(80, 130), 10, 6)).copy()
    above[118:] = 40
    assert likeness(center_digit(above), seven) > 0.9


def test_a_seven_cropped_to_its_ink_keeps_its_bar() -> None:
    """Even if its dark corners leave open which is ink and which is paper."""
    seven = np.full((20, 12), 255, np.uint8)
    seven[0] = 0
    for row in range(1, 20):
        seven[row, round(11 * (19 - row) / 18)] = 0
    hypotheses = digit_hypotheses(seven)
    costs = [(choice.cost, hypotheses.found[choice.digit or 0].box) for choice in hypotheses.lines[0]]
    assert costs == [(SECOND, (0, 0, 12, 20)), (2 * SECOND, (0, 2, 11, 20))]
