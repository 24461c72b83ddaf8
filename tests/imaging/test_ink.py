"""Ink is distinguished from paper, shadows and ruled lines."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import SEVEN, likeness, page, write_seven
from mnist_lit.imaging.mnist_format import center_digit, find_digit


def test_rough_paper_is_blank() -> None:
    rough = np.random.default_rng(0).normal(200, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    assert find_digit(rough) is None


@pytest.mark.parametrize("zoom", [0.2, 0.5, 3])
@pytest.mark.parametrize("pen", [0.04, 0.08, 0.14])
def test_resolution_and_pen_width_do_not_matter(seven: NDArray[np.uint8], zoom: float, pen: float) -> None:
    side = round(200 * zoom)
    drawn = write_seven(page(side, side), 70 * zoom, 50 * zoom, zoom=zoom, pen=max(1, round(100 * zoom * pen)))
    assert likeness(center_digit(drawn), seven) > 0.85


def test_light_ink_on_dark_paper_gives_the_same_digit(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write_seven(page(paper=20), 70, 50, color=220)), seven) > 0.98


@pytest.mark.parametrize("color", ["red", "blue", "green", "gold", "pink"])
def test_the_color_of_the_ink_does_not_matter(seven: NDArray[np.uint8], color: str) -> None:
    colored = page(paper=255).convert("RGB")
    ImageDraw.Draw(colored).line([(70 + x, 50 + y) for x, y in SEVEN], color, 8, "curve")
    assert likeness(center_digit(colored), seven) > 0.95


def test_a_shadow_is_not_ink(seven: NDArray[np.uint8]) -> None:
    shadow = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(shadow).polygon(((0, 0), (130, 0), (60, 200), (0, 200)), 130)
    lit = np.asarray(write_seven(page(), 70, 50)) * (np.asarray(shadow.filter(ImageFilter.GaussianBlur(6))) / 255.0)
    assert likeness(center_digit(lit.astype(np.uint8)), seven) > 0.9


@pytest.mark.parametrize("grid", [range(20, 200, 60), (), range(12, 200, 35)])
def test_ruled_lines_are_removed(seven: NDArray[np.uint8], grid: range) -> None:
    ruled = write_seven(page(), 70, 50)
    draw = ImageDraw.Draw(ruled)
    for at in grid:
        draw.line((0, at, 199, at), 120, 2)
        draw.line((at, 0, at, 199), 120, 2)
    assert likeness(center_digit(ruled), seven) > 0.9
