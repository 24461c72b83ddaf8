"""Ink is distinguished from paper, shadows and ruled lines."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import SEVEN, likeness, page, write_seven, write_zero
from mnist_lit.imaging.find_digits import center_digit, digit_hypotheses, find_digit, find_digits
from mnist_lit.imaging.ink import PAGE, even_light, find_ink, follow_faint_strokes, to_gray


def test_rough_paper_is_blank() -> None:
    rough = np.random.default_rng(0).normal(200, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    assert find_digit(rough) is None


@pytest.mark.parametrize("zoom", [0.2, 0.5, 3])
@pytest.mark.parametrize("pen", [0.04, 0.08, 0.14])
def test_resolution_and_pen_width_do_not_matter(seven: NDArray[np.uint8], zoom: float, pen: float) -> None:
    side = round(200 * zoom)
    drawn = write_seven(page(side, side), 70 * zoom, 50 * zoom, zoom=zoom, pen=max(1, round(100 * zoom * pen)))
    assert likeness(center_digit(drawn), seven) > 0.85


def test_light_ink_on_dark_paper_gives_the_same_digit(seven: NDArray[np.uint8]) -> None:
    assert likeness(center_digit(write_seven(page(paper=20), 70, 50, color=220)), seven) > 0.98


@pytest.mark.parametrize("color", ["red", "blue", "green", "gold", "pink"])
def test_the_color_of_the_ink_does_not_matter(seven: NDArray[np.uint8], color: str) -> None:
    colored = page(paper=255).convert("RGB")
    ImageDraw.Draw(colored).line([(70 + x, 50 + y) for x, y in SEVEN], color, 8, "curve")
    assert likeness(center_digit(colored), seven) > 0.95


def test_a_shadow_is_not_ink(seven: NDArray[np.uint8]) -> None:
    shadow = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(shadow).polygon(((0, 0), (130, 0), (60, 200), (0, 200)), 130)
    lit = np.asarray(write_seven(page(), 70, 50)) * (np.asarray(shadow.filter(ImageFilter.GaussianBlur(6))) / 255.0)
    assert likeness(center_digit(lit.astype(np.uint8)), seven) > 0.9


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


@pytest.mark.parametrize("color", [30, 90])
@pytest.mark.parametrize("sides", [((0, 0, 9, 199),), ((0, 180, 199, 199), (180, 0, 199, 199)), "frame"])
def test_a_dark_strip_at_the_border_is_not_ink(seven: NDArray[np.uint8], sides: object, color: int) -> None:
    picture = write_seven(page(), 70, 50)
    draw = ImageDraw.Draw(picture)
    if isinstance(sides, str):
        draw.rectangle((0, 0, 199, 199), outline=color, width=10)
    else:
        for box in sides:  # type: ignore[attr-defined]
            draw.rectangle(box, color)
    found = find_digit(picture)
    assert found
    assert likeness(found.image, seven) > 0.9
    assert np.allclose(found.box, (70, 50, 131, 151), atol=6)


def test_a_vignette_is_not_ink(seven: NDArray[np.uint8]) -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    dark_corners = np.asarray(write_seven(page(), 70, 50)) * (1 - 0.35 * (x**2 + y**2))
    assert likeness(center_digit(dark_corners.astype(np.uint8)), seven) > 0.9


def test_light_that_falls_off_is_evened_out(seven: NDArray[np.uint8]) -> None:
    light = np.linspace(1, 0.4, 200)[None] * np.ones((200, 1))
    lit = (np.asarray(write_seven(page(), 70, 50)) * light).astype(np.uint8)
    assert np.ptp(np.median(even_light(lit), axis=0)) < 30 < 130 < np.ptp(np.median(lit, axis=0))
    assert likeness(center_digit(lit), seven) > 0.95


def test_a_shadow_s_edge_and_even_light_are_left_alone() -> None:
    plain = np.asarray(write_seven(page(), 70, 50))
    shadowed = (plain * np.where(np.arange(200) < 90, 0.5, 1)).astype(np.uint8)
    for picture in (plain, shadowed):
        assert even_light(picture) is picture


def test_faint_ink_is_stretched() -> None:
    faint = np.full((28, 28), 255, np.uint8)
    faint[4:24, 13:15] = 215
    faint[4:24, 12] = faint[4:24, 15] = 240  # looks like an MNIST image, but for its contrast
    assert center_digit(faint).max() > 200


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_pictures_of_one_pixel_s_width_are_blank_or_read(shape: tuple[int, int]) -> None:
    stripes = np.zeros(shape, np.uint8)
    stripes[..., ::5] = 255
    for picture in (stripes, np.full(shape, 128, np.uint8)):
        center_digit(picture)
        find_digits(picture)


@pytest.mark.parametrize("side", [256, 280, 512])
@pytest.mark.parametrize("color", [(0, 0, 255), (40, 120, 255)])
def test_ink_is_found_in_every_column(side: int, color: tuple[int, int, int]) -> None:
    """Blue is where a picture whose colors were not seen looks blank; a sample may miss an upright stroke."""
    for left in range(60, 60 + side // 16):
        pixels = np.full((side, side, 3), 255, np.uint8)
        pixels[side // 5 : -side // 5, left : left + 12] = color
        assert find_digit(pixels), left


def test_a_picture_of_one_color_is_gray_by_its_brightness() -> None:
    assert (to_gray(np.full((3, 4, 3), 77, np.uint8)) == 77).all()
    assert (to_gray(np.full((1, 1, 3), 77, np.uint8)) == 77).all()


def test_the_color_of_a_table_does_not_hide_gray_ink() -> None:
    """Along the axis from its color to the paper's, ink is hardly darker than paper."""
    table = Image.new("RGB", (640, 480), (0, 140, 140))
    draw = ImageDraw.Draw(table)
    draw.polygon(((160, 40), (560, 70), (640, 480), (300, 480), (40, 400)), (130, 110, 108))
    draw.ellipse((0, 200, 200, 330), (170, 120, 90))  # a hand
    for left in (250, 340, 430):
        draw.line([(left + 0.6 * x, 200 + 0.6 * y) for x, y in SEVEN], (45, 45, 45), 5, "curve")
    assert [found.column for found in find_digits(table)] == [1, 2, 3]


