"""Pictures in a figure or a screenshot are found, and what only looks like one is not."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from torch import Tensor

from imaging.drawing import likeness, page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging import find_digits as find_digits_module
from mnist_lit.imaging.find_digits import find_digit, page_hypotheses
from mnist_lit.imaging.panels import find_panels


def figure(panel: Image.Image, *, ticks: bool = False, margin: int = 255) -> Image.Image:
    """A panel as plotting libraries show it: on a plain margin, with its axes and a title if wanted."""
    picture = Image.new("L", (panel.width + 120, panel.height + 100), margin)
    picture.paste(panel, (70, 50))
    if ticks:
        draw = ImageDraw.Draw(picture)
        draw.rectangle((69, 49, 70 + panel.width, 50 + panel.height), None, 0)
        for place in range(0, panel.height, 40):
            draw.line((64, 50 + place, 69, 50 + place), 0)
            draw.text((40, 44 + place), str(place // 10), 0)
        draw.text((110, 20), "Label: 1", 0)
    return picture


@pytest.mark.parametrize("ticks", [False, True])
@pytest.mark.parametrize(("paper", "ink"), [(0, 255), (40, 200), (150, 50), (225, 30)])
def test_a_digit_in_a_figure_is_read_as_without_its_margin(paper: int, ink: int, ticks: bool) -> None:
    panel = write_seven(page(paper=paper), 70, 50, color=ink)
    shown = figure(panel, ticks=ticks)
    alone, one = find_digit(panel), find_digit(shown)
    assert alone
    assert one
    for digit in (one, *find_digits(shown)):
        assert likeness(digit.image, alone.image) > 0.98
        assert np.allclose(digit.box, np.add(alone.box, (70, 50, 70, 50)), atol=2)
    assert len(find_digits(shown)) == 1


def test_the_panels_of_a_figure_are_read_in_order() -> None:
    picture = Image.new("RGB", (700, 480), "white")
    for number in range(6):
        across, down = 20 + 230 * (number % 3), 20 + 230 * (number // 3)
        picture.paste(write_seven(page(paper=0), 40 + 10 * number, 50, color=255), (across, down))
    found = find_digits(picture)
    assert len(find_panels(np.asarray(picture))) == 6
    assert [digit.line for digit in found] == [1, 2, 3, 4, 5, 6]
    assert [round((digit.box[0] - 36) / 240) for digit in found[:3]] == [0, 1, 2]


def test_what_only_looks_like_a_panel_is_none() -> None:
    bar, box, photo = page(paper=255), page(paper=255), page(paper=255)
    ImageDraw.Draw(bar).rectangle((60, 20, 130, 180), 0)  # a one
    ImageDraw.Draw(box).rectangle((20, 20, 180, 180), None, 0, 6)
    ImageDraw.Draw(photo).rectangle((20, 20, 180, 180), 150)
    noise = np.random.default_rng(0).normal(0, 6, (200, 200))
    noisy = Image.fromarray((np.asarray(photo) + noise).clip(0, 255).astype(np.uint8))
    rotated = figure(page(paper=0)).rotate(4, fillcolor=255)
    red = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(red).rectangle((60, 20, 130, 180), "red")
    for picture in (bar, red, *(write_seven(one, 70, 50) for one in (page(paper=255), box, noisy)), rotated):
        assert find_panels(np.asarray(picture)) == []
    assert find_digit(bar)


def test_a_panel_may_be_as_small_as_an_image_of_mnist(images: Tensor) -> None:
    for image in images[:20].numpy():
        shown = np.pad(image, 20, constant_values=255)
        (panel,) = find_panels(shown)
        assert np.array_equal(panel.pixels, image[1:-1, 1:-1])


def test_a_panel_may_cover_a_hundredth_of_a_screenshot() -> None:
    panel = write_seven(page(paper=0), 70, 50, color=255)
    alone, shown = find_digit(panel), Image.new("L", (1900, 1050), 245)
    shown.paste(panel.resize((150, 150), Image.Resampling.LANCZOS), (800, 300))
    one = find_digit(shown)
    assert alone
    assert one
    assert likeness(one.image, alone.image) > 0.9


def test_a_canvas_under_a_title_in_large_letters_is_a_panel() -> None:
    """Although the bowl of a letter is solid, too."""
    panel = write_seven(page(paper=0), 70, 50, color=255)
    shown = Image.new("L", (800, 600), 255)
    shown.paste(panel, (300, 250))
    draw = ImageDraw.Draw(shown)
    for left in range(100, 600, 40):
        draw.rectangle((left, 180, left + 14, 196), 0)  # a bowl
        draw.rectangle((left + 4, 184, left + 6, 186), 255)
        draw.rectangle((left + 24, 172, left + 27, 196), 0)  # a stem
    (found,) = find_panels(np.asarray(shown))
    assert found.pixels.shape == (196, 196)


def test_panels_may_be_of_very_different_sizes() -> None:
    panel = write_seven(page(paper=0), 70, 50, color=255)
    shown = Image.new("L", (800, 600), 255)
    for size, place in ((450, (20, 60)), (100, (600, 250))):
        shown.paste(panel.resize((size, size)), place)
    assert len(find_panels(np.asarray(shown))) == 2


def test_a_panel_may_have_round_corners() -> None:
    panel = write_seven(page(paper=0), 70, 50, color=255)
    whole, shown = Image.new("L", panel.size, 0), Image.new("L", (900, 500), 245)
    ImageDraw.Draw(whole).rounded_rectangle((0, 0, 199, 199), 25, 255)
    shown.paste(panel, (300, 100), whole)
    alone, one = find_digit(panel), find_digit(shown)
    assert alone
    assert one
    assert likeness(one.image, alone.image) > 0.9
    assert len(find_digits(shown)) == 1


def test_every_tile_of_a_contact_sheet_is_a_panel(images: Tensor) -> None:
    """Also those whose digit nearly touches their side, where it is as light as the margin."""
    tiles = images.numpy().copy()
    tiles[::3, 1:27, 26] = 255
    shown = np.full((400, 162), 255, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = 10 + 38 * (place // 4), 10 + 38 * (place % 4)
        shown[top : top + 28, left : left + 28] = tile
    panels = find_panels(shown)
    assert len(panels) == 16
    assert all(np.array_equal(panel.pixels, tile[1:-1, 1:-1]) for panel, tile in zip(panels, tiles, strict=True))


def test_the_panels_of_a_picture_have_a_limited_number_of_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a small file of many panels would keep a server busy for minutes."""
    sheet = np.full((400, 400), 255, np.uint8)
    for top in range(10, 400, 40):
        for left in range(10, 400, 40):
            sheet[top : top + 28, left : left + 28] = 30
            sheet[top + 6 : top + 22, left + 12 : left + 15] = 240
    assert len(find_digits(sheet)) == 100
    monkeypatch.setattr(find_digits_module, "MAX_CHOICES", 30)
    assert len(page_hypotheses(sheet)) < 30


