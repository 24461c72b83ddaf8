"""Digits of a page are divided into lines, also where the lines differ in height."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imaging.drawing import page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import page_hypotheses


def large_and_small(small: int = 5) -> Image.Image:
    """Two large sevens, and below them a line of small ones, a fifth as high."""
    picture = page(700, 700)
    for left in (100, 380):
        write_seven(picture, left, 60, zoom=3, pen=20)
    for number in range(small):
        write_seven(picture, 100 + 60 * number, 500, zoom=0.6, pen=5)
    return picture


def test_a_line_of_small_digits_below_large_ones_is_read() -> None:
    assert [(found.line, found.column) for found in find_digits(large_and_small())] == [
        *((1, column) for column in (1, 2)),
        *((2, column) for column in range(1, 6)),
    ]


@pytest.mark.parametrize("rejected", [0, 1, 2, 4])
def test_small_words_are_dropped_but_not_small_digits(rejected: int) -> None:
    """At most one of a line's digits, or a seventh of them, may be doubtful."""
    (hypotheses,) = page_hypotheses(large_and_small())
    tops = [found.box[1] for found in hypotheses.found]
    small = [place for place, top in enumerate(tops) if top > 450]
    unlike = [place in small[:rejected] for place in range(len(tops))]
    lines = [one.line for one in hypotheses.choose([0.0] * len(tops), unlike)]
    assert lines == ([1, 1, 2, 2, 2, 2, 2] if rejected < 2 else [1, 1])


def test_two_small_strokes_are_not_a_line_of_their_own() -> None:
    assert len(find_digits(large_and_small(2))) == 2


def test_a_line_may_be_a_third_lower_than_the_others() -> None:
    lines = page(900, 700)
    for number in range(4):
        write_seven(lines, 60 + 180 * number, 60, zoom=2, pen=14)
        write_seven(lines, 60 + 120 * number, 400, zoom=1.2, pen=9)
    for number in range(4, 6):
        ImageDraw.Draw(lines).ellipse((60 + 120 * number, 440, 130 + 120 * number, 505), outline=40, width=9)
    assert lines_of(lines) == [(1, column) for column in range(1, 5)] + [(2, column) for column in range(1, 7)]


def test_small_digits_beside_large_ones_stay_in_their_line() -> None:
    price = page(900, 400)
    for left in (60, 260):
        write_seven(price, left, 60, zoom=2.5, pen=16)
    for number in range(3):
        write_seven(price, 480 + 80 * number, 62, zoom=0.95, pen=10)
    assert [(found.line, found.column) for found in find_digits(price)] == [(1, column) for column in range(1, 6)]


def lines_of(picture: Image.Image) -> list[tuple[int, int]]:
    return [(found.line, found.column) for found in find_digits(picture)]


@pytest.mark.parametrize("slope", [-0.3, -0.15, 0.15, 0.3])
def test_the_lines_of_a_turned_page_slope(slope: float) -> None:
    sloping = page(1200, 1200)
    for number in range(15):
        down, across = divmod(number, 5)
        write_seven(sloping, 100 + 200 * across, 400 + 170 * down + slope * 200 * across)
    assert lines_of(sloping) == [(line, column) for line in (1, 2, 3) for column in range(1, 6)]


@pytest.mark.parametrize("rise", [4, 12, 20, 27])
def test_numbers_far_apart_that_each_rise_are_on_level_lines(rise: int) -> None:
    level = page(1500, 800)
    for number in range(36):
        down, place = divmod(number, 12)
        across, digit = divmod(place, 4)
        write_seven(level, 60 + 500 * across + 80 * digit, 100 + 230 * down - rise * digit)
    assert lines_of(level) == [(line, column) for line in (1, 2, 3) for column in range(1, 13)]


def test_steps_and_diagonals_are_not_lines() -> None:
    for down, across in ((105, 220), (45, 150)):  # steeper than a page is held; too short to tell
        steps = page(1500, 900)
        for place in range(6 if down > 100 else 3):
            write_seven(steps, 60 + across * place, 60 + down * place)
        assert lines_of(steps) == ([(line, 1) for line in range(1, 7)] if down > 100 else [(1, 1), (1, 2), (1, 3)])


def test_digits_all_over_a_page_have_no_common_slope() -> None:
    scattered = page(1200, 1200)
    places = [(320, 40), (600, 40), (940, 360), (640, 400), (400, 420), (500, 640), (340, 840), (560, 880)]
    for left, top in places:
        write_seven(scattered, left, top)
    assert [line for line, _ in lines_of(scattered)] == [1, 1, 2, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("top", [40, 300])  # beside the lines, and below
def test_a_drawing_does_not_decide_how_high_the_digits_are(top: int) -> None:
    picture = page(1000, 800)
    places = [(60 + 70 * column, 60 + 90 * line) for line in range(2) for column in range(5)]
    for left, upper in places:
        write_seven(picture, left, upper, zoom=0.4, pen=5)
    ImageDraw.Draw(picture).ellipse((550, top, 850, top + 400), outline=60, width=40)
    found = sorted(digit.box[1::-1] for digit in find_digits(picture))
    assert len(found) == 11
    sevens = [place for place in found if place[1] < 500]
    assert np.allclose(sevens, [place[::-1] for place in places], atol=6)


def test_large_digits_among_dust_are_no_drawings() -> None:
    picture = page(1200, 700)
    for top, left in np.random.default_rng(0).integers(20, (650, 1150), (80, 2)):
        ImageDraw.Draw(picture).ellipse((left, top, left + 17, top + 13), 40)
    for left in (150, 500, 850):
        write_seven(picture, left, 120, zoom=4, pen=40)
    assert len(find_digits(picture)) == 3
