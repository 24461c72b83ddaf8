"""The strokes of one digit are found; everything else is ignored."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageDraw

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit
from mnist_lit.imaging.mnist_format import BOX_SIZE


def test_specks_and_ink_at_the_border_are_ignored(seven: NDArray[np.uint8]) -> None:
    dirty = write_seven(page(), 70, 50)
    for spot in ((20, 20, 22, 22), (150, 180, 153, 182), (0, 60, 12, 160), (192, 0, 199, 90)):
        ImageDraw.Draw(dirty).rectangle(spot, 40)
    assert likeness(center_digit(dirty), seven) > 0.98


def test_an_upright_one_is_not_a_ruled_line() -> None:
    one = page(60, 200)
    ImageDraw.Draw(one).line((30, 0, 30, 199), 40, 8)
    rows, columns = center_digit(one).nonzero()
    assert np.ptp(rows) + 1 == BOX_SIZE
    assert np.ptp(columns) < 6


def test_the_long_strokes_of_a_four_are_not_ruled_lines() -> None:
    four = page(28, 28, 255)
    ImageDraw.Draw(four).line(((14, 26), (14, 3), (5, 16), (24, 17)), 0)
    found = find_digit(four)
    assert found
    assert np.allclose(found.box, (5, 3, 25, 27), atol=1)


def test_a_bar_across_a_tight_crop_is_not_a_ruled_line(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write_seven(page(), 70, 50).crop((66, 46, 134, 155))), seven) > 0.9


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


@pytest.mark.parametrize("gap", [0, 3, 5])
def test_the_pieces_of_a_broken_stroke_stay_together(gap: int) -> None:
    broken = write_seven(page(), 60, 50)
    for top in (85, 115):
        broken.paste(230, (0, top, 200, top + gap))
    found = find_digit(broken)
    assert found
    assert np.allclose(found.box, (60, 46, 124, 152), atol=2)


@pytest.mark.parametrize("spacing", [2.2, 2.7, 3])
def test_the_dots_of_a_brush_stay_together(spacing: float) -> None:
    """Some programs draw a dot at each position of the mouse, however fast it moves."""
    dotted, radius = page(400, 400), 7
    for (x0, y0), (x1, y1) in (((110, 80), (260, 80)), ((260, 80), (170, 320))):
        count = int(np.hypot(x1 - x0, y1 - y0) / (spacing * radius))
        for x, y in np.linspace((x0, y0), (x1, y1), count + 1):
            ImageDraw.Draw(dotted).ellipse((x - radius, y - radius, x + radius, y + radius), 40)
    found = find_digit(dotted)
    assert found
    assert np.allclose(found.box, (103, 73, 267, 327), atol=3)


def test_a_digit_is_not_joined_to_the_one_beside_it() -> None:
    pair = write_seven(write_seven(page(300), 60, 50), 155, 50)
    ImageDraw.Draw(pair).rectangle((134, 80, 142, 130), 40)  # nor by what is between them
    found = find_digit(pair)
    assert found
    assert found.box[2] - found.box[0] < 80


@pytest.mark.parametrize("lines", [((170, 6),), ((170, 4), (184, 4)), ((30, 6),)])
def test_lines_below_and_above_a_digit_do_not_belong_to_it(
    lines: tuple[tuple[int, int], ...], seven: NDArray[np.uint8]
) -> None:
    underlined = write_seven(page(200, 220), 60, 50)
    for top, pen in lines:
        ImageDraw.Draw(underlined).line((35, top, 160, top), 40, pen)
    assert likeness(center_digit(underlined), seven) > 0.9


@pytest.mark.parametrize(
    "strokes",
    [
        [[(60, 50), (140, 50), (60, 150), (140, 150)]],  # a 2
        [[(70, 70), (100, 50), (100, 150)], [(72, 150), (128, 150)]],  # a 1 with a base
        [[(85, 50), (60, 110), (140, 110)], [(115, 80), (115, 160)]],  # a 4
    ],
)
def test_the_foot_of_a_digit_is_not_an_underline(strokes: list[list[tuple[int, int]]]) -> None:
    digit = page()
    for stroke in strokes:
        ImageDraw.Draw(digit).line(stroke, 40, 8, "curve")
    found = find_digit(digit)
    assert found
    corners = np.array([corner for stroke in strokes for corner in stroke])
    assert np.allclose(found.box, (*(corners.min(axis=0) - 4), *(corners.max(axis=0) + 4)), atol=4)


def test_a_digit_of_a_thick_pen_is_found_without_a_thin_tilted_line_across_it() -> None:
    plain, crossed = (write_seven(page(200, 200), 70, 30, zoom=1.2, pen=16) for _ in range(2))
    ImageDraw.Draw(crossed).line((0, 138, 199, 146), 40, 3)
    alone = find_digit(plain)
    assert alone
    assert any(np.allclose(found.box, alone.box, atol=2) for found in digit_hypotheses(crossed).found)


def test_lines_near_the_sides_of_ruled_paper_are_lines() -> None:
    plain, ruled = (write_seven(page(220, 220), 80, 60) for _ in range(2))
    for row in (14, 110, 206):
        ImageDraw.Draw(ruled).line((14, row, 206, row), 40, 3)
    assert likeness(center_digit(ruled), center_digit(plain)) > 0.9
