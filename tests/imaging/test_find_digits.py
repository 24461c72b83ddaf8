"""Digits are found in pictures, one or all of them, and where they were written."""

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imaging.drawing import likeness, page, write_seven, write_zero
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit, page_hypotheses
from mnist_lit.imaging.hypotheses import Choice, FoundDigit, Hypotheses
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.imaging.sheet import Sheet


@pytest.mark.parametrize("paper", [0, 127, 255])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (640, 480)])
def test_blank_paper_has_no_digit(paper: int, size: tuple[int, int]) -> None:
    assert find_digit(page(*size, paper)) is None
    assert find_digits(page(*size, paper)) == []
    assert not center_digit(page(*size, paper)).any()


def test_a_digit_is_found_where_it_was_written() -> None:
    found = find_digit(write_seven(page(), 70, 50))
    assert found
    assert np.allclose(found.box, (66, 46, 134, 154), atol=4)


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (page().convert("RGBA"), r'"RGBA" \(200, 200\)'),
        (page().convert("P"), '"P"'),
        (Image.new("I;16", (50, 40)), '"I;16"'),
        (Image.new("L", (0, 40)), r'"L" \(0, 40\)'),
        (np.zeros((28, 28), bool), r"bool \(28, 28\)"),
        (np.zeros((40, 50, 4), np.uint8), r"uint8 \(40, 50, 4\)"),
        (np.zeros((40, 50), np.float32), "float32"),
        (np.zeros((0, 50), np.uint8), "uint8"),
        ("seven.png", "<U9"),
    ],
)
def test_a_picture_of_another_kind_has_to_be_opened_first(picture: Any, kind: str) -> None:
    for find in (find_digit, find_digits, center_digit):
        with pytest.raises(ValueError, match=f"got {kind}.*; call open_picture first"):
            find(picture)


def test_a_picture_may_have_a_text_called_size() -> None:
    written = write_seven(page(), 70, 50)
    plain = find_digit(written)
    written.info["size"] = "A4"  # as Pillow keeps the texts of a PNG file
    titled = find_digit(written)
    assert plain
    assert titled
    assert titled.box == plain.box


def test_boxes_refer_to_the_picture_before_it_was_reduced() -> None:
    small = find_digit(write_seven(page(), 70, 50))
    large = find_digit(open_picture(write_seven(page(5000, 5000), 1750, 1250, zoom=25, pen=200)))
    assert small
    assert large
    assert np.allclose(np.array(large.box) / 25, small.box, atol=4)


@pytest.mark.parametrize("short", [1, 2, 8, 60])
def test_a_long_thin_picture_raises_no_error(short: int) -> None:
    thin = np.random.default_rng(0).integers(0, 256, (4000, short), np.uint8)
    thin[1000:2000] = 255
    for picture in (thin, thin.T.copy()):
        found = find_digit(picture)
        assert found is None or found.image.any()
        assert all(digit.image.any() for digit in find_digits(picture))


@pytest.mark.parametrize(
    ("side", "count"), [((1, 40), 2), ((2, 28), 0), ((2, 100), 0), ((3, 40), 2), ((4, 60), 2), ((99, 2), 0)]
)
def test_a_number_a_few_pixels_high_raises_no_error(side: tuple[int, int], count: int) -> None:
    strip = np.full(side, 255, np.uint8)
    strip[:, 1:3] = strip[:, -3:-1] = 0
    assert [digit.image.any() for digit in find_digits(strip)] == [True] * count


def test_a_page_with_dark_edges_on_two_sides_is_not_a_cropped_number() -> None:
    dark = page(600, 500)
    for top in (70, 200, 330):
        for left in (100, 220, 340, 460):
            write_seven(dark, left, top, zoom=0.6, pen=6)
    for edge in (((0, 20), (25, 499), (0, 499)), ((0, 499), (560, 499), (560, 490), (0, 475))):
        ImageDraw.Draw(dark).polygon(edge, 60)
    assert [digit.line for digit in find_digits(dark)] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def test_a_page_of_small_digits_with_a_shadow_along_one_side_is_not_a_cropped_number() -> None:
    """Although the shadow is so long that the digits beside it are hardly larger than specks."""
    full = page(600, 800)
    for top in range(15, 750, 150):
        for left in range(30, 600, 178):
            write_seven(full, left, top, zoom=0.3, pen=5)
    assert len(find_digits(full)) == 20
    ImageDraw.Draw(full).rectangle((0, 100, 20, 799), 90)
    assert len(find_digits(full)) == 20


@pytest.mark.parametrize("side", [332, 335, 638, 1278])
def test_a_box_lies_in_the_picture_however_it_was_reduced(side: int) -> None:
    pixels = np.full((side, side), 235, np.uint8)
    pixels[side // 2 :, side // 3 : side // 2] = 20
    boxes = [found.box for found in (find_digit(pixels), *find_digits(pixels)) if found]
    assert boxes
    assert all(0 <= left < right <= side and 0 <= top < bottom <= side for left, top, right, bottom in boxes)


def test_lines_and_columns_are_numbered() -> None:
    written = page(600, 420)
    for left, top in ((60, 60), (190, 70), (320, 60), (60, 250), (190, 255)):
        write_seven(written, left, top, pen=9)
    assert [(found.line, found.column) for found in find_digits(written)] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]


