"""Ones get an upstroke and sevens a bar, other digits stay unchanged, and no image depends on another."""

import pytest
import torch

from mnist_lit.data.continental import CONTINENTAL_DRAWS, add_continental_strokes
from mnist_lit.data.keyed_random import CONTINENTAL, uniform
from mnist_lit.data.loaders import shard
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError


@pytest.fixture(scope="module")
def digits(digits_data: MNISTDataModule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = uniform(0, 0, torch.arange(600), CONTINENTAL_DRAWS, stream=CONTINENTAL)
    return digits_data.in_memory.train_images[:600], digits_data.in_memory.train_labels[:600], draws


def test_only_the_given_fraction_of_ones_and_sevens_changes(digits: tuple[torch.Tensor, ...]) -> None:
    images, labels, draws = digits
    changed = (add_continental_strokes(images, labels, draws, 0.5) != images).flatten(1).any(dim=1)
    expected = ((labels == 1) | (labels == 7)) & (draws[:, 0] < 0.5)
    assert torch.equal(changed, expected)
    assert 30 < int(changed.sum()) < 90
    assert torch.equal(add_continental_strokes(images, labels, draws, 0.0), images)


def test_an_upstroke_is_left_of_the_top_and_a_bar_crosses_the_middle() -> None:
    stem = torch.zeros(1, 28, 28, dtype=torch.uint8)
    stem[0, 4:24, 13:15] = 255
    middle = torch.full((1, CONTINENTAL_DRAWS), 0.5)
    one = add_continental_strokes(stem, torch.tensor([1]), middle, 1)[0].int() - stem[0]
    assert one.min() == 0  # no ink is removed
    assert one[:, 16:].sum() == 0  # right of the stem
    assert one[4:14, :13].sum() == one[:, :13].sum() > 255  # left of its upper half
    seven = add_continental_strokes(stem, torch.tensor([7]), middle, 1)[0].int() - stem[0]
    rows = seven.sum(dim=1).nonzero()[:, 0]
    assert 12 <= rows.min() <= rows.max() <= 18  # around the middle
    assert seven[:, :13].sum() > 255 < seven[:, 15:].sum()  # on both sides


def test_an_image_gets_the_same_strokes_in_any_shard(digits: tuple[torch.Tensor, ...]) -> None:
    images, labels, draws = digits
    together = add_continental_strokes(images, labels, draws, 1)
    for parts in (2, 3, 600):
        slices = [shard(len(images), rank, parts) for rank in range(parts)]
        pieces = [add_continental_strokes(images[s], labels[s], draws[s], 1) for s in slices]
        assert torch.equal(torch.cat(pieces), together)
    assert not torch.equal(add_continental_strokes(images, labels, draws.flip(0), 1), together)


def test_the_fraction_is_checked() -> None:
    with pytest.raises(InputError, match=r"data.continental: expected a fraction in \[0, 1\], got 2"):
        MNISTDataModule(continental=2)
