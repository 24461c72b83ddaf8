"""Light and shadow are not read as digits."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit


@pytest.mark.parametrize("spread", [150, 350])
def test_smooth_light_on_empty_paper_is_no_digit(spread: int) -> None:
    x, y = np.meshgrid(np.arange(1500) - 900, np.arange(1500) - 600)
    light = 0.5 + 0.5 * np.exp(-(x**2 + y**2) / (2 * spread**2))
    blank, written = page(1500, 1500), write_seven(page(1500, 1500), 400, 1000, zoom=2, pen=20)
    lit = [(np.asarray(picture) * light).astype(np.uint8) for picture in (blank, written)]
    assert find_digit(lit[0]) is None
    found = find_digit(lit[1])
    assert found
    assert np.allclose(found.box, (400, 1000, 520, 1200), atol=12)


@pytest.mark.parametrize("side", [320, 480, 700])
def test_a_digit_out_of_focus_is_not_taken_for_light(side: int, seven: NDArray[np.uint8]) -> None:
    blurred = write_seven(page(200, 200), 70, 40, zoom=1.2).filter(ImageFilter.GaussianBlur(8))
    picture = blurred.resize((side, side), Image.Resampling.BICUBIC)
    assert likeness(center_digit(picture), seven) > 0.7
    assert len(find_digits(picture)) == 1


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("shape", [(300, 400), (600, 450), (1500, 1300)])
def test_empty_paper_in_a_light_that_falls_to_one_side_has_no_digit(shape: tuple[int, int], noise: int) -> None:
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    grain = np.random.default_rng(0).normal(0, noise, shape)
    for light in (1 - 0.6 * x, 1 - 0.5 * y, 1 - 1.2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)):
        empty = (240 * light + grain).clip(0, 255).astype(np.uint8)
        assert find_digit(empty) is None
        assert find_digits(empty) == []


def test_a_strip_of_table_along_the_border_hides_no_digit() -> None:
    photo = page(1200, 1600)
    ImageDraw.Draw(photo).polygon(((100, 0), (1100, 0), (1100, 25)), 30)
    for left in (300, 500):
        write_seven(photo, left, 700)
    assert any(one.box[1] > 600 for one in digit_hypotheses(photo).found)


@pytest.mark.parametrize("side", [560, 1500])
def test_the_edge_of_a_shadow_on_empty_paper_is_not_a_digit(side: int) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    shadow = 1 - 0.5 / (1 + np.exp((x + 0.3 * y - 0.5) / 0.012))
    grain = np.random.default_rng(0).normal(0, 1, (side, side))
    empty, written = page(side, side, 200), page(side, side, 200)
    write_seven(written, round(0.6 * side), round(0.5 * side), zoom=side / 500, pen=side // 50)
    lit = [(np.asarray(picture) * shadow + grain).clip(0, 255).astype(np.uint8) for picture in (empty, written)]
    assert find_digit(lit[0]) is None
    assert find_digits(lit[0]) == []
    assert find_digit(lit[1])


def test_a_short_line_along_the_border_of_a_photo_is_not_a_digit(seven: NDArray[np.uint8]) -> None:
    empty, cut_off = page(1200, 1600), page(1200, 1600)
    ImageDraw.Draw(empty).line((5, 700, 5, 950), 40, 10)  # of squared paper, for example
    assert find_digit(empty) is None
    write_seven(cut_off, -8, 600, zoom=3, pen=30)
    assert likeness(center_digit(cut_off), seven) > 0.8