def test_digits_beside_a_rectangle_are_read() -> None:
    picture = page(640, 480, 245)
    ImageDraw.Draw(picture).rectangle((60, 230, 580, 450), 180)
    for left, top in ((120, 60), (260, 60), (120, 300)):
        write_seven(picture, left, top)
    assert find_panels(np.asarray(picture)) == []
    assert [(digit.line, digit.column) for digit in find_digits(picture)] == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (12, 12), (13, 300)])
def test_a_small_or_flat_picture_raises_no_error(shape: tuple[int, int]) -> None:
    assert find_panels(np.zeros(shape, np.uint8)) == []
    corner = np.full(shape, 255, np.uint8)
    corner[shape[0] // 3 :, shape[1] // 3 :] = 0
    assert find_panels(corner) == []


@pytest.mark.parametrize("button", [(60, 420, 180, 460), (60, 30, 180, 70), (380, 120, 470, 160)])
@pytest.mark.parametrize(("window", "canvas", "ink"), [(255, 0, 255), (30, 255, 0), (255, 225, 20)])
def test_the_buttons_of_a_drawing_app_are_no_panels(
    button: tuple[int, int, int, int], window: int, canvas: int, ink: int
) -> None:
    app = page(480, 560, window)
    draw = ImageDraw.Draw(app)
    draw.rectangle((60, 100, 359, 399), canvas)
    draw.rectangle(button, 150)
    draw.text((button[0] + 20, button[1] + 8), "Clear", 0, font_size=20)
    draw.text((200, 8), "Draw a digit", 255 - window, font_size=24)
    write_seven(app, 150, 150, zoom=2, pen=16, color=ink)
    assert len(find_panels(np.asarray(app))) == 1
    found = find_digit(app)
    assert found
    assert np.allclose(found.box, (142, 142, 278, 358), atol=10)


def test_an_answer_box_below_a_picture_is_a_panel() -> None:
    """It is higher than a button."""
    shown = page(600, 640, 255)
    for box, left, top in (((60, 40, 460, 440), 200, 150), ((60, 470, 540, 610), 100, 490)):
        ImageDraw.Draw(shown).rectangle(box, 0)
        write_seven(shown, left, top, color=255)
    assert len(find_panels(np.asarray(shown))) == 2
