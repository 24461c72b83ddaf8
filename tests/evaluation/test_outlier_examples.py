"""Synthetic outliers contain no digits, and the same arguments give the same images."""

from typing import Any

import numpy as np
import pytest

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation import outlier_examples, symbols
from mnist_lit.evaluation.outlier_examples import make_outliers
from mnist_lit.imaging.mnist_format import fit_to_box


def test_the_same_arguments_give_the_same_images(digits_data: MNISTDataModule) -> None:
    images, labels = digits_data.in_memory.train_images.numpy(), digits_data.in_memory.train_labels.numpy()
    made = make_outliers(images, labels, 120, seed=0)
    assert made.shape == (120, 28, 28)
    assert made.dtype == np.uint8
    assert np.array_equal(made, make_outliers(images, labels, 120, seed=0))
    assert not np.array_equal(made, make_outliers(images, labels, 120, seed=1))


def test_no_outlier_is_a_digit(digits_data: MNISTDataModule) -> None:
    images, labels = digits_data.in_memory.train_images.numpy(), digits_data.in_memory.train_labels.numpy()
    made = make_outliers(images, labels, 120, seed=0)
    known = {image.tobytes() for image in images}
    assert not any(image.tobytes() in known for image in made)
    mirrored = {image[:, ::-1].tobytes(): label for image, label in zip(images, labels, strict=True)}
    found = [mirrored[image.tobytes()] for image in made if image.tobytes() in mirrored]
    assert len(found) == 5  # one in 23, and none that stays a digit when mirrored
    assert not set(found) & {0, 1, 8}


@pytest.mark.parametrize("digit", range(10))
def test_only_digits_that_do_not_stay_digits_are_mirrored_and_rotated_by_90_degrees(digit: int) -> None:
    image = fit_to_box(np.arange(1, 151, dtype=np.uint8).reshape(15, 10))
    made = [*make_outliers(image[None], np.array([digit]), 46, seed=digit)]  # every kind twice
    found = [
        sum(np.array_equal(one, fit_to_box(turned)) for one in made)
        for turned in (image[:, ::-1], np.rot90(image), np.rot90(image, 3))
    ]
    assert (found[0], sum(found[1:])) == (2 * (digit not in (0, 1, 8)), 2 * (digit not in (0, 8)))


def test_symbols_are_outliers_only_where_the_classes_are_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    for name in ("symbol_path", "printed_symbol"):

        def counted(rng: np.random.Generator, name: str = name) -> Any:
            drawn.append(name)
            return getattr(symbols, name)(rng)

        monkeypatch.setattr(outlier_examples, name, counted)
    images = np.full((4, 28, 28), 200, np.uint8)
    make_outliers(images, None, 40, seed=0)
    assert not drawn
    make_outliers(images, np.full(4, 7), 40, seed=0)
    assert (drawn.count("symbol_path"), drawn.count("printed_symbol")) == (12, 6)


def test_digits_that_can_neither_be_mirrored_nor_rotated_are_enough() -> None:
    zeros = np.zeros((3, 28, 28), np.uint8)
    zeros[:, 5:20, 5:20] = 200
    assert len(make_outliers(zeros, np.zeros(3, np.int64), 12, seed=0)) == 12
