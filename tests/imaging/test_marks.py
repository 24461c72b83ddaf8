"""Commas, slashes and other marks among digits are left out; digits that look like them are not."""

import numpy as np
import pytest
from PIL import ImageDraw

from imaging.drawing import page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.components import Component
from mnist_lit.imaging.find_digits import page_hypotheses
from mnist_lit.imaging.marks import find_blanks, find_commas
from mnist_lit.imaging.segmentation import BLANK_COST, BLANK_PART_COST


@pytest.mark.parametrize("height", [28, 36])
def test_a_comma_is_not_a_one_on_a_line_of_its_own(height: int) -> None:
    number = page(600, 260)
    for left in (40, 220, 300, 380):
        write_seven(number, left, 60)
    ImageDraw.Draw(number).line((122, 155, 112, 155 + height), 40, 8)
    assert [(found.line, found.column) for found in find_digits(number)] == [(1, column) for column in range(1, 5)]


def test_a_short_one_beside_a_digit_is_not_a_comma() -> None:
    number = write_seven(page(300, 260), 40, 60)
    ImageDraw.Draw(number).line((130, 105, 126, 160), 40, 8)
    assert len(find_digits(number)) == 2


SLASH = (155, 200, 125, 30)  # x and y of its ends


@pytest.mark.parametrize(
    ("strokes", "digits"),
    [
        ([SLASH], 2),
        ([(140, 30, 140, 200)], 2),  # a bar
        ([(140, 60, 140, 160)], 3),  # a one
        ([(140, 30, 140, 160)], 3),  # that is tall, but stands on the line
        ([(115, 110, 165, 110), (140, 85, 140, 135)], 2),  # a plus
        ([(115, 110, 165, 110), (125, 85, 125, 135)], 3),  # of which one arm is missing
    ],
)
def test_slashes_bars_and_plus_signs_are_left_out(strokes: list[tuple[int, ...]], digits: int) -> None:
    date = write_seven(page(300, 260), 40, 60)
    write_seven(date, 190, 60)
    for stroke in strokes:
        ImageDraw.Draw(date).line(stroke, 40, 8)
    assert len(find_digits(date)) == digits


@pytest.mark.parametrize(("height", "bend", "digits"), [(140, 0, 3), (180, 0, 2), (120, 25, 3), (150, 25, 2)])
def test_a_bar_at_the_end_of_a_number_is_higher_than_a_bracket(height: int, bend: int, digits: int) -> None:
    """And both are higher than a one."""
    number = write_seven(page(300, 260), 40, 60)
    write_seven(number, 120, 60)
    top, bottom = 112 - height // 2, 112 + height // 2
    ImageDraw.Draw(number).line([(210, top), (210 + bend, 112), (210, bottom)], 40, 8, "curve")
    assert len(find_digits(number)) == digits


def test_a_comma_is_short_and_at_the_foot_of_a_digit() -> None:
    def stroke(top: int, left: int, height: int, width: int) -> Component:
        return Component(top, left, top + height, left + width, np.ones((height, width), bool))

    digit, comma = stroke(50, 0, 100, 60), stroke(135, 70, 40, 15)
    apostrophe, point, far, high, wide = (
        stroke(30, 70, 40, 15),
        stroke(135, 70, 15, 12),
        stroke(135, 90, 40, 15),
        stroke(110, 70, 60, 15),
        stroke(135, 70, 40, 36),
    )
    assert find_commas([digit, comma, apostrophe, point, far, high, wide], 100) == [comma]
    assert find_commas([comma], 100) == []


@pytest.mark.parametrize("gap", [4, 14])
def test_the_lines_under_single_digits_may_be_left_out(gap: int) -> None:
    """The network decides, since they may also be the foot of a two."""
    form = page(900, 260)
    for left in range(60, 860, 160):
        write_seven(form, left, 60)
        foot = 164 + gap + (left // 160 % 2) * 12  # so that they are not one ruled line
        ImageDraw.Draw(form).line((left - 8, foot, left + 72, foot), 40, 4)
    ((line,), found) = page_hypotheses(form)[0][:2]
    assert [choice.cost for choice in line if choice.digit is None] == [BLANK_COST] * 5
    pairs = [choice for choice in line if choice.stop == choice.first + 2]
    whole = [(choice.cost, found[choice.digit or 0].box) for choice in pairs]
    assert [cost for cost, _ in whole] == [BLANK_PART_COST] * 5
    assert all(box[3] > 164 for _, box in whole)


def test_a_line_under_a_digit_is_low_and_at_least_as_wide() -> None:
    digit = Component(0, 10, 100, 70, np.ones((100, 60), bool))
    for top, left, bottom, right, expected in (
        (104, 8, 112, 80, True),
        (95, 8, 103, 80, True),  # touches the foot
        (104, 20, 112, 80, False),  # begins to the right
        (104, 8, 124, 80, False),  # too high
        (40, 8, 48, 80, False),  # crosses the digit
    ):
        line = Component(top, left, bottom, right, np.ones((bottom - top, right - left), bool))
        assert find_blanks([digit, line], 100) == [line] * expected
