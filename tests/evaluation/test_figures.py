"""Figures show their images, captions and counts where they should."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnist_lit.evaluation.figures import (
    BLUE,
    CELL,
    GAP,
    LINE,
    MARGIN,
    MAX_CLASSES_SHOWN,
    PALE,
    PAPER,
    RED,
    TEXT,
    TOP,
    WIDTH,
    confusion_matrix,
    gallery,
    tiles,
)


def test_a_gallery_shows_each_image_in_its_cell() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    picture = gallery(images, [f"{n}\n#{n}" for n in range(5)], columns=2)
    zoom = (WIDTH // 2 - GAP) // 28
    side = 28 * zoom
    height = side + 2 * LINE + 2 * GAP
    assert picture.shape == (3 * height + GAP, WIDTH, 3)
    for n, image in enumerate(images):
        x, y = WIDTH // 4 + n % 2 * (WIDTH // 2) - side // 2, GAP + n // 2 * height
        cell = picture[y : y + side : zoom, x : x + side : zoom]
        assert np.array_equal(cell, np.repeat(image[:, :, None], 3, axis=2))
        assert (picture[y + side : y + side + 2 * LINE, x : x + side] < 128).any()  # a caption


def test_an_empty_gallery_says_none() -> None:
    picture = gallery(np.zeros((0, 28, 28), np.uint8), [], columns=8)
    assert (picture < 128).any()


def test_captions_can_be_read_at_the_size_tensorboard_shows() -> None:
    images, names = np.zeros((9, 28, 28), np.uint8), [f"true {n}, pred 9\n99.9%  #12345" for n in range(9)]
    for picture in (
        gallery(images, names, columns=3),
        confusion_matrix(np.diag([5] * 10), [str(n) for n in range(10)]),
    ):
        assert picture.shape[1] == 700  # every second pixel is shown
        lines = (picture.max(axis=2) < 160).any(axis=1)
    first_line = lines[: 2 * LINE].nonzero()[0]
    assert np.ptp(first_line[first_line < GAP + LINE]) > 18  # a capital is 9 pixels high on the page


def test_a_long_caption_is_written_smaller_and_stays_in_its_column() -> None:
    picture = gallery(np.full((2, 28, 28), 255, np.uint8), ["a rather long name for a single class", "5"], columns=2)
    left, right = (
        ink(picture, slice(WIDTH // 2, None), slice(*part)) for part in ((0, WIDTH // 2), (WIDTH // 2, None))
    )
    assert WIDTH // 2 - 60 < left[1] < WIDTH // 2 - GAP
    assert right[1] < 30


def cell(picture: np.ndarray, true: int, predicted: int) -> list[int]:
    """The color in a cell's corner, outside its text."""
    return [int(value) for value in picture[TOP + true * CELL + 3, MARGIN + predicted * CELL + 3]]


def test_a_caption_of_any_length_is_drawn() -> None:
    assert gallery(np.zeros((1, 28, 28), np.uint8), ["m" * 2000], columns=4).shape[1] == WIDTH


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    counts = np.diag([90, 100, 100])
    counts[0, 2] = 10
    picture = confusion_matrix(counts, ["0", "1", "2"])
    assert picture.shape == (TOP + 3 * CELL + GAP, MARGIN + 3 * CELL + GAP, 3)
    assert cell(picture, 1, 1) == list(BLUE)
    red, green, _ = cell(picture, 0, 2)
    assert red - green > 20
    assert cell(picture, 2, 0) == list(PAPER)


def ink(picture: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The distances from the first to the last dark pixel of a part, down and across; 0 without any."""
    dark = np.argwhere(picture[rows, columns].max(axis=2) < 160)
    return np.ptp(dark, axis=0) if len(dark) else np.zeros(2, int)


def test_the_matrix_writes_its_counts_and_names_its_axes() -> None:
    counts = np.diag([90, 100, 100])
    counts[0, 2] = 10
    picture = confusion_matrix(counts, ["0", "1", "2"])
    for true, predicted in ((0, 2), (2, 0), (0, 1)):
        y, x = TOP + true * CELL, MARGIN + predicted * CELL
        part = ink(picture, slice(y + 4, y + CELL - 4), slice(x + 4, x + CELL - 4))
        assert bool(part.any()) == bool(counts[true, predicted])
    for words in (slice(GAP, GAP + LINE - 4), slice(GAP + LINE, GAP + 2 * LINE - 4)):  # the score, then the axes
        assert ink(picture, words, slice(None)).any()
    written = Image.new("RGB", picture.shape[1::-1], PAPER)
    font = ImageFont.load_default(TEXT)
    ImageDraw.Draw(written).text((GAP, GAP + LINE), "down: true class; across: predicted", PALE, font, "lt")
    axes = slice(GAP + LINE, GAP + 2 * LINE - 4)
    assert np.array_equal(picture[axes], np.asarray(written)[axes])
    for labels in ((slice(TOP - LINE, TOP - 2), slice(MARGIN, None)), (slice(TOP, None), slice(0, MARGIN - 2))):
        assert max(ink(picture, *labels)) > 2 * CELL  # "0" to "2"


def test_long_names_are_cut_and_counts_are_white_in_dark_cells() -> None:
    counts = np.diag([5, 5])
    cut, long, short = (confusion_matrix(counts, [name, "b"]) for name in ("circl…", "circles", "circl"))
    assert np.array_equal(long, cut)
    assert not np.array_equal(long, short)
    dark = long[TOP + 4 : TOP + CELL - 4, MARGIN + 4 : MARGIN + CELL - 4]
    assert dark.min(axis=2).max() > 200


def test_colors_are_fractions_of_a_row() -> None:
    counts = np.array([[1, 1], [0, 200]])
    picture = confusion_matrix(counts, ["0", "1"])
    half = [round(p + (c - p) / 2) for p, c in zip(PAPER, BLUE, strict=True)]
    assert cell(picture, 0, 0) == half
    assert cell(picture, 1, 1) == list(BLUE)
    root = [round(p + (c - p) * 0.5**0.5) for p, c in zip(PAPER, RED, strict=True)]
    assert cell(picture, 0, 1) == root


def test_of_many_classes_those_with_the_most_mistakes_are_shown() -> None:
    counts = np.diag([10] * 200)
    counts[150, 199] = 3
    picture = confusion_matrix(counts, [f"class {n}" for n in range(200)])
    assert picture.shape == (TOP + MAX_CLASSES_SHOWN * CELL + GAP, MARGIN + MAX_CLASSES_SHOWN * CELL + GAP, 3)
    red, green, _ = cell(picture, MAX_CLASSES_SHOWN - 2, MAX_CLASSES_SHOWN - 1)  # the last two of those shown
    assert red > green + 50
    assert cell(picture, MAX_CLASSES_SHOWN - 1, MAX_CLASSES_SHOWN - 1) == list(BLUE)


def test_a_class_without_images_is_drawn() -> None:
    assert confusion_matrix(np.zeros((2, 2), int), ["a", "b"]).dtype == np.uint8


def test_tiles_lie_in_rows_one_transparent_pixel_apart() -> None:
    sheet = tiles(np.full((3, 2, 2, 3), 7, np.uint8), columns=2)
    assert sheet.shape == (5, 5, 4)
    assert sheet[..., 3].tolist()[0] == [255, 255, 0, 255, 255]
    assert sheet[3:, 3:, 3].max() == 0  # the fourth is missing
    assert (sheet[:2, :2, :3] == 7).all()
