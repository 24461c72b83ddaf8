"""Strokes are measured, and brought to the width of MNIST's."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from mnist_lit.imaging.find_digits import center_digit
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.imaging.stroke_width import normalize_stroke_width, stroke_width


@pytest.mark.parametrize("width", [2, 4, 10])
def test_the_width_of_a_bar_is_measured(width: int) -> None:
    assert stroke_width(np.ones((width, 200), bool)) == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize(("width", "expected"), [(4, 2.2), (14, 14 / 5), (16, 3.2)])
def test_strokes_end_up_between_the_limits_once_scaled_into_the_box(width: int, expected: float) -> None:
    bar = np.ones((100, width), bool)
    normalized = normalize_stroke_width(bar, 20, 2.2, 3.2)
    rows, columns = (np.ptp(index) + 1 for index in normalized.nonzero())
    assert columns * 20 / rows == pytest.approx(expected, abs=0.4)


def test_strokes_of_real_digits_become_as_wide_as_mnist_s(shared: Path) -> None:
    with (shared / "real-digits/paper/labels.csv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)][::15]
    widths = []
    for name in names:
        image = center_digit(open_picture(shared / "real-digits/paper" / name))
        widths.append(stroke_width(cv2.resize(image, None, fx=5, fy=5) > 127) / 5)
    assert 2.1 < np.median(widths) < 3.2
