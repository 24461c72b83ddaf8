"""The strokes of a page are grouped into digits; everything else is ignored."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import digit_hypotheses, page_hypotheses
from mnist_lit.imaging.segmentation import MAX_CHOICES


@pytest.mark.parametrize("pen", [9, 18, 31, 40])
@pytest.mark.parametrize("slant", [0, 39, 80])
def test_a_one_is_found_complete_alone_or_among_others(pen: int, slant: int) -> None:
    ones = page(560, 560)
    for left in (80, 240, 400):
        ImageDraw.Draw(ones).line([(left + slant, 92), (left, 468)], 40, pen)
        boxes = [found.box for found in find_digits(ones)]
        assert len(boxes) == 1 + (left - 80) // 160
        assert all(bottom - top > 370 for _, top, _, bottom in boxes)


@pytest.mark.parametrize("gap", [15, 30, 50])
def test_ones_in_a_column_are_not_a_ruled_line(gap: int) -> None:
    """Unlike an unbroken line of the same length."""
    sheet = page(520, 520)
    draw = ImageDraw.Draw(sheet)
    boxes = [(left, top) for top in (60, 160 + gap, 260 + 2 * gap) for left in (60, 120, 180)]
    for left, top in boxes:
        draw.line((left, top, left, top + 99), 40, 8)
    assert len(find_digits(sheet)) == 9
    assert [(found.line, found.column) for found in find_digits(sheet)] == [(n // 3 + 1, n % 3 + 1) for n in range(9)]
    draw.line((120, 60, 120, 359 + 2 * gap), 40, 8)
    assert len(find_digits(sheet)) == 6


def test_long_lines_that_stand_alone_are_not_ones() -> None:
    """The lines across them, printed on the paper or removed before, do not connect them."""
    sudoku = page(600, 800)
    for left in range(60, 561, 50):
        ImageDraw.Draw(sudoku).line((left, 150, left + 6, 650), 40, 4)
    for number in range(12):
        write_seven(sudoku, 73 + number % 4 * 100, 190 + number // 4 * 150, zoom=0.3, pen=4)
    assert [(found.line, found.column) for found in find_digits(sudoku)] == [(n // 4 + 1, n % 4 + 1) for n in range(12)]


@pytest.mark.parametrize("length", [140, 180])
def test_a_line_below_a_column_of_numbers_is_not_writing(length: int) -> None:
    """Even if it touches the digits below it and is short compared with the page."""
    total = page(1000, 800)
    for left in (300, 330, 360):
        for top in (200, 260, 330):
            write_seven(total, left, top, zoom=0.4, pen=4)
    ImageDraw.Draw(total).line((280, 328, 280 + length, 328), 40, 4)
    boxes = [found.box for found in find_digits(total)]
    assert len(boxes) == 9
    assert all(right - left < 35 for left, _, right, _ in boxes)


def test_the_bars_of_two_fours_that_touch_are_not_a_ruled_line() -> None:
    """Without its straight strokes, a four looks so small that they seem too long for a digit."""
    fours = page(500, 260)
    for left in (80, 160):
        ImageDraw.Draw(fours).line(((left + 28, 60), (left, 132), (left + 80, 132)), 40, 6)
        ImageDraw.Draw(fours).line((left + 60, 90, left + 60, 180), 40, 6)
    sizes = [(right - left, bottom - top) for (left, top, right, bottom), *_ in page_hypotheses(fours)[0].found]
    assert sum(75 < width < 95 and height > 115 for width, height in sizes) == 2


def test_thousands_of_specks_are_not_tried_in_every_combination() -> None:
    dusty = np.full((1400, 1400), 230, np.uint8)
    for top, left in np.random.default_rng(0).integers(0, 1394, (5000, 2)):
        dusty[top : top + 6, left : left + 6] = 40
    assert len(digit_hypotheses(dusty).found) < 10
    assert len(page_hypotheses(dusty)[0].found) <= MAX_CHOICES  # 1,980 with every combination


@pytest.mark.parametrize(("height", "read"), [(3, False), (6, True)])
def test_noise_is_not_a_page_of_digits(height: int, read: bool) -> None:
    """A page of ones is as full, but higher."""
    noisy = np.full((600, 600), 230, np.uint8)
    for place, shift in enumerate(np.random.default_rng(0).integers(0, 7, 40 * 40)):
        top, left = 14 * (place // 40) + 10 + shift, 14 * (place % 40) + 10 + shift
        noisy[top : top + height, left : left + 2] = 40
    assert bool(page_hypotheses(noisy)[0].lines) == read


def test_every_digit_of_a_full_page_is_found_whole() -> None:
    """Each of 1,000 blots is as wide as two digits that touch, so it would be cut."""
    blots = np.full((1620, 1020), 230, np.uint8)
    for top in range(20, 1620, 40):
        for left in range(20, 1020, 40):
            blots[top : top + 18, left : left + 22] = 40
    found = find_digits(blots)
    assert len(found) == 1000
    assert {(box[2] - box[0], box[3] - box[1]) for box in (digit.box for digit in found)} == {(22, 18)}


def test_digits_are_found_among_thousands_of_specks() -> None:
    dusty = np.full((800, 800), 230, np.uint8)
    for top in range(300, 780, 12):
        for left in range(12, 780, 12):
            dusty[top : top + 4, left : left + 4] = 40
    written = Image.fromarray(dusty)
    places = [(left, top) for top in (30, 160) for left in range(60, 700, 130)]
    for left, top in places:
        write_seven(written, left, top)
    boxes = [found.box for found in find_digits(written)]
    assert len(boxes) == len(places)
    assert np.allclose([box[:2] for box in boxes], places, atol=6)


@pytest.mark.parametrize("ruled", [False, True])
def test_digits_are_found_in_reading_order(ruled: bool) -> None:
    many = page(600, 420)
    for row in range(2):
        for column in range(4):
            write_seven(many, 60 + 130 * column, 60 + 190 * row + 8 * column, pen=9)
    if ruled:
        draw = ImageDraw.Draw(many)
        for at in (20, 206, 400):
            draw.line((20, at, 555, at), 60, 3)
        for at in (20, 155, 285, 415, 555):
            draw.line((at, 20, at, 400), 60, 3)
    boxes = [found.box for found in find_digits(many)]
    expected = [(60 + 130 * column, 60 + 190 * row + 8 * column) for row in range(2) for column in range(4)]
    assert np.allclose([box[:2] for box in boxes], expected, atol=8)


def test_touching_digits_are_separated() -> None:
    touching = page(300)
    ImageDraw.Draw(touching).line((100, 100, 180, 100), 40, 6)
    for left in (60, 160):
        ImageDraw.Draw(touching).ellipse((left, 50, left + 60, 150), outline=40, width=8)
    assert len(find_digits(touching)) == 2


def test_a_wide_loop_stays_whole() -> None:
    """Unless a network finds its halves far more likely."""
    zero = page(300)
    ImageDraw.Draw(zero).ellipse((60, 60, 200, 150), outline=40, width=8)
    assert len(find_digits(zero)) == 1


def test_digits_that_touch_twice_are_separated_if_the_network_finds_them_likelier() -> None:
    zeros = page(300)
    for left in (60, 130):
        ImageDraw.Draw(zeros).ellipse((left, 50, left + 60, 150), outline=40, width=8)
    for top in (75, 125):
        ImageDraw.Draw(zeros).line((115, top, 135, top), 40, 6)
    (hypotheses,) = page_hypotheses(zeros)
    costs = [5.0 * (digit.box[2] - digit.box[0] > 90) for digit in hypotheses.found]
    boxes = [hypotheses.found[one.digit].box for one in hypotheses.choose(costs)]
    assert np.allclose(boxes, [(60, 50, 125, 151), (125, 50, 191, 151)], atol=8)
    assert len(find_digits(zeros)) == 1


def test_digits_that_only_blur_joins_are_separated_if_the_network_finds_them_likelier() -> None:
    ten = page(300)
    ImageDraw.Draw(ten).line((100, 50, 100, 150), 40, 8)
    ImageDraw.Draw(ten).ellipse((107, 50, 157, 150), outline=40, width=8)  # too narrow to be cut
    (hypotheses,) = page_hypotheses(ten.filter(ImageFilter.GaussianBlur(2)))
    costs = [5.0 * (digit.box[2] - digit.box[0] > 55) for digit in hypotheses.found]
    boxes = [hypotheses.found[one.digit].box for one in hypotheses.choose(costs)]
    assert np.allclose(boxes, [(96, 50, 105, 151), (106, 50, 158, 151)], atol=4)
    assert len(hypotheses.choose([0.2 * (digit.box[2] - digit.box[0] > 55) for digit in hypotheses.found])) == 1
    ImageDraw.Draw(ten).line((100, 100, 110, 100), 40, 8)  # joined by ink
    (hypotheses,) = page_hypotheses(ten.filter(ImageFilter.GaussianBlur(2)))
    assert {digit.box[2] - digit.box[0] > 55 for digit in hypotheses.found} == {True}


def test_only_tall_parts_are_parted() -> None:
    """A short stroke that blur joins to a digit is not looked at alone."""
    six = page(400, 400)
    ImageDraw.Draw(six).ellipse((107, 50, 157, 150), outline=40, width=8)
    ImageDraw.Draw(six).line((100, 60, 100, 100), 40, 8)
    (hypotheses,) = page_hypotheses(six.filter(ImageFilter.GaussianBlur(2)))
    assert min(right - left for (left, _, right, _), *_ in hypotheses.found) > 55


def test_the_two_strokes_of_an_open_four_are_one_digit_rather_than_two() -> None:
    """Unlike digits that stand beside each other."""
    for apart in (0, 40):
        number = write_seven(page(400, 260), 40, 60)
        draw = ImageDraw.Draw(number)
        draw.line([(180, 60), (150, 120), (196, 120)], 40, 8)
        draw.line([(240 + apart, 70), (180 + apart, 170)], 40, 8)
        (line,) = page_hypotheses(number)[0].lines
        costs = {(choice.first, choice.stop): choice.cost for choice in line if choice.digit is not None}
        if apart:
            assert costs[1, 2] + costs[2, 3] < costs.get((1, 3), 9)
        else:
            assert costs[1, 2] + costs[2, 3] > costs[1, 3] + 1


def test_digits_that_lean_over_each_other_are_two() -> None:
    number = write_seven(page(400, 260), 40, 60)
    for left in (150, 180):
        ImageDraw.Draw(number).line((left + 60, 62, left, 162), 40, 8)
    (line,) = page_hypotheses(number)[0].lines
    costs = {(choice.first, choice.stop): choice.cost for choice in line}
    assert (costs[1, 2], costs[2, 3]) == (0, 0)


@pytest.mark.parametrize("joint", [8, 16])
def test_a_digit_that_touches_one_in_the_line_below_is_separated(joint: int) -> None:
    lines = page(600, 400)
    for top in (60, 200):
        for left in (60, 180, 300, 420):
            write_seven(lines, left, top)
    ImageDraw.Draw(lines).line((205, 156, 215, 206), 40, joint)
    assert [(found.line, found.column) for found in find_digits(lines)] == [(n // 4 + 1, n % 4 + 1) for n in range(8)]


def test_a_tall_one_is_not_cut_into_two_lines() -> None:
    line = page(600, 400)
    for left in (60, 300, 420):
        write_seven(line, left, 160)
    ImageDraw.Draw(line).line((200, 80, 200, 260), 40, 8)
    heights = [bottom - top for _, top, _, bottom in (found.box for found in find_digits(line))]
    assert (len(heights), max(heights) > 170) == (4, True)


def test_small_digits_beside_large_ones_are_digits_of_their_own() -> None:
    price = page(300)
    ImageDraw.Draw(price).ellipse((30, 50, 110, 200), outline=40, width=8)
    ImageDraw.Draw(price).ellipse((130, 50, 160, 106), outline=40, width=5)
    assert len(find_digits(price)) == 2


def test_a_low_piece_does_not_end_a_rising_line() -> None:
    """It overlaps the digit before it, but hardly the one after it."""
    line = write_seven(write_seven(page(400), 40, 40), 240, 66)
    ImageDraw.Draw(line).line((160, 30, 185, 70), 40, 8)
    assert {found.line for found in find_digits(line)} == {1}


def test_punched_holes_are_not_zeros() -> None:
    """But rings are, however small the hole in them."""
    ring = page(600, 400)
    for left in (200, 330, 460):
        write_seven(ring, left, 60)
    ImageDraw.Draw(ring).ellipse((40, 60, 120, 140), outline=40, width=30)
    punched = ring.copy()
    ImageDraw.Draw(punched).ellipse((40, 60, 120, 140), 40)
    assert [len(find_digits(picture)) for picture in (ring, punched)] == [4, 3]


def test_large_digits_with_straight_strokes_are_not_lines_and_an_underline_is() -> None:
    """In a crop where every digit has a stroke as long as a ruled line, they tell how high digits are."""
    elevens = page(480, 300)
    for left in (140, 320):
        ImageDraw.Draw(elevens).line((left, 50, left, 220), 30, 12)
    ImageDraw.Draw(elevens).line((45, 255, 435, 255), 30, 12)
    assert [found.box[2] - found.box[0] < 20 for found in find_digits(elevens)] == [True, True]
    boxes = page(300, 120)  # as high as wide letters
    for left in (20, 98, 176, 254):
        ImageDraw.Draw(boxes).rectangle((left, 30, left + 40, 90), outline=20, width=7)
    assert len(find_digits(boxes)) == 4


@pytest.mark.parametrize("down", [12, -25])
def test_a_dash_alone_is_not_cut(down: int) -> None:
    dash = page(336, 336)
    ImageDraw.Draw(dash).line((110, 170, 220, 170 + down), 40, 18)
    assert len(find_digits(dash)) == 1


def test_ones_that_join_in_a_zigzag_are_not_a_dash() -> None:
    """Although each column has one stroke, equally thick."""
    ones = page(400, 300)
    ImageDraw.Draw(ones).line([(100, 200), (140, 100), (180, 200), (220, 100), (260, 200)], 40, 14, "curve")
    assert len(find_digits(ones)) > 1