def test_a_picture_of_several_digits_says_how_many() -> None:
    written = page(600)
    for number, left in enumerate((60, 190, 320, 450)):
        write_seven(written, left, 60, pen=9)
        assert digit_hypotheses(written).beside == number


def test_a_row_of_joined_digits_says_how_many() -> None:
    number = page(900, 300)
    for left in range(60, 780, 120):  # their bars touch
        write_seven(number, left, 60, zoom=2, pen=14)
    assert digit_hypotheses(number).beside == 5


def test_a_page_may_be_a_single_digit_of_any_thickness() -> None:
    """If the network finds it likelier than most of what the page seems to show."""
    alone = page_hypotheses(write_seven(page(), 70, 50, pen=28))[0]
    (_, place), parts = alone.whole_page[0], [digit for digit, *_ in alone.choose()]
    assert np.allclose(alone.found[place].box, (70, 37, 144, 155), atol=2)
    assert place not in parts
    assert len(parts) > 0
    assert find_digits(write_seven(page(), 70, 50, pen=40))  # the page shows nothing at all
    costs = np.full(len(alone.found), 0.5)
    costs[place] = 0.4
    assert [one.digit for one in alone.choose(costs.tolist())] == [place]
    costs[place] = 0.6
    assert [one.digit for one in alone.choose(costs.tolist())] != [place]


@pytest.mark.parametrize("zoom", [0.25, 0.6, 1.2])
def test_the_only_digit_of_a_photo_is_found_beside_the_edge_of_a_shadow(zoom: float) -> None:
    light = np.where(np.arange(1500) < 900, 1, 0.6)
    written = np.asarray(write_seven(page(1500, 1500), 500, 700, zoom=zoom, pen=round(10 * zoom)))
    found = find_digit((written * light).astype(np.uint8))
    assert found
    assert np.allclose(found.box, (500, 700, 500 + 60 * zoom, 700 + 100 * zoom), atol=9)


def test_a_large_photo_shows_the_ink_of_a_small_digit_in_detail() -> None:
    photo = write_seven(page(1500, 1500), 700, 700, zoom=0.3, pen=3)
    small, large = find_digit(photo), find_digit(photo.crop((690, 690, 730, 745)))
    assert small
    assert large
    assert likeness(small.image, large.image) > 0.95


