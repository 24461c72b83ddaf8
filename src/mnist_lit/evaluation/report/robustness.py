"""How a network's accuracy falls as test images are rotated, shifted, scaled, blurred or faded. Every image gets every
corruption at every amount, on the images' device. Directions and noise are functions of the image's index, so all runs
see the same images."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.keyed_random import CORRUPTION, permutation, uniform
from mnist_lit.evaluation.calibration import CalibratedNetwork, predict_batches
from mnist_lit.evaluation.report.scores import accuracy_of

NEUTRAL = 0.5  # the warp's random draw that changes nothing; 0 and 1 are its limits
ROTATION, SCALE, SHIFT = 0, 1, 3  # columns of the warp's draws; shifts take two, x and y


class Corruption(NamedTuple):
    """One way to change images: its amounts, and the one that changes nothing."""

    unit: str
    amounts: tuple[float, ...]
    neutral: float
    apply: Callable[[Tensor, Tensor, float], Tensor]  # images uint8 (B, 28, 28), indices int64 (B,), amount → images


def measure_robustness(calibrated: CalibratedNetwork, images: Tensor, labels: Tensor, count: int) -> dict[str, Any]:
    """The accuracy on `count` of the images, uint8 (N, 28, 28), under every corruption at every amount."""
    # Chosen by N and `count` alone, so that all runs are measured on the same images.
    chosen = permutation(0, 0, len(images), stream=CORRUPTION)[:count].sort().values.to(images.device)
    images, labels = images[chosen], labels[chosen]

    def score(corrupted: Tensor) -> dict[str, Any]:
        right = predict_batches(calibrated, corrupted)[0].argmax(dim=1) == labels
        return accuracy_of(int(right.sum()), len(labels))

    clean = score(images)
    changes = {}
    for name, (unit, amounts, neutral, apply) in CORRUPTIONS.items():
        scores = [clean if amount == neutral else score(apply(images, chosen, amount)) for amount in amounts]
        points = [{"amount": amount, **found} for amount, found in zip(amounts, scores, strict=True)]
        changes[name] = {"unit": unit, "points": points}
    return clean | {"changes": changes}


def _warp(option: str, column: int, neutral: float, images: Tensor, indices: Tensor, amount: float) -> Tensor:
    """The training warp, with the draw in `column` at its limit, 0 or 1, and every other random draw neutral."""
    draws = torch.full((len(images), DRAWS), NEUTRAL, device=images.device)
    draws[:, column] = float(amount > neutral)
    return RandomAffine(**{option: abs(amount - neutral)})(images, draws)


def _shift(images: Tensor, indices: Tensor, pixels: float) -> Tensor:
    """Left, right, up or down, a quarter of the images each."""
    direction = (uniform(0, 0, indices, 1, stream=CORRUPTION)[:, 0] * 4).long()  # (B,)
    draws = torch.full((len(images), DRAWS), NEUTRAL, device=images.device)
    draws[torch.arange(len(images), device=images.device), SHIFT + direction // 2] = (direction % 2).float()
    return RandomAffine(translate=pixels)(images, draws)


def _noise(images: Tensor, indices: Tensor, deviation: float) -> Tensor:
    """Independent normal noise, by the Box–Muller transform (1958); deviation 1 is full ink."""
    draws = uniform(0, 1, indices, 2 * images[0].numel(), stream=CORRUPTION)
    first, second = draws.view(len(images), 2, *images.shape[1:]).unbind(dim=1)  # (B, 28, 28) each
    radius = torch.sqrt(-2 * torch.log(1 - first))
    return _to_uint8(images + 255 * deviation * radius * torch.cos(2 * torch.pi * second))


def _blur(images: Tensor, indices: Tensor, deviation: float) -> Tensor:
    """Gaussian, along rows and then columns, with paper outside the image."""
    reach = int(4 * deviation + 0.5)  # the kernel ends at four standard deviations
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / deviation) ** 2)
    kernel = kernel / kernel.sum()
    across = F.conv2d(images[:, None].float(), kernel[None, None, None, :], padding=(0, reach))
    return _to_uint8(F.conv2d(across, kernel[None, None, :, None], padding=(reach, 0))[:, 0])


def _fade(images: Tensor, indices: Tensor, factor: float) -> Tensor:
    return _to_uint8(images * factor)


def _to_uint8(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


_rotate, _scale = partial(_warp, "degrees", ROTATION, 0), partial(_warp, "scale", SCALE, 1)
CORRUPTIONS = {
    "rotation": Corruption("degrees, clockwise", (-60, -45, -30, -15, 0, 15, 30, 45, 60), 0, _rotate),
    "shift": Corruption("pixels", (0, 1, 2, 3, 4, 5, 6), 0, _shift),
    "scale": Corruption("times the size", (0.5, 0.6, 0.75, 0.9, 1, 1.1, 1.25, 1.4, 1.5), 1, _scale),
    "noise": Corruption("standard deviation, of full ink", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, _noise),
    "blur": Corruption("standard deviation in pixels", (0, 0.5, 1, 1.5, 2, 2.5), 0, _blur),
    "contrast": Corruption("of the ink's strength", (1, 0.8, 0.6, 0.4, 0.2, 0.1), 1, _fade),
}
