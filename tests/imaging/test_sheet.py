"""Sheets of paper on a table are found and flattened; light and shadow are not sheets."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import SEVEN, likeness, page, table, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit
from mnist_lit.imaging.sheet import find_sheets

CORNERS = ((60, 40), (560, 70), (540, 420), (40, 400))


def sheet_on_table(
    corners: tuple[tuple[int, int], ...] = CORNERS, color: tuple[int, int, int] = (230, 230, 225)
) -> Image.Image:
    picture = table()
    ImageDraw.Draw(picture).polygon(corners, color)
    return picture


def test_a_sheet_in_perspective_becomes_a_rectangle() -> None:
    (sheet,) = find_sheets(np.asarray(sheet_on_table()))
    height, width = sheet.pixels.shape[:2]
    assert np.allclose((width, height), (500, 360), rtol=0.08)
    assert sheet.pixels.min() > 215  # nothing of the table
    assert np.allclose(sheet.in_picture((0, 0, width, height)), (40, 40, 560, 420), atol=22)


@pytest.mark.parametrize("degrees", [0, 15, 45])
@pytest.mark.parametrize("fraction", [0.02, 0.04, 0.1])
@pytest.mark.parametrize("color", [(90, 60, 40), (25, 25, 25), (60, 110, 150)])
def test_a_small_card_is_read_alone(fraction: float, color: tuple[int, int, int], degrees: int) -> None:
    side = round((fraction * 1200 * 900) ** 0.5)
    digit = write_seven(page(200, 200), 70, 50).rotate(-degrees, fillcolor=230)
    card = digit.resize((side, side), Image.Resampling.LANCZOS)
    whole = Image.new("L", card.size, 255)
    picture = Image.new("RGB", (1200, 900), color)
    card, whole = (one.rotate(degrees, Image.Resampling.BICUBIC, expand=True) for one in (card, whole))
    picture.paste(card.convert("RGB"), (500, 300), whole)
    grainy = (np.asarray(picture) + np.random.default_rng(0).normal(0, 4, (900, 1200, 1))).clip(0, 255).astype(np.uint8)
    assert len(find_sheets(grainy)) == len(find_sheets(grainy[..., 1])) == 1
    (found,) = find_digits(grainy)
    left, top, right, bottom = found.box
    middle = np.add((500, 300), np.array(card.size) / 2)
    assert np.allclose(((left + right) / 2, (top + bottom) / 2), middle, atol=0.1 * side)
    assert max(right - left, bottom - top) < 0.75 * side


def test_a_page_of_light_digits_is_not_a_sheet() -> None:
    """A closing joins them to a light area."""
    board = page(900, 900, 20)
    for place in range(225):
        write_seven(board, 30 + 57 * (place % 15), 30 + 57 * (place // 15), zoom=0.4, pen=5, color=235)
    grainy = (np.asarray(board) + np.random.default_rng(0).normal(0, 2, (900, 900))).clip(0, 255).astype(np.uint8)
    assert find_sheets(grainy) == []
    assert len(find_digits(grainy)) == 225


@pytest.mark.parametrize("pen", [30, 60, 90])
def test_a_thick_stroke_on_rough_paper_is_not_a_small_card(pen: int) -> None:
    written = np.asarray(write_seven(page(600, 600), 200, 150, zoom=3, pen=pen).convert("RGB"), np.float64)
    rough = (written + np.random.default_rng(0).normal(0, 20, (600, 600, 1))).clip(0, 255).astype(np.uint8)
    assert find_sheets(rough) == find_sheets(255 - rough) == []


def test_a_smooth_table_is_not_the_sheet() -> None:
    """Although it is as free of edges, and around the sheet."""
    picture = Image.new("RGB", (640, 480), (60, 60, 65))
    ImageDraw.Draw(picture).polygon(CORNERS, (200, 200, 195))
    (sheet,) = find_sheets(np.asarray(picture))
    assert sheet.pixels.min() > 190


def test_a_sheet_may_reach_the_border_or_be_dark_or_under_a_finger() -> None:
    out_of_sight = sheet_on_table(((0, 40), (560, 70), (540, 420), (0, 400)))
    barely_in_sight = sheet_on_table(((60, 40), (632, 70), (590, 440), (8, 400)))  # at two corners
    dark = sheet_on_table(color=(70, 75, 90))
    held = sheet_on_table()
    ImageDraw.Draw(held).ellipse((510, 375, 640, 430), (220, 160, 130))
    assert all(len(find_sheets(np.asarray(picture))) == 1 for picture in (out_of_sight, barely_in_sight, dark, held))


def test_a_note_on_a_dark_screen_is_not_printed_on_it() -> None:
    """Although there is writing around it, as there is around a box on a form."""
    screen = Image.new("RGB", (640, 480), (25, 28, 35))
    for line in range(13):
        for left in range(10, 120 - line % 3 * 40, 18):
            ImageDraw.Draw(screen).rectangle((left, 36 * line + 10, left + 6, 36 * line + 19), (190, 200, 150))
    ImageDraw.Draw(screen).polygon(((180, 90), (460, 95), (455, 385), (175, 380)), (250, 230, 110))
    (sheet,) = find_sheets(np.asarray(screen))
    assert np.allclose(sheet.pixels.shape[:2], (290, 280), rtol=0.08)


def card(degrees: float, tones: tuple[int, int, int] = (40, 230, 40)) -> NDArray[np.uint8]:
    """A rotated 7 on a card of 200×200 pixels, on a noisy table of 300×300. tones: of the table, the card and the 7."""
    table, paper, color = tones
    picture = page(300, 300, table)
    written = write_seven(page(paper=paper), 70, 50, color=color).convert("LA")
    rotated = written.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    corner = ((300 - rotated.width) // 2, (300 - rotated.height) // 2)
    picture.paste(rotated.getchannel("L"), corner, rotated.getchannel("A"))
    noisy = np.asarray(picture) + np.random.default_rng(0).normal(0, 4, (300, 300))
    return np.asarray(noisy.clip(0, 255), np.uint8)


@pytest.mark.parametrize("degrees", [0, 8, 25])
@pytest.mark.parametrize("tones", [(40, 230, 40), (150, 230, 40), (230, 60, 220)])
def test_a_card_in_a_small_picture_is_a_sheet(
    seven: NDArray[np.uint8], degrees: float, tones: tuple[int, int, int]
) -> None:
    whole = Image.fromarray(card(degrees, tones))
    for side in (300, 150) if tones[0] < tones[1] else (300,):  # a dark card must be larger
        picture = np.asarray(whole.resize((side, side), Image.Resampling.BOX))
        assert likeness(center_digit(picture), seven) > 0.9
        lit = (picture * np.linspace(1, 0.4, side)[:, None]).astype(np.uint8)
        assert likeness(center_digit(lit), seven) > 0.9


def test_a_card_in_a_tiny_picture_is_a_sheet(seven: NDArray[np.uint8]) -> None:
    picture = np.asarray(Image.fromarray(card(8)).resize((64, 64), Image.Resampling.BOX))
    (sheet,) = find_sheets(picture)
    assert sheet.pixels.mean() > 180 > 130 > picture.mean()  # nothing of the table
    assert likeness(center_digit(picture), seven) > 0.8


def test_a_card_may_be_cut_off_on_two_sides_if_the_table_is_dark(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(card(5)[60:, 60:]), seven) > 0.9
    assert find_sheets(card(5, (150, 230, 40))[60:, 60:]) == []  # the corner of a shadow looks the same
    assert find_sheets(card(5)[60:, 60:240]) == []  # in view: only the lower end


@pytest.mark.parametrize("zoom", [1, 4])
def test_the_inside_of_a_zero_in_uneven_light_is_not_a_sheet(zoom: int) -> None:
    zero = page(100 * zoom, 150 * zoom, 240)
    ImageDraw.Draw(zero).ellipse((12 * zoom, 12 * zoom, 88 * zoom, 138 * zoom), outline=20, width=9 * zoom)
    y, x = np.mgrid[-1 : 1 : 150j * zoom, -1 : 1 : 100j * zoom]
    for light in (1 - 0.2 * (x * x + y * y), 0.65 - 0.35 * y):
        assert find_sheets((np.asarray(zero) * light).astype(np.uint8)) == []


@pytest.mark.parametrize("blur", [0, 8, 25])
def test_light_and_shadow_are_not_sheets(blur: float) -> None:
    shadow = Image.new("L", (640, 480), 255)
    ImageDraw.Draw(shadow).polygon(((250, 0), (400, 480), (640, 480), (640, 0)), 130)
    lit = np.full((480, 640), 220) * (np.asarray(shadow.filter(ImageFilter.GaussianBlur(blur))) / 255)
    assert find_sheets(lit.astype(np.uint8)) == []


@pytest.mark.parametrize(("blur", "colors"), [(1, "RGB"), (25, "RGB"), (25, "L"), (40, "L")])
def test_half_a_sheet_in_shadow_is_not_cut_off(blur: float, colors: str) -> None:
    shadow = Image.new("L", (640, 480), 255)
    ImageDraw.Draw(shadow).rectangle((320, 0, 640, 480), 110)
    light = np.asarray(shadow.filter(ImageFilter.GaussianBlur(blur)))[..., None] / 255
    on_table = np.asarray(sheet_on_table().convert(colors).convert("RGB"))
    (sheet,) = find_sheets((on_table * light).astype(np.uint8))
    assert np.allclose(sheet.pixels.shape[:2], (360, 500), rtol=0.08)


def test_round_paper_is_cut_out(seven: NDArray[np.uint8]) -> None:
    picture = table()
    draw = ImageDraw.Draw(picture)
    draw.ellipse((150, 70, 490, 410), (230, 230, 225))
    draw.line([(290, 180), (350, 180), (315, 280)], (40, 40, 60), 9, "curve")
    (sheet,) = find_sheets(np.asarray(picture))
    assert np.median(np.abs(sheet.pixels[[0, -1]].astype(int) - (230, 230, 225))) < 8  # paper in place of the table
    assert likeness(center_digit(picture), seven) > 0.9


@pytest.mark.parametrize("pen", [40, 60, 80])
@pytest.mark.parametrize("paper", [20, 235])
def test_a_thick_zero_is_not_round_paper(pen: int, paper: int) -> None:
    zero = page(640, 640, paper)
    ImageDraw.Draw(zero).ellipse((180, 60, 460, 580), outline=255 - paper, width=pen)
    assert find_sheets(np.asarray(zero)) == []
    assert [digit.box for digit in find_digits(zero)] == [pytest.approx((180, 60, 461, 581), abs=4)]


def test_a_gray_box_printed_on_a_page_is_not_the_sheet() -> None:
    printed = page(640, 480, 245)
    ImageDraw.Draw(printed).rectangle((60, 230, 580, 450), 180)
    for top in (60, 300):
        for left in (120, 260, 400):
            write_seven(printed, left, top)
    assert find_sheets(np.asarray(printed)) == []
    assert [(found.line, found.column) for found in find_digits(printed)] == [(n // 3 + 1, n % 3 + 1) for n in range(6)]


@pytest.mark.parametrize("grain", [True, False])
def test_each_of_several_sheets_is_read(grain: bool) -> None:
    """In rows from the top, each from the left."""
    picture = table(1280, 960) if grain else Image.new("RGB", (1280, 960), (150, 100, 60))
    for left, top in ((700, 530), (60, 60), (720, 40), (40, 510)):
        corners = ((left, top), (left + 500, top), (left + 500, top + 360), (left, top + 360))
        ImageDraw.Draw(picture).polygon(corners, (230, 230, 225))
        for number in range(2):
            seven = [(left + 200 + x, top + 60 + 150 * number + y) for x, y in SEVEN]
            ImageDraw.Draw(picture).line(seven, (40, 40, 60), 8, "curve")
    found = find_digits(picture)
    assert [(digit.line, digit.column) for digit in found] == [(n + 1, 1) for n in range(8)]
    quarters = [(digit.box[1] > 480, digit.box[0] > 640) for digit in found[::2]]
    assert quarters == [(False, False), (False, True), (True, False), (True, True)]
    assert digit_hypotheses(picture).beside == 7


def test_notes_close_to_each_other_are_all_read() -> None:
    picture = Image.new("RGB", (1600, 1200), (150, 100, 60))
    for left in (120, 600, 1080):
        for top in (120, 640):
            ImageDraw.Draw(picture).rectangle((left, top, left + 380, top + 380), (240, 235, 120))
            ImageDraw.Draw(picture).line([(left + 140 + x, top + 130 + y) for x, y in SEVEN], (40, 40, 60), 9, "curve")
    grain = np.random.default_rng(0).normal(0, 3, (1200, 1600, 1))
    grainy = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
    assert len(find_sheets(grainy)) == 6
    assert [(digit.line, digit.column) for digit in find_digits(grainy)] == [(n + 1, 1) for n in range(6)]


@pytest.mark.parametrize("gap", [20, 50])
@pytest.mark.parametrize("colors", ["RGB", "L"])
def test_two_sheets_with_a_narrow_strip_of_table_between_them_are_two(gap: int, colors: str) -> None:
    picture = table(1280, 800)
    for left, right in ((60, 620 - gap // 2), (620 + gap // 2, 1220)):
        ImageDraw.Draw(picture).polygon(((left, 90), (right, 90), (right, 700), (left, 700)), (230, 230, 225))
        for line in range(3):
            for column in range(2):
                seven = [(left + 120 + 160 * column + x, 180 + 160 * line + y) for x, y in SEVEN]
                ImageDraw.Draw(picture).line(seven, (40, 40, 60), 8, "curve")
    pixels = np.asarray(picture.convert(colors))
    assert len(find_sheets(pixels)) == 2
    assert [(digit.line, digit.column) for digit in find_digits(pixels)] == [(n // 2 + 1, n % 2 + 1) for n in range(12)]


def test_a_blank_sheet_beside_another_is_not_read() -> None:
    """Its edge in the shadow of the other one might be taken for a digit."""
    picture = table(1280, 800)
    for left, right in ((60, 620), (650, 1220)):
        ImageDraw.Draw(picture).polygon(((left, 90), (right, 90), (right, 700), (left, 700)), (230, 230, 225))
    for line in range(3):
        seven = [(180 + x, 180 + 160 * line + y) for x, y in SEVEN]
        ImageDraw.Draw(picture).line(seven, (40, 40, 60), 8, "curve")
    assert len(find_sheets(np.asarray(picture))) < 2
    assert len(find_digits(picture)) == 3


def test_a_shadow_on_one_of_several_notes_is_not_another_one() -> None:
    picture = Image.new("RGB", (1600, 700), (150, 100, 60))
    for left in (120, 600, 1080):
        ImageDraw.Draw(picture).rectangle((left, 120, left + 380, 120 + 380), (240, 235, 120))
        ImageDraw.Draw(picture).line([(left + 120 + x, 200 + y * 2) for x, y in SEVEN], (40, 40, 60), 12, "curve")
    shadow = np.ones((700, 1600, 1))
    shadow[120:501, 1380:] = 0.6  # a fifth of the last note remains in the light
    grain = np.random.default_rng(0).normal(0, 3, (700, 1600, 1))
    grainy = (np.asarray(picture) * shadow + grain).clip(0, 255).astype(np.uint8)
    for sheet in find_sheets(grainy):
        _, _, right, _ = sheet.in_picture((0, 0, sheet.pixels.shape[1], sheet.pixels.shape[0]))
        assert not 1340 < right < 1420  # does not end at the shadow


@pytest.mark.parametrize("color", [(150, 110, 70), (90, 110, 150)])
def test_a_pen_across_the_edge_of_dark_paper_does_not_make_it_a_shadow(color: tuple[int, int, int]) -> None:
    picture = Image.new("RGB", (800, 600), (235, 235, 235))
    ImageDraw.Draw(picture).rectangle((150, 100, 650, 500), color)
    write_on = ImageDraw.Draw(picture)
    write_on.line([(330 + x, 200 + y * 1.5) for x, y in SEVEN], (20, 20, 20), 12, "curve")
    write_on.line(((560, 300), (760, 420)), (20, 20, 20), 12)  # the pen
    (sheet,) = find_sheets(np.asarray(picture))
    assert np.allclose(sheet.pixels.shape[:2], (400, 500), rtol=0.08)


@pytest.mark.parametrize("blur", [1, 6])
def test_a_shadow_across_a_digit_is_not_a_sheet(seven: NDArray[np.uint8], blur: float) -> None:
    shadow = Image.new("L", (600, 800), 255)
    ImageDraw.Draw(shadow).polygon(((60, 800), (120, 300), (470, 330), (530, 800)), 204)
    lit = np.asarray(write_seven(page(600, 800), 215, 280, zoom=2, pen=14)).astype(float)
    lit *= np.asarray(shadow.filter(ImageFilter.GaussianBlur(blur))) / 255
    lit += np.random.default_rng(0).normal(0, 3, lit.shape)
    pixels = lit.clip(0, 255).astype(np.uint8)
    assert find_sheets(pixels) == []
    assert likeness(center_digit(pixels), seven) > 0.9


def test_frames_tables_and_very_narrow_pictures_have_no_sheet() -> None:
    ruled = page(640, 480)
    ImageDraw.Draw(ruled).rectangle((60, 60, 580, 420), outline=40, width=8)
    assert find_sheets(np.asarray(ruled)) == []
    assert find_sheets(np.asarray(table())) == []
    assert find_sheets(np.zeros((4000, 3, 3), np.uint8)) == []


def test_only_the_digits_on_the_sheet_are_read(seven: NDArray[np.uint8]) -> None:
    picture = sheet_on_table()
    draw = ImageDraw.Draw(picture)
    for left, top in ((120, 120), (300, 130), (300, 270)):
        draw.line([(left + x, top + y) for x, y in ((0, 0), (60, 0), (25, 100))], (40, 40, 60), 8, "curve")
    draw.ellipse((590, 100, 625, 160), outline=(20, 20, 20), width=8)  # a ring on the table
    found = find_digits(picture)
    assert [(digit.line, digit.column) for digit in found] == [(1, 1), (1, 2), (2, 1)]
    assert np.allclose(found[0].box, (116, 116, 184, 224), atol=8)
    assert all(likeness(digit.image, seven) > 0.9 for digit in found)


def test_the_one_digit_of_a_sheet_is_read(seven: NDArray[np.uint8]) -> None:
    picture = sheet_on_table()
    ImageDraw.Draw(picture).line([(270, 180), (330, 180), (295, 280)], (40, 40, 60), 8, "curve")
    assert likeness(center_digit(picture), seven) > 0.9
    assert likeness(center_digit(write_seven(page(640, 480), 270, 180)), seven) > 0.9


def test_nothing_around_an_empty_sheet_is_read() -> None:
    picture = sheet_on_table()
    ImageDraw.Draw(picture).ellipse((590, 100, 625, 160), outline=(20, 20, 20), width=8)
    assert find_digit(picture) is None
    assert find_digits(picture) == []


def test_a_colored_box_printed_on_a_page_is_not_an_empty_sheet() -> None:
    picture = Image.new("RGB", (900, 1200), (235, 235, 235))
    ImageDraw.Draw(picture).rectangle((40, 40, 860, 860), (90, 130, 180))
    write_seven(picture, 150, 1000, zoom=0.6, pen=6)
    grain = np.random.default_rng(0).normal(0, 1, (1200, 900, 3))
    pixels = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
    assert len(find_sheets(pixels)) == 1
    assert find_digit(pixels)
    assert len(find_digits(pixels)) == 1


def test_an_empty_dark_sheet_that_fills_most_of_a_photo_has_no_digit() -> None:
    y, x = np.mgrid[0:1200, 0:900]
    photo = np.full((1200, 900, 3), 210.0) - 12 * (np.sin(x / 5 + np.sin(y / 90)))[..., None]  # a light table
    photo[60:1140, 40:860] = 45
    photo += np.random.default_rng(0).normal(0, 3, photo.shape)
    pixels = photo.clip(0, 255).astype(np.uint8)
    assert find_digit(pixels) is None
    assert find_digits(pixels) == []


def test_the_inside_of_a_zero_that_fills_the_picture_is_not_an_empty_sheet() -> None:
    zero = page(400, 600, 240)
    ImageDraw.Draw(zero).rectangle((0, 0, 399, 599), outline=20, width=45)
    for found in (digit_hypotheses(zero).digits(), find_digits(zero)):
        assert [digit.box for digit in found] == [(0, 0, 400, 600)]


@pytest.mark.parametrize("shape", ["upright", "broad"])
def test_a_thick_white_stroke_is_not_an_empty_sheet(shape: str) -> None:
    picture = Image.new("RGB", (640, 480), (10, 10, 15))
    corners = (
        ((270, 40), (370, 45), (360, 440), (260, 435)) if shape == "upright" else ((140, 90), (500, 95), (290, 430))
    )
    ImageDraw.Draw(picture).polygon(corners, (240, 240, 240))
    left, top, right, bottom = (limit(at) for limit in (min, max) for at in zip(*corners, strict=True))
    for found in (digit_hypotheses(picture).digits(), find_digits(picture)):
        assert np.allclose([digit.box for digit in found], [(left, top, right, bottom)], atol=4)
