"""Boxes, circles and frames around digits are ignored, and zeros with a mark inside are not."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, find_digit, page_hypotheses


def sevens_in(
    shape: str, form: Image.Image, lefts: Sequence[int], top: int, box: Sequence[int], width: int
) -> Image.Image:
    """Sevens on a form, each in a shape of lines of that width. box: the shape's left and right edges are relative to
    the seven's left edge, its top and bottom are the form's."""
    for left in lefts:
        write_seven(form, left, top)
        around = (left + box[0], box[1], left + box[2], box[3])
        getattr(ImageDraw.Draw(form), shape)(around, outline=40, width=width)
    return form


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_large_boxes_and_circles_around_digits_are_ignored(shape: str) -> None:
    form = sevens_in(shape, page(920, 400), (120, 420, 720), 150, (-80, 60, 150, 350), 5)
    boxes = [found.box for found in find_digits(form)]
    assert np.allclose([box[:2] for box in boxes], [(left - 4, 146) for left in (120, 420, 720)], atol=4)


@pytest.mark.parametrize("side", [0, 1])
def test_boxes_that_digits_touch_are_ignored(side: int) -> None:
    lefts = 80, 240, 400
    form = sevens_in("rectangle", page(620, 300), lefts, 100, (-30 * side, 75, 92 - 30 * side, 225), 4)
    boxes = [found.box for found in find_digits(form)]
    assert np.allclose([box[:2] for box in boxes], [(left, 98) for left in lefts], atol=6)


def test_a_zero_with_a_mark_inside_is_not_a_box() -> None:
    zero = page()
    ImageDraw.Draw(zero).ellipse((60, 40, 130, 160), outline=40, width=9)
    ImageDraw.Draw(zero).line((95, 86, 95, 114), 40, 9)
    (found,) = find_digits(zero)
    assert np.allclose(found.box, (60, 40, 131, 161), atol=2)


@pytest.mark.parametrize(("zoom", "label"), [(0.45, 0.85), (0.5, 1.0), (0.55, 0.9)])
@pytest.mark.parametrize("draw", ["rectangle", "ellipse"])
def test_a_frame_as_high_as_the_digit_before_it_is_ignored(draw: str, zoom: float, label: float) -> None:
    form = page(900, 300)
    write_seven(form, 60, 150 - 50 * label, zoom=label, pen=6)
    for left in (200, 350, 500, 650):
        getattr(ImageDraw.Draw(form), draw)((left, 90, left + 120, 210), outline=40, width=4)
        write_seven(form, left + 60 - 30 * zoom, 150 - 50 * zoom, zoom=zoom, pen=5)
    assert len(find_digits(form)) == 5
    (hypotheses,) = page_hypotheses(form)
    assert all(right - left < 120 for left, _, right, _ in (one.box for one in hypotheses.found))  # no network can err


def test_a_zero_with_a_slash_beside_other_digits_is_not_a_box() -> None:
    row = page(420, 300)
    for left in (80, 300):
        write_seven(row, left, 100)
    ImageDraw.Draw(row).ellipse((180, 98, 240, 200), outline=40, width=5)
    ImageDraw.Draw(row).line((218, 130, 202, 170), 40, 5)
    assert np.allclose(find_digits(row)[1].box, (180, 98, 241, 201), atol=2)


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_boxes_and_circles_around_digits_are_not_zeros(shape: str) -> None:
    form = sevens_in(shape, page(480, 200), (60, 200, 340), 50, (-30, 20, 90, 180), 3)
    assert [(found.line, found.column) for found in find_digits(form)] == [(1, 1), (1, 2), (1, 3)]
    assert all(found.box[2] - found.box[0] < 80 for found in find_digits(form))


def test_the_walls_between_the_boxes_of_a_date_are_not_ones() -> None:
    """The lines above and below a year are long enough to be ruled lines, the upright ones are not."""
    form = page(1200, 450)
    draw = ImageDraw.Draw(form)
    for left, cells in ((60, 2), (240, 2), (420, 4)):
        draw.rectangle((left, 150, left + 80 * cells, 260), outline=90, width=3)
        for cell in range(cells):
            draw.line((left + 80 * cell, 150, left + 80 * cell, 260), 90, 3)
            write_seven(form, left + 80 * cell + 22, 170, zoom=0.7, pen=7)
    write_seven(form, 620, 150, zoom=1.1, pen=7)  # from wall to wall
    assert [found.column for found in find_digits(form)] == [*range(1, 9)]


@pytest.mark.parametrize("degrees", [-3, 3])
@pytest.mark.parametrize("shift", [(-30, 0), (80, 0), (0, 30)])  # every other digit touches a wall or the line below
def test_the_walls_of_a_tilted_row_of_boxes_are_not_ones(shift: tuple[int, int], degrees: int) -> None:
    form = page(1000, 900)
    draw = ImageDraw.Draw(form)
    draw.rectangle((100, 140, 900, 270), outline=90, width=4)
    for cell in range(5):
        draw.line((100 + 160 * cell, 140, 100 + 160 * cell, 270), 90, 4)
        write_seven(form, 140 + 160 * cell + cell % 2 * shift[0], 158 + cell % 2 * shift[1], zoom=0.9)
    tilted = form.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=230)
    assert [found.column for found in find_digits(tilted)] == [1, 2, 3, 4, 5]


def test_the_box_that_a_single_digit_touches_does_not_belong_to_it(seven: NDArray[np.uint8]) -> None:
    boxed = write_seven(page(), 60, 50)
    ImageDraw.Draw(boxed).rectangle((58, 30, 160, 170), outline=40, width=4)
    assert likeness(center_digit(boxed), seven) > 0.9


def test_separate_bars_that_form_boxes_are_one_digit() -> None:
    """Such as those of a display. As the lines of a box, they would be erased."""
    eight = page(300, 300, 245)
    draw = ImageDraw.Draw(eight)
    for y in (50, 150, 250):
        draw.rectangle((99, y - 8, 201, y + 8), 20)
    for x in (95, 205):
        for y in (50, 150):
            draw.rectangle((x - 8, y + 4, x + 7, y + 96), 20)
    one, (same,) = find_digit(eight), find_digits(eight)
    assert one
    assert np.allclose([one.box, same.box], (87, 42, 213, 259), atol=4)
