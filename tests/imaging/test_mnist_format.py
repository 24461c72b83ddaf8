"""Digits are found in pictures, and placed as MNIST's makers placed theirs."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from torch import Tensor

from mnist_lit.data.datasets import load_dataset
from mnist_lit.imaging.ink import stroke_width
from mnist_lit.imaging.mnist_format import BOX_SIZE, IMAGE_SIZE, center_digit, find_digit, find_digits, fit_to_box
from mnist_lit.imaging.open_picture import open_picture

SEVEN = ((0, 0), (60, 0), (25, 100))  # the corners of its strokes


def page(width: int = 200, height: int = 200, paper: int = 230) -> Image.Image:
    return Image.new("L", (width, height), paper)


def write(
    picture: Image.Image, left: float, top: float, *, zoom: float = 1, pen: int = 8, color: int = 40
) -> Image.Image:
    """A 7 of 60×100 pixels."""
    corners = [(left + x * zoom, top + y * zoom) for x, y in SEVEN]
    ImageDraw.Draw(picture).line(corners, color, pen, "curve")
    return picture


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The correlation of two images, at the best shift by up to a pixel."""
    shifts = [np.roll(other, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(one.ravel(), shift.ravel())[0, 1]) for shift in shifts)


@pytest.fixture(scope="module")
def seven() -> NDArray[np.uint8]:
    return center_digit(write(page(), 70, 50))


def test_the_longer_side_fills_the_box_and_the_aspect_is_kept() -> None:
    rows, columns = fit_to_box(np.full((30, 15), 255, np.uint8)).nonzero()
    assert np.ptp(rows) + 1 == BOX_SIZE
    assert np.ptp(columns) + 1 == BOX_SIZE // 2


def test_margins_do_not_matter() -> None:
    ink = np.zeros((40, 40), np.uint8)
    ink[3:9, 20:24] = 200
    assert np.array_equal(fit_to_box(ink), fit_to_box(ink[3:9, 20:24]))


def test_the_centre_of_mass_comes_to_the_middle() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, :14] = 255  # heavy on the left, a thin line to the right
    ink[10, :] = 255
    image = fit_to_box(ink).astype(float)
    centre = (image.sum(axis=0) @ (np.arange(IMAGE_SIZE) + 0.5)) / image.sum()
    assert abs(centre - IMAGE_SIZE / 2) <= 0.5


def test_no_ink_leaves_the_image_however_heavy_one_side_is() -> None:
    ink = np.zeros((20, 20), np.uint8)
    ink[:, 0] = ink[10, :] = 255
    assert np.ptp(fit_to_box(ink).nonzero()[1]) + 1 == BOX_SIZE


def test_a_dot_becomes_the_box() -> None:
    assert (fit_to_box(np.array([[9]], np.uint8)) == 9).sum() == BOX_SIZE * BOX_SIZE


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        fit_to_box(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("paper", [0, 127, 255])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (640, 480)])
def test_blank_paper_has_no_digit(paper: int, size: tuple[int, int]) -> None:
    assert find_digit(page(*size, paper)) is None
    assert find_digits(page(*size, paper)) == []
    assert not center_digit(page(*size, paper)).any()


def test_rough_paper_has_no_digit() -> None:
    rough = np.random.default_rng(0).normal(200, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    assert find_digit(rough) is None


def test_a_digit_is_where_it_was_written() -> None:
    found = find_digit(write(page(), 70, 50))
    assert found
    assert np.allclose(found.box, (66, 46, 134, 154), atol=4)


def test_boxes_are_in_the_pixels_of_the_picture_before_it_was_reduced() -> None:
    small = find_digit(write(page(), 70, 50))
    large = find_digit(open_picture(write(page(5000, 5000), 1750, 1250, zoom=25, pen=200)))
    assert small
    assert large
    assert np.allclose(np.array(large.box) / 25, small.box, atol=4)


@pytest.mark.parametrize("zoom", [0.2, 0.5, 3])
@pytest.mark.parametrize("pen", [0.04, 0.08, 0.14])
def test_resolution_and_pen_do_not_matter(seven: NDArray[np.uint8], zoom: float, pen: float) -> None:
    side = round(200 * zoom)
    drawn = write(page(side, side), 70 * zoom, 50 * zoom, zoom=zoom, pen=max(1, round(100 * zoom * pen)))
    assert likeness(center_digit(drawn), seven) > 0.85


def test_light_ink_on_dark_paper_is_the_same_digit(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write(page(paper=20), 70, 50, color=220)), seven) > 0.98


