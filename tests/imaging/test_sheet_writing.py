"""What is written on a sheet and around it tells a sheet on a table from a part of a page."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import page, table, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.sheet import find_sheets

PLACES = [(x, y) for y in (80, 180) for x in (60, 120, 180, 660, 720, 780)]  # of small sevens, with pairs between
MIDDLE = [(420, 820), (480, 820), (420, 1000)]


def written_page(places: list[tuple[int, int]] = PLACES, color: int = 40) -> Image.Image:
    picture = page(900, 1200)
    for left, top in places:
        write_seven(picture, left, top, zoom=0.6, pen=5, color=color)
    return picture


def in_light(picture: Image.Image, light: NDArray[np.float64]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 2, light.shape)
    return (np.asarray(picture) * light + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("color", [40, 120])
@pytest.mark.parametrize("tilts", [(0.12, 0.12, 0.12), (-0.12, 0.12, -0.12)])
def test_a_panel_of_a_folded_page_is_not_a_sheet(tilts: tuple[float, ...], color: int) -> None:
    light = np.full((1200, 900), 0.85)
    y, x = np.mgrid[0:1:1200j, 0:1:900j]
    for from_fold, tilt in zip((x - 1 / 3, x - 2 / 3, y - 1 / 2), tilts, strict=True):
        light *= 1 + tilt * (1 - 4 * from_fold).clip(0, 1) * (from_fold > 0)
        light *= 1 - 0.2 * np.exp(-((from_fold / 0.0025) ** 2) / 2)  # the fold itself
    pixels = in_light(written_page(PLACES + MIDDLE, color), light)
    assert find_sheets(pixels) == []
    assert len(find_digits(pixels)) == len(PLACES + MIDDLE)


@pytest.mark.parametrize("blur", [5, 11, 14])
def test_the_shadow_of_a_phone_around_some_digits_is_not_a_sheet(blur: float) -> None:
    shadow = Image.new("L", (900, 1200), 255)
    ImageDraw.Draw(shadow).polygon(((250, 1200), (250, 660), (650, 660), (650, 1200)), 178)
    light = np.asarray(shadow.filter(ImageFilter.GaussianBlur(blur))) / 255
    pixels = in_light(written_page(PLACES + MIDDLE, 175), light)  # with a hard pencil
    assert find_sheets(pixels) == []
    assert len(find_digits(pixels)) == len(PLACES + MIDDLE)


@pytest.mark.parametrize("things", [1, 2, 4])
def test_things_of_the_size_of_digits_beside_a_sheet_do_not_make_it_a_part_of_a_page(things: int) -> None:
    desk = page(900, 1200, 190)
    desk.paste(written_page().crop((0, 0, 900, 500)).resize((720, 400)), (90, 400))
    for number in range(things):
        ImageDraw.Draw(desk).ellipse((100 + 200 * number, 80, 140 + 200 * number, 120), outline=60, width=6)
    pixels = in_light(desk, np.ones((1200, 900)))
    assert len(find_sheets(pixels)) == 1
    assert len(find_digits(pixels)) == len(PLACES)


@pytest.mark.parametrize("color", [(150, 100, 60), (60, 60, 60)])
def test_writing_beside_a_sheet_is_not_on_its_page_if_the_table_has_another_color(color: tuple[int, int, int]) -> None:
    picture = Image.new("RGB", (900, 1200), color)
    picture.paste(written_page().convert("RGB").crop((0, 250, 800, 950)), (50, 300))
    for left in (100, 300, 500, 700):
        write_seven(picture, left, 100, zoom=0.6, pen=5, color=10)
    assert len(find_sheets(np.asarray(picture))) == 1


@pytest.mark.parametrize("degrees", [12, 18])
def test_a_tilted_sheet_whose_corners_touch_the_border_is_found(degrees: int) -> None:
    sheet = written_page()
    rotated = sheet.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    where = Image.new("L", sheet.size, 255).rotate(degrees, expand=True)
    picture = table(rotated.width // 8 * 8, rotated.height // 8 * 8)
    picture.paste(rotated.convert("RGB"), mask=where)
    assert len(find_sheets(np.asarray(picture))) == 1
    found = find_digits(np.asarray(picture))
    assert [digit.line for digit in found] == [1] * 6 + [2] * 6
