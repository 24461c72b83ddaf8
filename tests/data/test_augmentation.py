"""The warp does what torchvision's PIL transforms do with the same parameters, in one resampling."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional
from PIL import Image
from scipy.interpolate import BSpline
from torchvision.transforms import InterpolationMode

from mnist_lit.data.augmentation import BENDS, DRAWS, KNOTS, RandomAffine
from mnist_lit.data.keyed_random import AUGMENTATION, ELASTIC, uniform
from mnist_lit.data.loaders import shard

tvf: Any = torchvision.transforms.functional  # typed for tensors only, but it takes PIL's images
STRONG = RandomAffine(degrees=20, scale=0.15, shear=12, translate=2.5, crop_prob=0.3, elastic=3)


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return uniform(seed, 0, torch.arange(count), DRAWS, stream=AUGMENTATION)


def bends(count: int, seed: int = 0) -> torch.Tensor:
    return uniform(seed, 0, torch.arange(count), BENDS, stream=ELASTIC)


def by_torchvision(
    image: torch.Tensor, *, angle: float, scale: float, shear: float, shift: tuple[int, int]
) -> torch.Tensor:
    """PIL's pixels, with torchvision's meaning of the parameters."""
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
def test_each_part_and_all_together_match_torchvision(
    images: torch.Tensor, angle: float, scale: float, shear: float, shift: tuple[int, int]
) -> None:
    warp = RandomAffine(degrees=30, scale=0.5, shear=30, translate=4)
    limits = [(angle, 30), (scale - 1, 0.5), (shear, 30), (shift[0], 4), (shift[1], 4)]
    chosen = torch.tensor([[(value / limit + 1) / 2 for value, limit in limits] + [1.0]]).expand(len(images), DRAWS)
    ours = warp(images, chosen).int()
    theirs = torch.stack([by_torchvision(i, angle=angle, scale=scale, shear=shear, shift=shift) for i in images]).int()
    assert (ours - theirs).abs().max() <= 2  # of 255: PIL resamples in fixed point
    mirrored = torch.stack([by_torchvision(i, angle=-angle - 5, scale=scale, shear=shear, shift=shift) for i in images])
    assert (ours - mirrored.int()).abs().max() > 50  # the control: other parameters are far away


def test_the_crop_is_centre_crop_22_blown_up_to_28(images: torch.Tensor) -> None:
    ours = RandomAffine(crop_prob=1)(images, torch.full((len(images), DRAWS), 0.5)).int()
    crop = [tvf.center_crop(Image.fromarray(image.numpy()), [22, 22]) for image in images]
    theirs = torch.stack(
        [tvf.pil_to_tensor(tvf.resize(image, [28, 28], InterpolationMode.BILINEAR))[0] for image in crop]
    )
    inner = (slice(None), slice(1, 27), slice(1, 27))  # at the rim PIL repeats the crop's edge, we see past it
    assert (ours[inner] - theirs.int()[inner]).abs().max() <= 2


def test_parameters_are_drawn_evenly_within_their_limits() -> None:
    parameters = STRONG.parameters(draws(50_000))
    limits = {"angle": (-20, 20), "scale": (0.85, 1.15), "shear": (-12, 12), "x": (-2.5, 2.5), "y": (-2.5, 2.5)}
    for name, (low, high) in limits.items():
        values, width = parameters[name], high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.01 * width
        assert abs(values.std() - width / 12**0.5) < 0.01 * width
    assert abs((parameters["zoom"] > 1).float().mean() - 0.3) < 0.01


def test_parameters_are_independent_of_each_other() -> None:
    parameters = torch.stack(list(STRONG.parameters(draws(50_000)).values()))
    assert (torch.corrcoef(parameters) - torch.eye(len(parameters))).abs().max() < 0.02


def test_a_bend_is_the_b_spline_of_its_control_points() -> None:
    numbers = bends(5)
    bent = RandomAffine(elastic=3).bend(numbers)
    knots = (numbers * 2 - 1).double().view(5, 2, KNOTS, KNOTS).numpy() * 3
    side = np.linspace(1, KNOTS - 2, 28)
    for image in range(5):
        for axis in range(2):
            along = np.array([BSpline(np.arange(-2, KNOTS + 2), row, 3)(side) for row in knots[image, axis]])
            wanted = BSpline(np.arange(-2, KNOTS + 2), along, 3)(side)
            np.testing.assert_allclose(bent[axis, image].numpy(), wanted, atol=1e-5)
    assert RandomAffine(elastic=3).bend(bends(5, seed=1)).sub(bent).abs().max() > 1


def test_a_bend_moves_neighbours_together_and_all_places_alike() -> None:
    bent = RandomAffine(elastic=3).bend(bends(5_000))
    assert bent.abs().max() <= 3
    assert bent.mean().abs() < 0.01
    assert max(float(bent.diff(dim=axis).abs().max()) for axis in (-1, -2)) < 2 * 3 / 9  # nine pixels between knots
    spread = bent.std(dim=1)
    assert spread.min() > 0.6
    assert spread.max() < 1.3
    along = torch.stack([bent[0].flatten(), bent[1].flatten()])
    assert torch.corrcoef(along)[0, 1].abs() < 0.02


def test_an_even_bend_is_a_shift(images: torch.Tensor) -> None:
    draws_ = torch.full((len(images), DRAWS), 0.5)
    even = torch.full((len(images), BENDS), 1.0)  # every control point by + 1 pixel
    shifted = RandomAffine(elastic=1)(images, draws_, even)
    assert (shifted[:, :-1, :-1].int() - images[:, 1:, 1:].int()).abs().max() <= 1


def test_the_default_warp_moves_nothing(images: torch.Tensor) -> None:
    assert RandomAffine()(images, draws(len(images))) is images


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_an_image_is_warped_the_same_bits_in_any_shard(images: torch.Tensor, world_size: int) -> None:
    many = images.repeat(9, 1, 1)[:131]
    whole = STRONG(many, draws(131), bends(131))
    parts = [shard(131, rank, world_size) for rank in range(world_size)]
    assert torch.cat([STRONG(many[part], draws(131)[part], bends(131)[part]) for part in parts]).equal(whole)
    assert not STRONG(many, draws(131, seed=1), bends(131)).equal(whole)
    assert not STRONG(many, draws(131), bends(131, seed=1)).equal(whole)


def test_an_empty_shard_stays_empty() -> None:
    assert STRONG(torch.zeros(0, 28, 28, dtype=torch.uint8), draws(0), bends(0)).shape == (0, 28, 28)


@pytest.mark.parametrize(
    "limits",
    [{"degrees": -1}, {"scale": 1}, {"shear": 90}, {"translate": float("nan")}, {"crop_prob": 1.1}, {"elastic": -1}],
)
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RandomAffine(**limits)