def test_the_edge_of_bright_paper_is_not_light_ink() -> None:
    dark = page(640, 480, 100)
    ImageDraw.Draw(dark).ellipse((160, 60, 560, 440), 220)
    for left in (260, 330, 400):
        write_seven(dark, left, 180, zoom=0.5, pen=5, color=60)
    assert [found.column for found in find_digits(dark)] == [1, 2, 3]


def test_the_paper_between_thick_strokes_is_not_light_ink() -> None:
    star = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(star).line(((92, 224), (140, 48), (190, 224), (53, 115), (227, 115), (92, 224)), 0, 25, "curve")
    assert len(find_digits(star)) == 1


@pytest.mark.parametrize(
    "colors", [("#141416", "#dc3c32", "#285ae6", "#ebebeb"), ("#fafaf8", "#3c96f0", "#e63c3c", "#f0a028")]
)
def test_digits_in_several_colors_are_found_in_all_of_them(colors: tuple[str, ...]) -> None:
    """No axis through the colors tells every ink from the paper."""
    paper, *inks = colors
    drawing = Image.new("RGB", (640, 480), paper)
    for row, ink in enumerate(inks):
        for left in (80, 200, 320):
            corners = [(left + 0.8 * x, 50 + 140 * row + 0.8 * y) for x, y in SEVEN]
            ImageDraw.Draw(drawing).line(corners, ink, 8, "curve")
    assert [(found.line, found.column) for found in find_digits(drawing)] == [(n // 3 + 1, n % 3 + 1) for n in range(9)]


def test_a_highlighter_does_not_hide_what_it_marks() -> None:
    marked = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(marked)
    draw.rectangle((60, 30, 480, 180), "yellow")
    for top in (50, 300):
        for left in (120, 260, 400):
            draw.line([(left + x, top + y) for x, y in SEVEN], (30, 60, 200), 8, "curve")
    assert [(found.line, found.column) for found in find_digits(marked)] == [(n // 3 + 1, n % 3 + 1) for n in range(6)]


@pytest.mark.parametrize("finger", [250, 410])
def test_the_shadow_of_a_finger_does_not_make_strokes_seem_wide(finger: int) -> None:
    written = page(1000, 760)
    for top in (80, 240, 400):
        for left in range(100, 700, 120):
            write_seven(written, left, top, zoom=0.8, pen=9)
    shadow = Image.new("L", written.size, 255)
    ImageDraw.Draw(shadow).line((finger, 760, finger + 40, 330), 120, 100)
    ImageDraw.Draw(shadow).ellipse((finger - 200, 620, finger + 300, 1100), 120)
    light = np.asarray(shadow.filter(ImageFilter.GaussianBlur(10))) / 255
    assert len(find_digits((np.asarray(written) * light).astype(np.uint8))) == 15


def two_inks(*marks: tuple[tuple[float, ...], int, int], pen: int = 8) -> Image.Image:
    """A black seven beside lines: where, of which gray level and how wide."""
    picture = write_seven(page(400, paper=255), 70, 50, color=20, pen=pen)
    for where, color, width in marks:
        ImageDraw.Draw(picture).line(where, color, width)
    return picture


PALE = (300, 50, 260, 100, 300, 150)  # as high as the seven


def test_pencil_beside_ink_is_found() -> None:
    both = two_inks((PALE, 165, 8))
    assert len(find_digits(both)) == 2
    assert digit_hypotheses(both).beside == 1


@pytest.mark.parametrize(
    ("mark", "pen"),
    [
        ((PALE, 190, 8), 8),  # shows through from the back
        ((PALE, 165, 30), 8),  # a blot
        ((PALE, 165, 6), 20),  # thinner than the pen by far
        (((280, 100, 284, 100), 165, 8), 8),  # a speck
        (((260, 100, 320, 100), 165, 8), 8),  # a dash
        (((165, 190, 395, 10), 165, 8), 8),  # longer than a digit
        (((399, 50, 360, 100, 399, 150), 165, 8), 8),  # cut off by the border
    ],
)
def test_other_pale_marks_are_not_ink(mark: tuple[tuple[float, ...], int, int], pen: int) -> None:
    ink, alone = (find_ink(np.asarray(picture), PAGE) for picture in (two_inks(mark, pen=pen), two_inks(pen=pen)))
    assert ink
    assert alone
    assert ink.mask.sum() == pytest.approx(alone.mask.sum(), rel=0.02)


def test_a_stroke_is_followed_to_where_it_is_faint() -> None:
    ink = find_ink(np.asarray(write_zero(page(), 70, 50, right_half=200)))
    whole = find_ink(np.asarray(write_zero(page(), 70, 50)))
    assert ink
    assert whole
    right = np.s_[100 // ink.scale, 122 // ink.scale : 140 // ink.scale]
    assert not ink.mask[right].any()  # the usual ink ends before
    faint = follow_faint_strokes(ink)
    assert faint
    assert np.count_nonzero(faint.mask & whole.mask) > 0.9 * np.count_nonzero(whole.mask)
    assert np.count_nonzero(faint.mask) < 1.2 * np.count_nonzero(whole.mask)


def test_what_is_as_faint_as_the_noise_is_not_followed() -> None:
    noise = np.random.default_rng(0).normal(0, 14, (200, 200))
    noisy = np.asarray(write_zero(page(), 70, 50, right_half=200)) + noise
    ink = find_ink(noisy.clip(0, 255).astype(np.uint8))
    assert ink
    faint = follow_faint_strokes(ink)
    assert faint
    assert not faint.mask[100 // ink.scale, 122 // ink.scale : 140 // ink.scale].any()


def test_crisp_strokes_have_no_faint_ones() -> None:
    ink = find_ink(np.asarray(write_seven(page(), 70, 50)))
    assert ink
    assert follow_faint_strokes(ink) is None


def test_no_ink_is_too_faint_to_follow_itself() -> None:
    """The noise may be above the threshold of the usual ink."""
    seven = page(28, 28, paper=200)
    ImageDraw.Draw(seven).line((7, 4.67, 21, 4.67, 14, 23.33), 40, 2)
    noise = np.random.default_rng(9).normal(0, 40, (28, 28))
    ink = find_ink((np.asarray(seven) + noise).clip(0, 255).astype(np.uint8))
    assert ink
    assert (ink.noise > 1).any()
    faint = follow_faint_strokes(ink)
    assert faint
    assert not (ink.mask & ~faint.mask).any()
    assert faint.mask.mean() < 0.5
