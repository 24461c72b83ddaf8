"""What the convolutions look for, and what they see in one image. torch and NumPy; draws no page."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnist_lit.model import TutorialCNN, standardize

__all__ = ["CHANNELS", "LayerActivations", "first_filters", "layer_activations"]

CHANNELS = 8  # of each layer that are shown
COLD, WARM = (39, 71, 217), (180, 64, 15)  # below and above zero: the page's two colours


class LayerActivations(NamedTuple):
    """What a convolution sees in an image, after its ReLU: the channels that respond most, the strongest first."""

    name: str
    total: int  # channels that it has
    channels: list[int]
    maps: NDArray[np.uint8]  # (CHANNELS, H, W), 255 at the layer's highest response


def first_filters(network: TutorialCNN) -> NDArray[np.uint8]:
    """The first layer's weights as colours, uint8 (32, 3, 3, 3): white at zero, warm above, cold below it."""
    weights = network.conv1.weight.detach()[:, 0].cpu().numpy()  # (32, 3, 3)
    depth = weights / max(float(np.abs(weights).max()), 1e-12)
    ends = np.where(depth[..., None] > 0, np.array(WARM), np.array(COLD))
    return np.asarray((255 + (ends - 255) * np.abs(depth)[..., None]).round(), np.uint8)


@torch.inference_mode()
def layer_activations(network: TutorialCNN, image: Tensor) -> list[LayerActivations]:
    """What each convolution sees in an image, uint8 (28, 28)."""
    found: list[LayerActivations] = []

    def keep(name: str, convolution: nn.Conv2d, output: Tensor) -> None:
        responses = output[0].relu().cpu()  # (C, H, W)
        channels = responses.amax(dim=(1, 2)).argsort(descending=True, stable=True)[:CHANNELS]
        maps = responses[channels] * (255 / responses.max().clamp(min=1e-12))
        found.append(LayerActivations(name, len(responses), channels.tolist(), maps.round().to(torch.uint8).numpy()))

    hooks = [
        part.register_forward_hook(lambda part, inputs, output, name=name: keep(name, part, output))
        for name, part in network.named_children()
        if isinstance(part, nn.Conv2d)
    ]
    network(standardize(image[None]))
    for hook in hooks:
        hook.remove()
    return found
