"""Digits are redrawn in other styles or with another pen, others stay unchanged, and no image depends on another."""

import pytest
import torch

from mnist_lit.data.continental import CONTINENTAL_DRAWS, add_continental_strokes
from mnist_lit.data.handwriting import HANDWRITING_DRAWS, STYLES, HandwritingStyles, vary_handwriting
from mnist_lit.data.keyed_random import HANDWRITING, uniform
from mnist_lit.data.loaders import shard
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError

COUNT = 400


@pytest.fixture(scope="module")
def draws() -> torch.Tensor:
    return uniform(0, 0, torch.arange(COUNT), HANDWRITING_DRAWS, stream=HANDWRITING)


@pytest.fixture(scope="module")
def digits(digits_data: MNISTDataModule) -> tuple[torch.Tensor, torch.Tensor]:
    return digits_data.in_memory.train_images[:COUNT], digits_data.in_memory.train_labels[:COUNT]


def test_the_given_fraction_is_redrawn_and_half_as_many_get_another_pen(
    digits: tuple[torch.Tensor, ...], draws: torch.Tensor
) -> None:
    images, labels = digits
    varied = vary_handwriting(images, labels, draws, 0.4)
    changed = (varied != images).flatten(1).any(dim=1)
    assert torch.equal(changed, draws[:, 0] < 0.6)
    redrawn = draws[:, 0] < 0.4
    assert vary_handwriting(images.flip(0), labels, draws, 0.4)[redrawn].equal(varied[redrawn])  # whatever was there
    assert torch.equal(vary_handwriting(images, labels, draws, 0.0), images)


def test_redrawn_digits_have_mnist_s_size_and_are_centered(draws: torch.Tensor) -> None:
    redrawn = vary_handwriting(torch.zeros(COUNT, 28, 28, dtype=torch.uint8), torch.arange(COUNT) % 10, draws, 1)
    sides = torch.stack([(redrawn > 127).any(dim=axis).sum(dim=1) for axis in (1, 2)])
    assert sides.max() <= 21
    assert sides.amax(dim=0).float().mean() == pytest.approx(20, abs=0.7)
    rows = torch.arange(28.0)
    middle = (redrawn.float().sum(dim=2) @ rows) / redrawn.float().sum(dim=(1, 2))
    assert (middle - 13.5).abs().max() < 4


def test_every_style_is_drawn_and_belongs_to_its_digit() -> None:
    for label in range(10):
        styles = sum(digit == label for digit, _ in STYLES)
        draws = torch.full((styles, HANDWRITING_DRAWS), 0.5)
        draws[:, 1] = (torch.arange(styles) + 0.5) / styles
        images = vary_handwriting(
            torch.zeros(styles, 28, 28, dtype=torch.uint8), torch.full((styles,), label), draws, 1
        )
        assert len({bytes(image.numpy()) for image in images}) == styles


def test_an_image_gets_the_same_strokes_in_any_shard(digits: tuple[torch.Tensor, ...], draws: torch.Tensor) -> None:
    images, labels = digits
    together = vary_handwriting(images, labels, draws, 0.5)
    for parts in (2, 3, COUNT):
        slices = [shard(COUNT, rank, parts) for rank in range(parts)]
        pieces = [vary_handwriting(images[s], labels[s], draws[s], 0.5) for s in slices]
        assert torch.equal(torch.cat(pieces), together)
    assert not torch.equal(vary_handwriting(images, labels, draws.flip(0), 0.5), together)


def test_both_kinds_of_styles_follow_seed_and_epoch(digits: tuple[torch.Tensor, ...]) -> None:
    images, labels = digits
    indices = torch.arange(COUNT)
    styles = HandwritingStyles(continental=0.5, redrawn=0.2)
    assert torch.equal(styles(images, labels, indices, 0, 1), styles(images, labels, indices, 0, 1))
    for seed, epoch in ((1, 1), (0, 2)):
        assert not torch.equal(styles(images, labels, indices, seed, epoch), styles(images, labels, indices, 0, 1))
    assert torch.equal(HandwritingStyles()(images, labels, indices, 0, 1), images)


def test_each_kind_of_style_draws_from_a_stream_of_its_own(digits: tuple[torch.Tensor, ...]) -> None:
    images, labels = digits
    indices = torch.arange(COUNT)
    strokes = uniform(3, 1, indices, CONTINENTAL_DRAWS, stream=6)
    pens = uniform(3, 1, indices, HANDWRITING_DRAWS, stream=8)
    expected = vary_handwriting(add_continental_strokes(images, labels, strokes, 0.5), labels, pens, 0.2)
    assert HandwritingStyles(continental=0.5, redrawn=0.2)(images, labels, indices, 3, 1).equal(expected)


def test_the_fraction_is_checked() -> None:
    with pytest.raises(InputError, match=r"data.handwriting: expected a fraction in \[0, 1\], got 2"):
        MNISTDataModule(handwriting=2)
