"""How a network's accuracy falls as the test images are turned, moved, resized, blurred or fade. torch only.

Every image gets each change at each amount. Directions and noise are functions of the image's index, so that all runs
see the same; nothing is downloaded, and everything is computed where the images lie.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.keyed_random import CORRUPTION, permutation, uniform
from mnist_lit.evaluation.report.scores import accuracy_share
from mnist_lit.model import TutorialCNN, standardize

__all__ = ["CORRUPTIONS", "Corruption", "measure_robustness"]

BATCH = 500
MIDDLE = 0.5  # of a warp's draws: nothing moves
REACH = 4  # standard deviations, after which a blur's kernel ends


class Corruption(NamedTuple):
    """One way to change images: by which amounts, and which of them changes nothing."""

    unit: str
    amounts: tuple[float, ...]
    nothing: float
    apply: Callable[[Tensor, Tensor, float], Tensor]  # images uint8 (B, 28, 28), indices int64 (B,), amount → images


@torch.inference_mode()
def measure_robustness(network: TutorialCNN, images: Tensor, labels: Tensor, count: int) -> dict[str, Any]:
    """Of each change at each amount, how many of `count` test images are read right, as plain numbers.

    The images, uint8 (N, 28, 28), are chosen by their places alone, so every run is measured on the same.
    """
    chosen = permutation(0, 0, len(images), stream=CORRUPTION)[:count].sort().values.to(images.device)
    images, labels = images[chosen], labels[chosen]
    clean = _right(network, images, labels)
    changes = {}
    for name, change in CORRUPTIONS.items():
        points = []
        for amount in change.amounts:
            same = amount == change.nothing
            right = clean if same else _right(network, change.apply(images, chosen, amount), labels)
            points.append({"amount": amount, **accuracy_share(right, len(images))})
        changes[name] = {"unit": change.unit, "points": points}
    return {**accuracy_share(clean, len(images)), "changes": changes}


def _right(network: TutorialCNN, images: Tensor, labels: Tensor) -> int:
    pairs = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
    return int(sum((network(standardize(part)).argmax(dim=1) == wanted).sum() for part, wanted in pairs))


def _draws(images: Tensor) -> Tensor:
    return torch.full((len(images), DRAWS), MIDDLE, device=images.device)


def _rotate(images: Tensor, indices: Tensor, degrees: float) -> Tensor:
    """Clockwise, by the warp's own rotation at its limit."""
    draws = _draws(images)
    draws[:, 0] = float(degrees > 0)
    return RandomAffine(degrees=abs(degrees))(images, draws)


def _scale(images: Tensor, indices: Tensor, factor: float) -> Tensor:
    """About the middle."""
    draws = _draws(images)
    draws[:, 1] = float(factor > 1)
    return RandomAffine(scale=abs(factor - 1))(images, draws)


def _shift(images: Tensor, indices: Tensor, pixels: float) -> Tensor:
    """Left, right, up or down, a quarter of the images each."""
    draws = _draws(images)
    way = (uniform(0, 0, indices, 1, stream=CORRUPTION)[:, 0] * 4).long()  # (B,)
    draws[torch.arange(len(images), device=images.device), 3 + way // 2] = (way % 2).float()
    return RandomAffine(translate=pixels)(images, draws)


def _noise(images: Tensor, indices: Tensor, deviation: float) -> Tensor:
    """Normal noise of each pixel for itself, by Box and Muller 1958; deviation: a share of full ink."""
    draws = uniform(0, 1, indices, 2 * images[0].numel(), stream=CORRUPTION)
    first, second = draws.view(len(images), 2, *images.shape[1:]).unbind(dim=1)  # (B, 28, 28) each
    radius = torch.sqrt(-2 * torch.log(1 - first))
    return _bytes(images + 255 * deviation * radius * torch.cos(2 * math.pi * second))


def _blur(images: Tensor, indices: Tensor, deviation: float) -> Tensor:
    """By a Gaussian, along rows and then columns; paper outside."""
    reach = int(REACH * deviation + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / deviation) ** 2)
    kernel = kernel / kernel.sum()
    across = F.conv2d(images[:, None].float(), kernel[None, None, None, :], padding=(0, reach))
    return _bytes(F.conv2d(across, kernel[None, None, :, None], padding=(reach, 0))[:, 0])


def _fade(images: Tensor, indices: Tensor, factor: float) -> Tensor:
    """Paler ink on the same paper."""
    return _bytes(images * factor)


def _bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS = {
    "rotation": Corruption("degrees, clockwise", (-60, -45, -30, -15, 0, 15, 30, 45, 60), 0, _rotate),
    "shift": Corruption("pixels", (0, 1, 2, 3, 4, 5, 6), 0, _shift),
    "scale": Corruption("times the size", (0.5, 0.6, 0.75, 0.9, 1, 1.1, 1.25, 1.4, 1.5), 1, _scale),
    "noise": Corruption("standard deviation, of full ink", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, _noise),
    "blur": Corruption("standard deviation in pixels", (0, 0.5, 1, 1.5, 2, 2.5), 0, _blur),
    "contrast": Corruption("of the ink's strength", (1, 0.8, 0.6, 0.4, 0.2, 0.1), 1, _fade),
}
