"""Folds in a page's paper disappear, and what is written across them stays."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.drawing import page, write_seven
from imaging.shapes_alone import find_digits
from mnist_lit.imaging import reduced_picture as module
from mnist_lit.imaging.folds import flatten_folds

HEIGHT, WIDTH = 700, 900
TOLERANCE = 4  # gray levels


def written() -> NDArray[np.uint8]:
    """Gray paper with three sevens in a row."""
    paper = page(WIDTH, HEIGHT, 200)
    for left in (150, 300, 450):
        write_seven(paper, left, 200)
    return np.asarray(paper)


def distance_from(start: tuple[int, int], stop: tuple[int, int]) -> NDArray[np.float64]:
    """Each pixel's distance from a line through two points (x, y), (HEIGHT, WIDTH)."""
    (x0, y0), (x1, y1) = start, stop
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / np.hypot(x1 - x0, y1 - y0))


def folded(pixels: NDArray[np.uint8], distance: NDArray[np.float64], depth: float) -> NDArray[np.uint8]:
    """The picture with a fold that is darker by this fraction, or brighter if it is negative."""
    return np.asarray(pixels * (1 - depth * np.exp(-((distance / 3) ** 2) / 2)), np.uint8)


@pytest.mark.parametrize("depth", [0.1, 0.3, -0.15])
@pytest.mark.parametrize("ends", [((0, 120), (899, 380)), ((330, 0), (520, 699)), ((0, 250), (899, 250))])
def test_a_fold_disappears(ends: tuple[tuple[int, int], tuple[int, int]], depth: float) -> None:
    flat = written()
    distance = distance_from(*ends)
    creased = folded(flat, distance, depth)
    away = np.abs(creased.astype(int) - flat) > TOLERANCE
    assert away[flat == 200].mean() > 0.005
    left = np.abs(flatten_folds(creased).astype(int) - flat) > TOLERANCE
    assert left[flat == 200].mean() < 0.001
    assert np.abs(flatten_folds(creased).astype(int) - flat)[flat < 100].max() <= TOLERANCE, "the digits changed"
    curved = folded(flat, distance + 3e-5 * (np.mgrid[:HEIGHT, :WIDTH][1] - 450) ** 2, depth)
    assert (np.abs(flatten_folds(curved).astype(int) - flat)[flat == 200] > TOLERANCE).mean() < 0.001


def test_several_folds_disappear() -> None:
    flat = written()
    creased = folded(flat, distance_from((0, 120), (899, 380)), 0.2)
    creased = folded(creased, distance_from((300, 0), (260, 699)), 0.15)
    creased = folded(creased, distance_from((0, 600), (899, 560)), -0.1)
    assert (np.abs(flatten_folds(creased).astype(int) - flat)[flat == 200] > TOLERANCE).mean() < 0.001


def test_strokes_stay() -> None:
    """A long 1, a border-to-border pen stroke, a row of strokes, and the edge of a sheet within the picture."""
    one = np.asarray(page(WIDTH, HEIGHT, 200)).copy()
    cv2.line(one, (450, 20), (430, 680), 60, 14)
    pen = np.asarray(page(WIDTH, HEIGHT, 200)).copy()
    cv2.line(pen, (0, 300), (899, 320), 60, 4)
    row = np.asarray(page(WIDTH, HEIGHT, 200)).copy()
    for left in range(20, 860, 60):
        cv2.line(row, (left, 300), (left + 40, 300), 100, 5)
    sheet = np.asarray(page(WIDTH, HEIGHT, 150)).copy()
    sheet[150:600, 100:750] = 200
    sheet[600:606, 100:750] = 110
    for picture in (written(), one, pen, row, sheet):
        assert (flatten_folds(picture) == picture).all()


@pytest.mark.parametrize("margin", [0, 2, 5, 10, 60])
@pytest.mark.parametrize("ink", [190, 150])
def test_a_faint_digit_of_a_thin_pen_stays(margin: int, ink: int) -> None:
    for height in (400, 800):
        for corners in ([(120, 0), (100, 399)], [(0, 0), (239, 0), (90, 399)]):
            picture = np.full((height + 2 * margin, 240 * height // 400 + 2 * margin), 220, np.uint8)
            points = np.array(corners) * (height - 1) // 399 + margin
            cv2.polylines(picture, [points], False, ink, 4)
            assert (flatten_folds(picture) == picture).all()


@pytest.mark.parametrize("shape", [(1, 1600), (1600, 1), (1, 3200), (30, 320), (128, 1600)])
def test_a_picture_of_any_shape_is_accepted(shape: tuple[int, int]) -> None:
    for picture in (np.full(shape, 200, np.uint8), np.random.default_rng(0).integers(0, 256, shape, np.uint8)):
        assert (flatten_folds(picture) == picture).all()


def test_a_small_picture_stays() -> None:
    small = np.asarray(cv2.resize(folded(written(), distance_from((0, 120), (899, 380)), 0.3), (319, 248)), np.uint8)
    assert flatten_folds(small) is small


def test_a_fold_is_not_read_as_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panels on the two sides of a fold face the light differently, and the fold is not as sharp everywhere."""
    distance = distance_from((700, 0), (400, 699))
    uneven = 0.2 + 0.1 * np.sin(np.mgrid[:HEIGHT, :WIDTH][0] / 40)
    creased = np.asarray(folded(written(), distance, 0) * (1 - uneven * np.exp(-((distance / 3) ** 2) / 2)), np.uint8)
    creased = np.asarray(creased * np.where(distance > 0, 0.85, 1), np.uint8)
    assert len(find_digits(creased)) == 3
    monkeypatch.setattr(module, "flatten_folds", lambda gray: gray)
    assert len(find_digits(creased)) != 3
