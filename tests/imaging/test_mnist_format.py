"""Digits are placed as MNIST's makers placed theirs."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.data.datasets import load_dataset
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses
from mnist_lit.imaging.mnist_format import BOX_SIZE, IMAGE_SIZE, as_mnist_image, fit_to_box, rotate


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


def test_a_digit_is_neither_mirrored_nor_rotated() -> None:
    """Nor moved: compared with a seven that Pillow alone draws in the box, centered by mass."""
    large = Image.new("L", (10 * IMAGE_SIZE, 10 * IMAGE_SIZE))
    ImageDraw.Draw(large).line(((70, 80), (180, 80), (110, 260)), 255, 26, "curve")
    expected = np.asarray(large.reduce(10))
    image = center_digit(write_seven(page(), 70, 50))
    assert likeness(image, expected) > 0.9
    assert all(likeness(other, expected) < 0.6 for other in (image[:, ::-1], image[::-1], image.T))


def test_a_dot_fills_the_box() -> None:
    assert (fit_to_box(np.array([[9]], np.uint8)) == 9).sum() == BOX_SIZE * BOX_SIZE


@pytest.mark.parametrize("tone", [255, 9])
def test_a_turned_digit_keeps_its_format(tone: int) -> None:
    bar = np.zeros((40, 40), np.uint8)
    bar[4:36, 17:23] = tone
    rows, columns = rotate(fit_to_box(bar), 45).nonzero()  # counterclockwise: the upper end goes left
    assert np.corrcoef(rows, columns)[0, 1] > 0.8
    assert BOX_SIZE - 1 <= np.ptp(rows) + 1 <= BOX_SIZE
    rows, columns = rotate(fit_to_box(bar), -90).nonzero()
    assert np.ptp(columns) + 1 == BOX_SIZE
    assert np.ptp(rows) + 1 <= 6


def loops(image: NDArray[np.uint8]) -> int:
    """The holes in a digit."""
    return int(cv2.connectedComponents((image < 128).astype(np.uint8))[0]) - 2  # ink and paper


def eight(blur: float) -> Image.Image:
    picture = Image.new("L", (200, 200), 230)
    for top in (50, 95):
        ImageDraw.Draw(picture).ellipse((70, top, 120, top + 55), None, 40, 14)
    return picture.filter(ImageFilter.GaussianBlur(blur))


@pytest.mark.parametrize(("blur", "expected"), [(0, [2]), (4, [2]), (9, [0, 2])])
def test_a_blurred_digit_is_also_drawn_sharpened(blur: int, expected: list[int]) -> None:
    assert [loops(digit.image) for digit in digit_hypotheses(eight(blur)).found] == expected


@pytest.mark.parametrize(("blurred", "expected"), [(1, [0, 2, 2]), (2, [2, 2, 2]), (3, [2, 2, 2])])
def test_the_digits_of_a_page_are_sharpened_if_most_are_blurred(blurred: int, expected: list[int]) -> None:
    line = Image.new("L", (600, 200), 230)
    for place in range(3):
        line.paste(eight(9 if place < blurred else 0), (200 * place, 0))
    assert [loops(digit.image) for digit in find_digits(line)] == expected


def test_an_empty_image_is_rejected() -> None:
    with pytest.raises(ValueError, match="empty"):
        fit_to_box(np.zeros((8, 8), np.uint8))


def test_the_embedded_digits_stay_unchanged(images: Tensor) -> None:
    kept = [np.array_equal(center_digit(image), image) for image in images.numpy()]
    assert np.mean(kept) > 0.9


def test_mnist_stays_unchanged_and_so_does_its_negative(mnist_dir: str) -> None:
    images = load_dataset("mnist", mnist_dir).test_images.numpy()
    assert sum(np.array_equal(center_digit(image), image) for image in images) >= 9990
    assert all(np.array_equal(center_digit(255 - image), center_digit(image)) for image in images[:500])


def test_only_an_image_in_mnist_s_format_is_left_as_it_is(seven: NDArray[np.uint8]) -> None:
    for same in (seven, 255 - seven, np.stack([seven] * 3, axis=2)):
        assert np.array_equal(as_mnist_image(same), seven)  # type: ignore[arg-type]
    enlarged = np.zeros((56, 56), np.uint8)
    enlarged[14:42, 14:42] = seven
    off_center, jagged = np.roll(seven, 2, axis=1), (seven > 127) * np.uint8(255)
    for other in (off_center, jagged, seven // 2, enlarged, np.zeros_like(seven)):
        assert as_mnist_image(other) is None
