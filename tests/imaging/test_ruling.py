"""What is printed on a page's paper is removed, and what is written on it stays."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging import reduced_picture as module
from mnist_lit.imaging.find_digits import center_digit
from mnist_lit.imaging.ruling import _chains, remove_ruling

INSIDE = slice(40, -40), slice(40, -40)


def ruled(image: Image.Image, *, every: int, across: bool, dark: float = 0.5, thick: int = 3) -> NDArray[np.uint8]:
    """Lines, or squares, printed over a picture with ink that is darker."""
    pixels = np.asarray(image).astype(float)
    printed = np.ones_like(pixels)
    for view in (printed, printed.T)[: 1 + across]:
        for line in range(every // 2, len(view), every):
            view[line : line + thick] *= dark
    return np.asarray(np.minimum(pixels, 220 * printed), np.uint8)


def rotated(pixels: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.2)
    return np.asarray(cv2.warpAffine(pixels, matrix, (width, height)), np.uint8)


def written(side: int = 700) -> Image.Image:
    image = page(side, side, 220)
    for top in (90, 330):
        for left in (120, 300, 480):
            write_seven(image, left, top, pen=10)
    return image


@pytest.mark.parametrize("degrees", [-7, 0, 3])
@pytest.mark.parametrize("across", [False, True])
def test_lines_and_squares_are_removed_from_under_the_writing(across: bool, degrees: float) -> None:
    plain = rotated(np.asarray(written()), degrees).astype(int)
    printed = rotated(ruled(written(), every=50, across=across), degrees)
    assert np.mean(np.abs(printed - plain)[INSIDE] > 40) > 0.04
    assert np.mean(np.abs(remove_ruling(printed) - plain)[INSIDE] > 40) < 0.005


def test_a_stroke_along_a_line_or_across_it_stays() -> None:
    printed = ruled(page(640, 480, 220), every=40, across=False)
    printed[260:263, 200:300] = 40  # on the line of rows 260 to 262
    printed[180:340, 400:408] = 40
    cleared = remove_ruling(printed)
    assert cleared[260:263, 210:290].max() < 80
    assert cleared[180:340, 402:406].max() < 120
    assert cleared[:, 20:180].min() > 200


def test_lines_in_perspective_or_on_a_bent_page_are_removed() -> None:
    flat = ruled(page(800, 800, 220), every=40, across=True)
    corners = np.array([[0, 0], [800, 0], [800, 800], [0, 800]], np.float32)
    tilted = corners + np.array([[-80, -30], [40, -60], [90, 20], [-20, 60]], np.float32)
    perspective = cv2.warpPerspective(flat, cv2.getPerspectiveTransform(corners, tilted), (800, 800))
    x, y = np.meshgrid(np.arange(800, dtype=np.float32), np.arange(800, dtype=np.float32))
    bent = cv2.remap(flat, x, y + 20 * ((x - 400) / 400) ** 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    for picture in (perspective, bent):
        assert np.mean(picture[INSIDE] < 170) > 0.1
        assert np.mean(remove_ruling(np.asarray(picture, np.uint8))[INSIDE] < 170) < 0.01


def test_dots_are_removed_if_they_are_regular() -> None:
    dotted, dusty = np.asarray(written()).copy(), np.asarray(written()).copy()
    rng = np.random.default_rng(0)
    for picture, places in (
        (dotted, [(y, x) for y in range(15, 700, 30) for x in range(15, 700, 30)]),
        (dusty, rng.integers(5, 690, (500, 2)).tolist()),
    ):
        for y, x in places:
            picture[y : y + 4, x : x + 4] = 60
    blank = (slice(560, 700), slice(0, 700))  # below the writing
    assert dotted[blank].min() == 60
    assert remove_ruling(dotted)[blank].min() > 200
    assert np.array_equal(remove_ruling(dusty), dusty)


def test_what_is_written_is_not_taken_for_lines() -> None:
    """Two lines, as of a frame, three tall ones, and pictures too small to show a page."""
    two = np.full((640, 640), 220, np.uint8)
    two[200:203] = two[400:403] = 60
    ones = page(640, 640, 220)
    for left, lean in ((120, 25), (300, -10), (500, 40)):
        ImageDraw.Draw(ones).line((left + lean, 50, left, 590), 40, 4)
    small = ruled(page(300, 300, 220), every=40, across=True)
    for picture in (two, np.asarray(ones), small, np.asarray(written())):
        assert np.array_equal(remove_ruling(picture), picture)


def test_a_line_that_writing_interrupts_is_removed() -> None:
    """It is visible in less than half of its length, and the others show where it runs."""
    printed = ruled(page(640, 640, 220), every=50, across=False)
    line = slice(270, 286)  # around the lines of rows 275 to 277
    for left in range(60, 580, 60):
        printed[255:300, left : left + 36] = 40
    before = printed[line, :60].min()
    assert before < 120
    assert remove_ruling(printed)[line, :60].min() > 200


def test_the_bars_of_sevens_in_a_row_are_not_a_line() -> None:
    printed = np.asarray(page(800, 800, 225)).copy()
    printed[50::100] = 170
    image = Image.fromarray(printed)
    for left in range(60, 700, 120):
        write_seven(image, left, 275, pen=6)
    cleared = remove_ruling(np.asarray(image))
    assert cleared[50].min() > 200
    assert np.array_equal(cleared[267:345], np.asarray(image)[267:345])


@pytest.mark.parametrize("digits", [3, 4])
def test_ones_that_nearly_fill_a_picture_are_not_lines(digits: int) -> None:
    ones = page(400, 320, 220)
    for place in range(digits):
        left = 60 + 280 * place / (digits - 1)
        ImageDraw.Draw(ones).line((left + 8 + place, 25, left, 295), 40, 4)
    assert np.array_equal(remove_ruling(np.asarray(ones)), np.asarray(ones))


def test_a_pencil_stroke_along_a_faint_line_stays() -> None:
    printed = np.full((640, 640), 225, np.uint8)
    for line in range(40, 640, 60):
        printed[line : line + 3] = 205
    printed[340:343, 200:300] = 160
    cleared = remove_ruling(printed)
    assert cleared[340:343, 205:295].max() <= 165
    assert cleared[340:343, :190].min() > 215


@pytest.mark.filterwarnings("error")
def test_small_print_and_dotted_rings_are_not_dots() -> None:
    text, rings = page(640, 640, 220), np.full((640, 640), 220, np.uint8)
    for top in range(20, 620, 30):
        for left in range(20, 620, 20):
            ImageDraw.Draw(text).rectangle((left, top, left + 4, top + 7), outline=40)
            rings[top : top + 7, left : left + 7] = 40
            rings[top + 1 : top + 6, left + 1 : left + 6] = 220
            rings[top + 3, left + 3] = 40
    assert np.array_equal(remove_ruling(np.asarray(text)), np.asarray(text))
    assert np.count_nonzero(remove_ruling(rings) != rings) <= 20 * 30  # at most the dot in each ring


@pytest.mark.parametrize("shape", [(320, 1), (1, 1600), (24, 1600), (1600, 130), (130, 320)])
def test_pictures_of_any_shape_are_accepted(shape: tuple[int, int]) -> None:
    for value in (0, 255):
        assert np.array_equal(remove_ruling(np.full(shape, value, np.uint8)), np.full(shape, value))
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(remove_ruling(noise), noise)


@pytest.mark.parametrize("paper", ["squares", "dots"])
def test_the_paper_of_a_page_is_not_read(paper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crossings and dots have more ink than three small digits."""
    image = page(800, 800, 220)
    for left in (120, 240, 360):
        write_seven(image, left, 110, zoom=0.5, pen=6)
    if paper == "squares":
        printed = ruled(image, every=24, across=True, dark=0.6)
    else:
        printed = np.asarray(image).copy()
        for y in range(12, 800, 24):
            for x in range(12, 800, 24):
                printed[y : y + 5, x : x + 5] = np.minimum(printed[y : y + 5, x : x + 5], 70)
    found = [digit.box for digit in find_digits(printed)]
    assert np.allclose(found, [(left - 2, 108, left + 32, 161) for left in (120, 240, 360)], atol=4)
    monkeypatch.setattr(module, "remove_ruling", lambda gray: gray)
    assert not any(bottom - top > 30 for _, top, _, bottom in (digit.box for digit in find_digits(printed)))


