"""The ink of the one digit is found in crops, frames and shadows."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import likeness, page, write_seven, write_zero
from mnist_lit.imaging.digit_ink import fills_picture
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit
from mnist_lit.imaging.single_digit import SECOND_COST


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
    assert costs == [(SECOND_COST, (0, 0, 12, 20)), (2 * SECOND_COST, (0, 2, 11, 20))]


@pytest.mark.parametrize("touching", [False, True])
def test_a_dark_strip_beside_a_digit_that_touches_the_border_is_ignored(
    seven: NDArray[np.uint8],
    touching: bool,
) -> None:
    picture = write_seven(page(), 70, 104 if touching else 50)
    strip = ImageDraw.Draw(picture)
    strip.rectangle((0, 0, 35, 200), 40)
    assert likeness(center_digit(picture), seven) > 0.9


def test_a_frame_is_ignored(seven: NDArray[np.uint8]) -> None:
    framed = write_seven(page(), 70, 50)
    ImageDraw.Draw(framed).rectangle((20, 20, 180, 180), outline=40, width=5)
    assert likeness(center_digit(framed), seven) > 0.98


def test_a_solid_bar_is_not_a_card() -> None:
    bar = page()
    ImageDraw.Draw(bar).rectangle((80, 40, 110, 160), 40)
    found = find_digit(bar)
    assert found
    assert np.allclose(found.box, (80, 40, 111, 161), atol=2)


def test_a_thin_box_near_a_digit_is_not_part_of_it(seven: NDArray[np.uint8]) -> None:
    framed = write_seven(page(), 70, 50)
    ImageDraw.Draw(framed).rectangle((60, 40, 140, 160), outline=40, width=2)
    assert likeness(center_digit(framed), seven) > 0.98


@pytest.mark.parametrize("blur", [1, 8, 40])
@pytest.mark.parametrize("dark", [100, 150])
def test_the_shadow_beside_a_single_digit_is_not_the_digit(seven: NDArray[np.uint8], blur: float, dark: int) -> None:
    shadow = Image.new("L", (600, 800), 255)
    ImageDraw.Draw(shadow).polygon(((480, 0), (180, 800), (600, 800), (600, 0)), dark)
    lit = np.asarray(write_seven(page(600, 800), 215, 300, zoom=1.5, pen=10)).astype(float)
    lit *= np.asarray(shadow.filter(ImageFilter.GaussianBlur(blur))) / 255
    lit += np.random.default_rng(0).normal(0, 4, lit.shape)
    assert likeness(center_digit(lit.clip(0, 255).astype(np.uint8)), seven) > 0.9


@pytest.mark.parametrize("left", [150, 215])
def test_a_soft_shadow_at_the_border_is_less_likely_than_a_sharp_digit(seven: NDArray[np.uint8], left: int) -> None:
    shadow = Image.new("L", (600, 800), 255)
    ImageDraw.Draw(shadow).polygon(((120, 800), (160, 300), (440, 320), (480, 800)), 165)  # of a phone
    lit = np.asarray(write_seven(page(600, 800), left, 280, zoom=2, pen=10)).astype(float)
    lit *= np.asarray(shadow.filter(ImageFilter.GaussianBlur(20))) / 255
    lit += np.random.default_rng(0).normal(0, 3, lit.shape)
    assert likeness(center_digit(lit.clip(0, 255).astype(np.uint8)), seven) > 0.9


@pytest.mark.parametrize("light_on_dark", [False, True])
def test_a_digit_may_fill_the_picture(light_on_dark: bool) -> None:
    zero = page(60, 100)
    ImageDraw.Draw(zero).ellipse((0, 0, 59, 99), outline=40, width=18)
    pixels = np.asarray(zero)
    hypotheses = digit_hypotheses(255 - pixels if light_on_dark else pixels)
    found = next(found for found in hypotheses.found if np.allclose(found.box, (0, 0, 60, 100), atol=2))
    assert found.image[14, 14] == 0 < found.image[14].max()  # the hole


def test_a_digit_with_a_faint_part_is_found_with_and_without_it() -> None:
    zero = center_digit(write_zero(page(), 70, 50))
    found = [digit.image for digit in digit_hypotheses(write_zero(page(), 70, 50, right_half=200)).found]
    assert likeness(found[0], zero) < 0.9
    assert max(likeness(image, zero) for image in found) > 0.95


def test_faint_strokes_do_not_join_a_digit_to_what_is_far_larger() -> None:
    joined = write_seven(page(400, 400), 170, 150)
    (plain,) = digit_hypotheses(joined).found
    ImageDraw.Draw(joined).line((197, 245, 20, 380, 380, 390), 200, 8)
    (digit,) = digit_hypotheses(joined).found
    assert np.allclose(digit.box, plain.box, atol=3)  # a pixel of the reduced picture


def test_a_digit_fills_the_picture_if_it_reaches_from_border_to_border() -> None:
    stroke = np.eye(20, dtype=bool)
    assert fills_picture(stroke)
    assert fills_picture(np.pad(stroke, 1))
    assert not fills_picture(np.pad(stroke, 2))
    assert not fills_picture(np.pad(stroke, ((0, 0), (0, 9))))  # from top to bottom only
    assert not fills_picture(np.ones((20, 20), bool))  # the ink covers the border
    assert not fills_picture(np.zeros((20, 20), bool))


@pytest.mark.parametrize(("width", "height"), [(110, 140), (90, 130)])
def test_two_lines_of_a_cell_do_not_belong_to_the_digit_between_them(
    width: int, height: int, seven: NDArray[np.uint8]
) -> None:
    """Their box is that of a digit that fills the picture. Nor is the seven's bar a third line, as on ruled paper."""
    cell = write_seven(page(width, height), width // 2 - 24, height // 2 - 54)
    ImageDraw.Draw(cell).line((3, 0, 3, height - 6, width, height - 6), 40, 3)
    assert likeness(center_digit(cell), seven) > 0.98


def test_the_stem_of_a_cropped_four_is_not_a_digit_beside_lines() -> None:
    four = page(90, 110)
    ImageDraw.Draw(four).line((25, 0, 4, 64, 58, 66), 40, 9)
    ImageDraw.Draw(four).line((80, 8, 76, 104), 40, 9)
    found = find_digit(four)
    assert found
    assert np.allclose(found.box, (0, 0, 85, 105), atol=3)
