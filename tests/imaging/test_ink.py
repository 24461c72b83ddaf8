"""Ink is distinguished from paper, shadows and what lies at the border."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from imaging.drawing import likeness, page, write_seven, write_zero
from imaging.shapes_alone import find_digits
from mnist_lit.imaging.find_digits import MIN_PHOTO_SHARPNESS, center_digit, digit_hypotheses, find_digit
from mnist_lit.imaging.gray import PAGE
from mnist_lit.imaging.ink import edge_sharpness, find_ink, follow_faint_strokes


def test_rough_paper_is_blank() -> None:
    rough = np.random.default_rng(0).normal(200, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    assert find_digit(rough) is None


@pytest.mark.parametrize("zoom", [0.2, 0.5, 3])
@pytest.mark.parametrize("pen", [0.04, 0.08, 0.14])
def test_resolution_and_pen_width_do_not_matter(seven: NDArray[np.uint8], zoom: float, pen: float) -> None:
    side = round(200 * zoom)
    drawn = write_seven(page(side, side), 70 * zoom, 50 * zoom, zoom=zoom, pen=max(1, round(100 * zoom * pen)))
    assert likeness(center_digit(drawn), seven) > 0.85


def test_a_shadow_is_not_ink(seven: NDArray[np.uint8]) -> None:
    shadow = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(shadow).polygon(((0, 0), (130, 0), (60, 200), (0, 200)), 130)
    lit = np.asarray(write_seven(page(), 70, 50)) * (np.asarray(shadow.filter(ImageFilter.GaussianBlur(6))) / 255.0)
    assert likeness(center_digit(lit.astype(np.uint8)), seven) > 0.9


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


def test_faint_ink_is_stretched() -> None:
    faint = np.full((28, 28), 255, np.uint8)
    faint[4:24, 13:15] = 215
    faint[4:24, 12] = faint[4:24, 15] = 240  # looks like an MNIST image, but for its contrast
    assert center_digit(faint).max() > 200


@pytest.mark.parametrize(
    ("shape", "one", "many"), [((1, 1), 0, 0), ((1, 60), 1, 0), ((300, 1), 0, 0), ((2, 2), 1, 1), ((2, 30), 1, 6)]
)
def test_pictures_of_one_pixel_s_width_are_blank_or_read(shape: tuple[int, int], one: int, many: int) -> None:
    stripes = np.zeros(shape, np.uint8)
    stripes[..., ::5] = 255
    assert center_digit(stripes).any() == one
    assert len(find_digits(stripes)) == many
    plain = np.full(shape, 128, np.uint8)
    assert not center_digit(plain).any()
    assert find_digits(plain) == []


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


@pytest.mark.parametrize("corner", [(650, 560), (250, 460), (260, 440)])
def test_the_corner_of_a_phone_s_shadow_is_not_ink(corner: tuple[int, int]) -> None:
    """Even where it is beside a digit or joined to one."""
    written = page(1000, 760)
    write_seven(written, 310, 420, pen=10)
    write_seven(written, 130, 80, pen=10)
    shadow = Image.new("L", written.size, 255)
    x, y = corner
    ImageDraw.Draw(shadow).polygon((corner, (x + 900, y - 500), (x + 1300, y + 400), (x + 400, y + 800)), 120)
    light = np.asarray(shadow.filter(ImageFilter.GaussianBlur(6))) / 255
    found = find_digits((np.asarray(written) * light).astype(np.uint8))
    boxes = [(130, 76, 190, 180), (310, 416, 370, 520)]
    assert np.allclose([one.box for one in found], boxes, atol=8)


def two_inks(*marks: tuple[tuple[float, ...], int, int], pen: int = 8) -> Image.Image:
    """A black seven beside lines: where, of which gray level and how wide."""
    picture = write_seven(page(400, paper=255), 70, 50, color=20, pen=pen)
    for where, color, width in marks:
        ImageDraw.Draw(picture).line(where, color, width)
    return picture


PALE = (300, 50, 260, 100, 300, 150)  # as high as the seven


@pytest.mark.parametrize(("pencil", "pen"), [(8, 8), (8, 22)])
def test_pencil_beside_ink_is_found(pencil: int, pen: int) -> None:
    both = two_inks((PALE, 165, pencil), pen=pen)
    assert len(find_digits(both)) == 2
    assert digit_hypotheses(both).beside == 1


@pytest.mark.parametrize(
    ("mark", "pen"),
    [
        ((PALE, 190, 8), 8),  # shows through from the back
        ((PALE, 165, 30), 8),  # a blot
        ((PALE, 165, 4), 20),  # thinner than the pen by far
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


def test_the_grain_of_a_photo_taken_in_the_dark_is_not_ink() -> None:
    photo = write_seven(page(800, 600, 100), 300, 200, zoom=1.5, pen=12)
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (600, 800)), (0, 0), 1)
    grainy = np.asarray(photo) + 12 / grain.std() * grain
    sharp, ink = (find_ink(pixels.clip(0, 255).astype(np.uint8), PAGE) for pixels in (np.asarray(photo), grainy))
    assert sharp
    assert ink
    assert np.count_nonzero(ink.mask & sharp.mask) > 0.7 * np.count_nonzero(ink.mask | sharp.mask)


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
    assert (ink.noise > ink.threshold).any()
    faint = follow_faint_strokes(ink)
    assert faint
    assert not (ink.mask & ~faint.mask).any()
    assert faint.mask.mean() < 0.5


def test_blur_makes_edges_less_sharp() -> None:
    written = write_seven(page(), 70, 50)
    blurred = (written.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 2, 8, 16))
    sharpness = [edge_sharpness(np.asarray(picture)) for picture in blurred]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 0.85
    assert sharpness[-1] < MIN_PHOTO_SHARPNESS
    assert edge_sharpness(np.asarray(page())) == 0


def test_a_dithered_scan_is_not_blurred(seven: NDArray[np.uint8]) -> None:
    scan = write_seven(page(300, 300, 235), 85, 60, zoom=1.8, pen=16, color=20).convert("1").convert("L")
    assert set(np.unique(np.asarray(scan)).tolist()) == {0, 255}
    assert edge_sharpness(np.asarray(scan)) == 1
    assert likeness(center_digit(scan), seven) > 0.9


def test_ink_that_needs_more_resolution_once_a_table_is_cleared_has_it() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (480, 640))
    picture = np.asarray(write_seven(page(640, 480, 210), 200, 165, zoom=1.5, pen=2, color=120)) + noise
    picture[:, -21:] = 5  # a dark table, whose edges are the first that are measured
    ink = find_ink(picture.clip(0, 255).astype(np.uint8))
    assert ink is not None
    assert ink.mask.shape == (round(480 / ink.scale), round(640 / ink.scale))
    left, top, width, height = (side * ink.scale for side in cv2.boundingRect(ink.mask.view(np.uint8)))
    assert (left, top, left + width, top + height) == pytest.approx((200, 165, 290, 315), abs=5)
