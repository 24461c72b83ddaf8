"""The batched warp matches torchvision's PIL transforms with the same parameters."""

from typing import Any

import pytest
import torch
import torchvision.transforms.functional
from PIL import Image
from torchvision.transforms import InterpolationMode

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.keyed_random import AUGMENTATION, uniform
from mnist_lit.data.loaders import shard
from mnist_lit.datamodule import MNISTDataModule

tvf: Any = torchvision.transforms.functional  # typed for tensors only, but accepts PIL images
STRONG = RandomAffine(degrees=20, scale=0.15, shear=12, translate=2.5, crop_prob=0.3)


@pytest.fixture(scope="module")
def images(digits_data: MNISTDataModule) -> torch.Tensor:
    return digits_data.in_memory.train_images[:16]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return uniform(seed, 0, torch.arange(count), DRAWS, stream=AUGMENTATION)


def torchvision_affine(
    image: torch.Tensor, *, angle: float, scale: float, shear: float, shift: tuple[int, int]
) -> torch.Tensor:
    """torchvision's `affine`, applied by PIL."""
    warped = tvf.affine(
        Image.fromarray(image.numpy()), angle, list(shift), scale, [shear, 0.0], InterpolationMode.BILINEAR, fill=0
    )
    pixels: torch.Tensor = tvf.pil_to_tensor(warped)
    return pixels[0]


@pytest.mark.parametrize(
    ("angle", "scale", "shear", "shift"),
    [(15, 1, 0, (0, 0)), (-15, 1, 0, (0, 0)), (0, 1.1, 0, (0, 0)), (0, 0.8, 0, (0, 0)), (0, 1, 12, (0, 0)),
     (0, 1, 0, (2, -1)), (11, 0.9, -8, (-2, 1))],
)  # fmt: skip
def test_each_step_and_their_combination_match_torchvision(
    images: torch.Tensor, angle: float, scale: float, shear: float, shift: tuple[int, int]
) -> None:
    warp = RandomAffine(degrees=30, scale=0.5, shear=30, translate=4)
    limits = [(angle, 30), (scale - 1, 0.5), (shear, 30), (shift[0], 4), (shift[1], 4)]
    chosen = torch.tensor([[(value / limit + 1) / 2 for value, limit in limits] + [1.0]]).expand(len(images), DRAWS)
    ours = warp(images, chosen).int()
    theirs = [torchvision_affine(i, angle=angle, scale=scale, shear=shear, shift=shift) for i in images]
    assert (ours - torch.stack(theirs).int()).abs().max() <= 2  # of 255: PIL resamples in fixed point
    control = [torchvision_affine(i, angle=-angle - 5, scale=scale, shear=shear, shift=shift) for i in images]
    assert (ours - torch.stack(control).int()).abs().max() > 50  # another angle gives clearly different images


def test_the_crop_matches_center_crop_22_then_resize_28(images: torch.Tensor) -> None:
    ours = RandomAffine(crop_prob=1)(images, torch.full((len(images), DRAWS), 0.5)).int()
    crops = [tvf.center_crop(Image.fromarray(image.numpy()), [22, 22]) for image in images]
    theirs = torch.stack(
        [tvf.pil_to_tensor(tvf.resize(image, [28, 28], InterpolationMode.BILINEAR))[0] for image in crops]
    )
    inner = (
        slice(None),
        slice(1, 27),
        slice(1, 27),
    )  # at the border PIL repeats the crop's edge; the warp reads beyond it
    assert (ours[inner] - theirs.int()[inner]).abs().max() <= 2


def test_parameters_are_uniform_within_their_limits() -> None:
    parameters = STRONG.parameters(draws(50_000))
    limits = {"angle": (-20, 20), "scale": (0.85, 1.15), "shear": (-12, 12), "x": (-2.5, 2.5), "y": (-2.5, 2.5)}
    for name, (low, high) in limits.items():
        values, width = parameters[name], high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.01 * width
        assert abs(values.std() - width / 12**0.5) < 0.01 * width
    assert abs((parameters["zoom"] > 1).float().mean() - 0.3) < 0.01


def test_a_strength_is_a_factor_on_every_limit_and_on_the_crops_probability() -> None:
    full, half = (STRONG.parameters(draws(1000), strength) for strength in (1.0, 0.5))
    assert (half["scale"] - 1).allclose((full["scale"] - 1) / 2, atol=1e-6)
    assert all(half[name].allclose(full[name] / 2) for name in ("angle", "shear", "x", "y"))
    assert half["zoom"].ne(1).equal(draws(1000)[:, 5] < 0.15)


def test_parameters_are_independent_of_each_other() -> None:
    parameters = torch.stack(list(STRONG.parameters(draws(50_000)).values()))
    assert (torch.corrcoef(parameters) - torch.eye(len(parameters))).abs().max() < 0.02


def test_the_default_warp_changes_nothing(images: torch.Tensor) -> None:
    assert RandomAffine()(images, draws(len(images))) is images


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_an_image_gets_the_same_bits_in_any_shard(images: torch.Tensor, world_size: int) -> None:
    many = images.repeat(9, 1, 1)[:131]
    together = STRONG(many, draws(131))
    parts = [shard(131, rank, world_size) for rank in range(world_size)]
    assert torch.cat([STRONG(many[part], draws(131)[part]) for part in parts]).equal(together)
    assert not STRONG(many, draws(131, seed=1)).equal(together)


def test_an_empty_shard_stays_empty() -> None:
    assert STRONG(torch.zeros(0, 28, 28, dtype=torch.uint8), draws(0)).shape == (0, 28, 28)
