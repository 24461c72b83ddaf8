"""Sharp edges tell digits from shadows."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import digit_hypotheses, find_digit
from mnist_lit.imaging.gray import PAGE
from mnist_lit.imaging.ink import coarse_ink
from mnist_lit.imaging.sharp_edges import narrow_window, sharp_part


def blinds(width: int) -> NDArray[np.float32]:
    """Light, (1200, 1600), with slanted shadows of that width, across."""
    y, x = np.indices((1200, 1600))
    light = np.where((x + 2 * y) // (2 * width) % 2, np.float32(1), np.float32(0.5))
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 6), np.float32)


def panes(degrees: float) -> NDArray[np.float32]:
    """Light, (1200, 1600), from a window with four panes, rotated."""
    light = Image.new("L", (1600, 1200), 130)
    for left in (200, 820):
        for top in (100, 620):
            ImageDraw.Draw(light).rectangle((left, top, left + 540, top + 440), 255)
    rotated = light.rotate(degrees, fillcolor=130)
    return np.asarray(rotated.filter(ImageFilter.GaussianBlur(6)), np.float32) / np.float32(255)


def box_of(picture: Image.Image) -> tuple[int, ...]:
    part = sharp_part(np.asarray(picture))
    return part.box if part else ()


@pytest.mark.parametrize("width", [60, 130])
def test_the_shadow_of_blinds_is_not_ink(width: int) -> None:
    written = page(1600, 1200)
    for top in (200, 420, 640):
        for left in range(200, 1400, 240):
            write_seven(written, left, top, zoom=0.5, pen=7)
    assert len(find_digits((np.asarray(written) * blinds(width)).astype(np.uint8))) == 15


def test_thick_strokes_keep_their_wide_window() -> None:
    """Only a wide window sees them as strokes, even if they are as wide as the shadows of blinds."""
    thick = page(1600, 1200)
    for left in (300, 800):
        write_seven(thick, left, 200, zoom=6, pen=110)
    gray = np.asarray(thick.filter(ImageFilter.GaussianBlur(2)))
    ink = coarse_ink(gray, PAGE)
    assert ink
    assert narrow_window(gray, ink, PAGE) == (ink, PAGE)
    assert len(find_digits(gray)) == 2


@pytest.mark.parametrize("light", [blinds(130), panes(0), panes(20), panes(45)], ids=["blinds", "0", "20", "45"])
@pytest.mark.parametrize("at", [(1150, 700), (760, 620)])
def test_one_digit_among_shadows_is_where_the_sharp_edges_are(light: NDArray[np.float32], at: tuple[int, int]) -> None:
    left, top = at
    written = write_seven(page(1600, 1200), left, top, zoom=0.7, pen=9)
    digit = find_digit((np.asarray(written) * light).astype(np.uint8))
    assert digit
    assert np.allclose(digit.box, (left, top - 4, left + 46, top + 72), atol=6)


@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_all_digits_of_a_page_are_where_its_sharp_edges_are(degrees: float) -> None:
    written = write_seven(page(1600, 1200), 760, 620, zoom=0.7, pen=9)
    (digit,) = find_digits((np.asarray(written) * panes(degrees)).astype(np.uint8))
    assert np.allclose(digit.box, (760, 616, 806, 692), atol=6)


def test_a_stain_is_less_likely_than_either_of_two_digits_beside_it() -> None:
    written = page(1600, 1200)
    for left in (1250, 1320):
        write_seven(written, left, 800, zoom=0.6, pen=6)
    stain = Image.new("L", written.size, 255)
    ImageDraw.Draw(stain).ellipse((300, 200, 1100, 1000), outline=217, width=40)
    light = np.asarray(stain.filter(ImageFilter.GaussianBlur(6))) / 255
    hypotheses = digit_hypotheses((np.asarray(written) * light).astype(np.uint8))
    first, second, rest = sorted(zip([choice.cost for choice in hypotheses.lines[0]], hypotheses.found, strict=True))
    assert [cost for cost, _ in (first, second, rest)] == [0, 1, 1]
    assert {digit.box[0] for _, digit in (first, second, rest)} == {1250, 1320, 297}
    assert hypotheses.beside == 1


def test_ink_that_is_darker_than_every_shadow_is_told_from_it_by_its_gray_level() -> None:
    """Even where a thick stroke lies across shadows that are as narrow: no window can tell them."""
    written = np.asarray(write_seven(page(1600, 1200), 500, 300, zoom=6, pen=70)) * blinds(60)
    digit = find_digit(written.astype(np.uint8))
    plain = find_digit(write_seven(page(1600, 1200), 500, 300, zoom=6, pen=70))
    assert digit
    assert plain
    assert np.allclose(digit.box, plain.box, atol=8)
    assert likeness(digit.image, plain.image) > 0.9


def test_the_part_with_the_sharp_edges_is_a_single_one() -> None:
    soft = Image.new("L", (800, 600), 230)
    ImageDraw.Draw(soft).rectangle((500, 100, 560, 500), 120)
    picture = soft.filter(ImageFilter.GaussianBlur(8))
    assert box_of(picture) == ()
    write_seven(picture, 200, 200)
    assert np.allclose(box_of(picture), (196, 196, 264, 304), atol=4)
    write_seven(picture, 270, 200)  # the next digit of a number
    assert np.allclose(box_of(picture), (196, 196, 334, 304), atol=4)
    write_seven(picture, 650, 400)
    assert box_of(picture) == ()


def test_a_digit_out_of_focus_is_more_than_the_piece_of_it_that_is_sharp() -> None:
    written = write_seven(page(800, 600), 300, 200, zoom=3, pen=36)
    picture = written.filter(ImageFilter.GaussianBlur(6))
    piece = (330, 150, 400, 190)  # of the outline of its horizontal stroke
    picture.paste(written.filter(ImageFilter.GaussianBlur(1)).crop(piece), piece)
    assert box_of(picture) == ()
    assert box_of(written)


@pytest.mark.parametrize("mark", [(800, 600, 812, 612), (0, 500, 60, 506)], ids=["tiny", "at the border"])
def test_a_speck_or_a_mark_at_the_border_is_not_the_digit(mark: tuple[int, int, int, int]) -> None:
    """In spite of its sharp edges, beside a soft digit."""
    picture = write_seven(page(1600, 1200), 600, 300, zoom=4, pen=60).filter(ImageFilter.GaussianBlur(12))
    before = [digit.box for digit in digit_hypotheses(picture).digits()]
    ImageDraw.Draw(picture).rectangle(mark, 20)
    assert box_of(picture)
    assert [digit.box for digit in digit_hypotheses(picture).digits()] == before