def test_a_line_in_too_few_strips_is_not_fitted() -> None:
    """A parabola through two strips is anything; NumPy would warn about it."""
    peaks = np.zeros((40, 8), bool)
    peaks[20, 3:5] = True
    assert _chains(peaks, np.linspace(-1, 1, 8), 0.5).shape == (0, 3)
    peaks[20] = True
    assert np.allclose(_chains(peaks, np.linspace(-1, 1, 8), 0.5), [[0, 0, 20]])


@pytest.mark.parametrize("grid", [range(20, 200, 60), (), range(12, 200, 35)])
def test_ruled_lines_are_removed(seven: NDArray[np.uint8], grid: range) -> None:
    ruled = write_seven(page(), 70, 50)
    draw = ImageDraw.Draw(ruled)
    for at in grid:
        draw.line((0, at, 199, at), 120, 2)
        draw.line((at, 0, at, 199), 120, 2)
    assert likeness(center_digit(ruled), seven) > 0.9


@pytest.mark.parametrize("tilt", [0, 4, 9])
def test_squared_paper_in_any_position_is_not_ink(seven: NDArray[np.uint8], tilt: float) -> None:
    squared = Image.new("L", (1400, 1400), 230)
    draw = ImageDraw.Draw(squared)
    for at in range(0, 1400, 40):
        draw.line((0, at, 1400, at), 170, 3)
        draw.line((at, 0, at, 1400), 170, 3)
    squared = squared.rotate(tilt, Image.Resampling.BICUBIC).crop((200, 200, 1200, 1000))
    for left in (200, 500):
        write_seven(squared, left, 300, zoom=1.5, pen=14)
    found = find_digits(squared)
    assert [(digit.line, digit.column) for digit in found] == [(1, 1), (1, 2)]
    assert all(likeness(digit.image, seven) > 0.9 for digit in found)
    alone = write_seven(squared.crop((600, 0, 1000, 400)), 170, 130, zoom=1.5, pen=14)
    assert likeness(center_digit(alone), seven) > 0.9