@pytest.mark.parametrize("pen", [100, 250])
def test_a_thick_digit_of_a_large_picture_is_found_whole(pen: int) -> None:
    small = find_digit(write_seven(page(600, 600), 175, 125, zoom=3.5, pen=pen // 2))
    large = find_digit(write_seven(page(1200, 1200), 350, 250, zoom=7, pen=pen))
    assert small
    assert large
    assert np.allclose(large.box, 2 * np.array(small.box), atol=12)


def tight_seven(height: int) -> NDArray[np.uint8]:
    """Cropped to the digit."""
    zoom = height / 110
    written = np.asarray(
        write_seven(page(2 * height, 2 * height), 0.6 * height, 0.4 * height, zoom=zoom, pen=round(9 * zoom))
    )
    rows, columns = (np.flatnonzero((written < 127).any(axis=axis)) for axis in (1, 0))
    return written[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_a_digit_that_fills_a_photo_is_not_taken_for_ink_at_the_border() -> None:
    """Then a piece of it, which is found on the picture as a page, would cost as little."""
    cropped = tight_seven(900)
    height, width = cropped.shape
    first = min(digit_hypotheses(cropped).lines[0], key=lambda choice: choice.cost)
    left, top, right, bottom = digit_hypotheses(cropped).found[first.digit or 0].box
    assert right - left > 0.9 * width
    assert bottom - top > 0.9 * height


def test_a_digit_that_the_shadow_of_a_hand_touches_is_also_read_as_on_a_page(seven: NDArray[np.uint8]) -> None:
    y, x = np.mgrid[0:640, 0:480]
    shade = 1 - 0.5 / (1 + np.exp((np.hypot((x - 300) / 480, (y - 640) / 640) - 0.45) / 0.02))
    written = np.asarray(write_seven(page(480, 640), 180, 200, zoom=2, pen=20))
    found = digit_hypotheses((written * shade).astype(np.uint8))
    (digit,) = found.digits()
    assert likeness(digit.image, seven) > 0.8
    assert np.allclose(digit.box, (180, 200, 300, 400), atol=25)


def test_a_piece_of_a_large_digit_is_taken_only_if_it_is_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a page, a thick digit may fall apart, so that a piece seems to be the only digit."""
    thick = write_seven(page(1200, 1200), 350, 250, zoom=7, pen=180)
    piece = FoundDigit((590, 962, 602, 976), np.zeros((28, 28), np.uint8))
    lines = [[Choice(0, 1, 0.0, 0)]]
    on_page = Mock(lines=lines)
    on_page.drawn.return_value = Hypotheses(lines, [piece])
    monkeypatch.setattr("mnist_lit.imaging.find_digits._segmented_page", lambda _: on_page)
    found = digit_hypotheses(thick)
    assert np.allclose(found.digits()[0].box, (350, 160, 860, 980), atol=6)
    assert [one.digit for one in found.choose([0.0, 0.9])] == [1]
    assert [one.digit for one in found.choose([0.0, 1.1])] == [0]


def test_a_digit_is_likelier_than_a_far_fainter_stain() -> None:
    stained = write_seven(page(1600, 1200), 1250, 800, zoom=0.6, pen=6)
    ring = Image.new("L", stained.size, 255)
    ImageDraw.Draw(ring).ellipse((300, 200, 1100, 1000), outline=217, width=40)  # of a cup
    photo = np.asarray(stained) * (np.asarray(ring.filter(ImageFilter.GaussianBlur(6))) / 255)
    found = digit_hypotheses(photo.astype(np.uint8))
    assert np.allclose(found.digits()[0].box, (1250, 797, 1286, 860), atol=6)


def test_the_digit_of_a_form_may_be_the_tallest_among_its_words() -> None:
    form = page(1200, 1600)
    for top in (60, 120, 1500):
        ImageDraw.Draw(form).text((100, top), "write the number below", 40, ImageFont.load_default(64))
    write_seven(form, 500, 700, zoom=1.2, pen=12)
    found = digit_hypotheses(form)
    assert np.allclose(found.found[-1].box, (500, 695, 579, 823), atol=4)
    assert found.beside + found.found[-1].more_beside == 0
    write_seven(form, 800, 700, zoom=1.2, pen=12)
    found = digit_hypotheses(form)
    assert found.beside + found.found[-1].more_beside == 1


def test_a_shadow_s_edge_is_not_the_tallest_digit_of_a_form() -> None:
    form = page(1200, 1600)
    for top in (60, 120, 1500):
        ImageDraw.Draw(form).text((100, top), "write the number below", 40, ImageFont.load_default(64))
    ImageDraw.Draw(form).line((1190, 600, 1180, 900), 40, 12)
    assert not any(one.box[1] > 500 for one in digit_hypotheses(form).found)


def test_every_digit_of_a_number_cropped_to_its_ink_is_found() -> None:
    """A one along the border is not taken for the edge of the paper."""
    number = page(360, 110)
    for left in (60, 160, 270):
        write_seven(number, left, 4)
    ImageDraw.Draw(number).line((4, 6, 4, 106), 40, 10)
    found = find_digits(number.crop((0, 0, 334, 110)))
    assert [digit.column for digit in found] == [1, 2, 3, 4]
    assert np.allclose([found[0].box, found[3].box], [(0, 2, 10, 110), (268, 0, 334, 108)], atol=4)


def test_two_digits_near_each_other_are_not_a_single_one() -> None:
    written = write_seven(write_seven(page(200, 400), 70, 50), 70, 170)
    assert page_hypotheses(written)[0].whole_page == []
    assert [(found.line, found.column) for found in find_digits(written)] == [(1, 1), (2, 1)]


def test_a_box_is_never_empty() -> None:
    """Although its ink may lie in the margin around a cropped digit."""
    boxes = []
    for *shape, top, left, bottom, right in ((7, 1557, 1, 742, 2, 671), (48, 1260, 1, 215, 9, 1095)):
        strip = np.full(shape, 255, np.uint8)
        strip[:top, :left] = strip[bottom:, right:] = 0
        boxes += [found.box for found in (find_digit(strip), *find_digits(strip)) if found]
    assert boxes
    assert all(left < right and top < bottom for left, top, right, bottom in boxes)


def test_a_box_on_a_sheet_that_the_picture_shows_far_smaller_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    one = page(400, 400)
    ImageDraw.Draw(one).line((200, 100, 200, 300), 40, 8)
    sheet = Sheet(np.asarray(one), np.diag((0.02, 0.02, 1.0)))
    monkeypatch.setattr("mnist_lit.imaging.reduced_picture.find_sheets", lambda pixels: [sheet])
    assert [found.box for found in find_digits(one)] == [(4, 2, 5, 6)]


def test_a_digit_on_a_page_is_also_found_with_its_faint_part() -> None:
    """The network chooses; a faint line that joins two digits belongs to neither."""
    written = write_zero(write_seven(write_seven(page(600), 60, 50), 180, 50), 420, 50, right_half=200)
    ImageDraw.Draw(written).line((100, 110, 218, 110), 200, 6)  # from the first seven to the second
    (hypotheses,) = page_hypotheses(written)
    (line,) = hypotheses.lines
    found = [(choice.first, choice.cost, hypotheses.found[choice.digit]) for choice in line if choice.digit is not None]
    (number, cost, faded), (same_number, same_cost, whole) = [one for one in found if one[2].box[0] > 400]
    assert (number, cost) == (same_number, same_cost)
    assert faded.box[2] < 460 < 475 < whole.box[2]
    assert all(digit.box[2] - digit.box[0] < 80 for _, _, digit in found)