@pytest.mark.parametrize("color", ["red", "blue", "green", "gold", "pink"])
def test_the_ink_s_colour_does_not_matter(seven: NDArray[np.uint8], color: str) -> None:
    colored = page(paper=255).convert("RGB")
    ImageDraw.Draw(colored).line([(70 + x, 50 + y) for x, y in SEVEN], color, 8, "curve")
    assert likeness(center_digit(colored), seven) > 0.95


def test_a_shadow_is_not_ink(seven: NDArray[np.uint8]) -> None:
    shadow = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(shadow).polygon(((0, 0), (130, 0), (60, 200), (0, 200)), 130)
    lit = np.asarray(write(page(), 70, 50)) * (np.asarray(shadow.filter(ImageFilter.GaussianBlur(6))) / 255.0)
    assert likeness(center_digit(lit.astype(np.uint8)), seven) > 0.9


def test_specks_and_ink_at_the_edge_are_left_out(seven: NDArray[np.uint8]) -> None:
    dirty = write(page(), 70, 50)
    for spot in ((20, 20, 22, 22), (150, 180, 153, 182), (0, 60, 12, 160), (192, 0, 199, 90)):
        ImageDraw.Draw(dirty).rectangle(spot, 40)
    assert likeness(center_digit(dirty), seven) > 0.98


@pytest.mark.parametrize("grid", [range(20, 200, 60), (), range(12, 200, 35)])
def test_ruled_lines_are_left_out(seven: NDArray[np.uint8], grid: range) -> None:
    ruled = write(page(), 70, 50)
    draw = ImageDraw.Draw(ruled)
    for at in grid:
        draw.line((0, at, 199, at), 120, 2)
        draw.line((at, 0, at, 199), 120, 2)
    assert likeness(center_digit(ruled), seven) > 0.9


def test_a_frame_is_left_out(seven: NDArray[np.uint8]) -> None:
    framed = write(page(), 70, 50)
    ImageDraw.Draw(framed).rectangle((20, 20, 180, 180), outline=40, width=5)
    assert likeness(center_digit(framed), seven) > 0.98


def test_an_upright_one_is_no_ruled_line() -> None:
    one = page(60, 200)
    ImageDraw.Draw(one).line((30, 0, 30, 199), 40, 8)
    rows, columns = center_digit(one).nonzero()
    assert np.ptp(rows) + 1 == BOX_SIZE
    assert np.ptp(columns) < 6


@pytest.mark.parametrize("pen", [9, 18, 31, 40])
@pytest.mark.parametrize("slant", [0, 39, 80])
def test_ones_alone_or_among_their_kind_are_found_whole(pen: int, slant: int) -> None:
    ones = page(560, 560)
    for left in (80, 240, 400):
        ImageDraw.Draw(ones).line([(left + slant, 92), (left, 468)], 40, pen)
        boxes = [found.box for found in find_digits(ones)]
        assert len(boxes) == 1 + (left - 80) // 160
        assert all(bottom - top > 370 for _, top, _, bottom in boxes)


def test_the_long_strokes_of_a_four_are_no_ruled_lines() -> None:
    four = page(28, 28, 255)
    ImageDraw.Draw(four).line(((14, 26), (14, 3), (5, 16), (24, 17)), 0)
    found = find_digit(four)
    assert found
    assert np.allclose(found.box, (5, 3, 25, 27), atol=1)


def test_a_bar_as_wide_as_a_narrow_crop_is_no_ruled_line(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write(page(), 70, 50).crop((66, 46, 134, 155))), seven) > 0.9


