"""Ink of any color is dark on light paper, and the light is even."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imaging.drawing import SEVEN, likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, find_digit
from mnist_lit.imaging.gray import dark_on_light, even_light, ink_lightness, to_gray


def test_light_ink_on_dark_paper_gives_the_same_digit(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write_seven(page(paper=20), 70, 50, color=220)), seven) > 0.98


@pytest.mark.parametrize("color", ["red", "blue", "green", "gold", "pink"])
def test_the_color_of_the_ink_does_not_matter(seven: NDArray[np.uint8], color: str) -> None:
    colored = page(paper=255).convert("RGB")
    ImageDraw.Draw(colored).line([(70 + x, 50 + y) for x, y in SEVEN], color, 8, "curve")
    assert likeness(center_digit(colored), seven) > 0.95


def test_light_that_falls_off_is_evened_out(seven: NDArray[np.uint8]) -> None:
    light = np.linspace(1, 0.4, 200)[None] * np.ones((200, 1))
    lit = (np.asarray(write_seven(page(), 70, 50)) * light).astype(np.uint8)
    assert np.ptp(np.median(even_light(lit), axis=0)) < 30 < 130 < np.ptp(np.median(lit, axis=0))
    assert likeness(center_digit(lit), seven) > 0.95


def test_dark_corners_are_evened_out_to_the_border() -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:160j]
    vignette = (240 * (1 - 0.32 * (x * x + y * y))).astype(np.uint8)
    assert np.ptp(even_light(vignette)) < 35 < 140 < np.ptp(vignette)


def test_a_shadow_s_edge_and_even_light_are_left_alone() -> None:
    plain = np.asarray(write_seven(page(), 70, 50))
    shadowed = (plain * np.where(np.arange(200) < 90, 0.5, 1)).astype(np.uint8)
    for picture in (plain, shadowed):
        assert even_light(picture) is picture


@pytest.mark.parametrize("side", [256, 280, 512])
@pytest.mark.parametrize("color", [(0, 0, 255), (40, 120, 255)])
def test_ink_is_found_in_every_column(side: int, color: tuple[int, int, int]) -> None:
    """Blue is where a picture whose colors were not seen looks blank; a sample may miss an upright stroke."""
    for left in range(60, 60 + side // 16):
        pixels = np.full((side, side, 3), 255, np.uint8)
        pixels[side // 5 : -side // 5, left : left + 12] = color
        assert find_digit(pixels), left


def test_a_picture_of_one_color_is_gray_by_its_brightness() -> None:
    assert (to_gray(np.full((3, 4, 3), 77, np.uint8)) == 77).all()
    assert (to_gray(np.full((1, 1, 3), 77, np.uint8)) == 77).all()


def test_the_color_of_a_table_does_not_hide_gray_ink() -> None:
    """Along the axis from its color to the paper's, ink is hardly darker than paper."""
    table = Image.new("RGB", (640, 480), (0, 140, 140))
    draw = ImageDraw.Draw(table)
    draw.polygon(((160, 40), (560, 70), (640, 480), (300, 480), (40, 400)), (130, 110, 108))
    draw.ellipse((0, 200, 200, 330), (170, 120, 90))  # a hand
    for left in (250, 340, 430):
        draw.line([(left + 0.6 * x, 200 + 0.6 * y) for x, y in SEVEN], (45, 45, 45), 5, "curve")
    assert [found.column for found in find_digits(table)] == [1, 2, 3]


def test_the_edge_of_bright_paper_is_not_light_ink() -> None:
    dark = page(640, 480, 100)
    ImageDraw.Draw(dark).ellipse((160, 60, 560, 440), 220)
    for left in (260, 330, 400):
        write_seven(dark, left, 180, zoom=0.5, pen=5, color=60)
    assert [found.column for found in find_digits(dark)] == [1, 2, 3]


def test_the_paper_between_thick_strokes_is_not_light_ink() -> None:
    star = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(star).line(((92, 224), (140, 48), (190, 224), (53, 115), (227, 115), (92, 224)), 0, 25, "curve")
    assert len(find_digits(star)) == 1


@pytest.mark.parametrize(
    "colors", [("#141416", "#dc3c32", "#285ae6", "#ebebeb"), ("#fafaf8", "#3c96f0", "#e63c3c", "#f0a028")]
)
def test_digits_in_several_colors_are_found_in_all_of_them(colors: tuple[str, ...]) -> None:
    """No axis through the colors tells every ink from the paper."""
    paper, *inks = colors
    drawing = Image.new("RGB", (640, 480), paper)
    for row, ink in enumerate(inks):
        for left in (80, 200, 320):
            corners = [(left + 0.8 * x, 50 + 140 * row + 0.8 * y) for x, y in SEVEN]
            ImageDraw.Draw(drawing).line(corners, ink, 8, "curve")
    assert [(found.line, found.column) for found in find_digits(drawing)] == [(n // 3 + 1, n % 3 + 1) for n in range(9)]


def test_a_highlighter_does_not_hide_what_it_marks() -> None:
    marked = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(marked)
    draw.rectangle((60, 30, 480, 180), "yellow")
    for top in (50, 300):
        for left in (120, 260, 400):
            draw.line([(left + x, top + y) for x, y in SEVEN], (30, 60, 200), 8, "curve")
    assert [(found.line, found.column) for found in find_digits(marked)] == [(n // 3 + 1, n % 3 + 1) for n in range(6)]


def test_ink_becomes_dark_and_paper_light() -> None:
    dark = np.asarray(write_seven(page(), 70, 50))
    light = np.asarray(write_seven(page(paper=20), 70, 50, color=220))
    assert (ink_lightness(dark), ink_lightness(light)) == pytest.approx((-1, 1), abs=0.05)
    for pixels, expected in ((dark, dark), (light, 255 - light)):
        gray, certainty = dark_on_light(pixels)
        assert np.array_equal(gray, expected)
        assert certainty > 0.95


def test_nothing_says_which_is_the_ink_of_equal_dark_and_light_strokes() -> None:
    both = page(400, paper=128)
    for left, color in ((70, 40), (270, 216)):
        write_seven(both, left, 50, color=color)
    assert abs(ink_lightness(np.asarray(both))) < 0.1
    assert dark_on_light(np.asarray(page()))[1] == 0  # there is no ink