def test_the_strokes_of_a_digit_stay_together() -> None:
    five = page()
    draw = ImageDraw.Draw(five)
    draw.line((80, 50, 80, 90), 40, 8)
    draw.arc((60, 85, 130, 155), 230, 500, 40, 8)
    draw.line((95, 50, 140, 50), 40, 8)  # the bar, apart
    found = find_digit(five)
    assert found
    assert found.box[2] > 135
    assert len(find_digits(five)) == 1


@pytest.mark.parametrize("short", [1, 2, 8, 60])
def test_a_long_thin_picture_is_no_error(short: int) -> None:
    thin = np.random.default_rng(0).integers(0, 256, (4000, short), np.uint8)
    thin[1000:2000] = 255
    for picture in (thin, thin.T.copy()):
        found = find_digit(picture)
        assert found is None or found.image.any()
        assert all(digit.image.any() for digit in find_digits(picture))


def test_thousands_of_specks_cost_seconds() -> None:
    dusty = np.full((2048, 2048), 230, np.uint8)
    for top, left in np.random.default_rng(0).integers(0, 2042, (5000, 2)):
        dusty[top : top + 6, left : left + 6] = 40
    for find in (find_digit, find_digits):
        start = time.process_time()
        find(dusty)
        assert time.process_time() - start < 5


def test_digits_are_found_among_thousands_of_specks() -> None:
    dusty = np.full((800, 800), 230, np.uint8)
    for top in range(300, 780, 12):
        for left in range(12, 780, 12):
            dusty[top : top + 4, left : left + 4] = 40
    written = Image.fromarray(dusty)
    places = [(left, top) for top in (30, 160) for left in range(60, 700, 130)]
    for left, top in places:
        write(written, left, top)
    boxes = [found.box for found in find_digits(written)]
    assert len(boxes) == len(places)
    assert np.allclose([box[:2] for box in boxes], places, atol=6)


@pytest.mark.parametrize("ruled", [False, True])
def test_digits_are_found_in_reading_order(ruled: bool) -> None:
    many = page(600, 420)
    for row in range(2):
        for column in range(4):
            write(many, 60 + 130 * column, 60 + 190 * row + 8 * column, pen=9)
    if ruled:
        draw = ImageDraw.Draw(many)
        for at in (20, 206, 400):
            draw.line((20, at, 555, at), 60, 3)
        for at in (20, 155, 285, 415, 555):
            draw.line((at, 20, at, 400), 60, 3)
    boxes = [found.box for found in find_digits(many)]
    wanted = [(60 + 130 * column, 60 + 190 * row + 8 * column) for row in range(2) for column in range(4)]
    assert np.allclose([box[:2] for box in boxes], wanted, atol=8)


def test_digits_that_touch_are_parted() -> None:
    touching = page(300)
    ImageDraw.Draw(touching).line((100, 100, 180, 100), 40, 6)
    for left in (60, 160):
        ImageDraw.Draw(touching).ellipse((left, 50, left + 60, 150), outline=40, width=8)
    assert len(find_digits(touching)) == 2


def test_the_embedded_digits_pass_unchanged(images: Tensor) -> None:
    kept = [np.array_equal(center_digit(image), image) for image in images.numpy()]
    assert np.mean(kept) > 0.9


def test_mnist_passes_unchanged_and_so_does_its_negative(mnist_dir: str) -> None:
    images = load_dataset("mnist", mnist_dir).test_images.numpy()
    assert sum(np.array_equal(center_digit(image), image) for image in images) >= 9990
    assert all(np.array_equal(center_digit(255 - image), center_digit(image)) for image in images[:500])


def test_strokes_come_out_as_thick_as_mnist_s(shared: Path) -> None:
    with (shared / "real-digits/paper/labels.csv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)][::15]
    widths = []
    for name in names:
        image = center_digit(open_picture(shared / "real-digits/paper" / name))
        widths.append(stroke_width(ndimage.zoom(image.astype(float), 5, order=1) > 127) / 5)
    assert 2.1 < np.median(widths) < 3.2
