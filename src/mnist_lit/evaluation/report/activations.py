"""What the convolutions look for, and how they respond to one image. torch and NumPy; draws no page."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from mnist_lit.evaluation.figures import strongest_maps
from mnist_lit.model import standardize

COLD, WARM = (39, 71, 217), (180, 64, 15)  # colors of negative and positive weights, as in page.css


class LayerActivations(NamedTuple):
    """A convolution's response to an image, after its ReLU: the channels with the highest responses, highest first."""

    name: str
    total: int  # channels of the layer
    channels: list[int]
    maps: NDArray[np.uint8]  # (STRONGEST, H, W), 255 at the layer's highest response


def first_filters(network: nn.Module) -> NDArray[np.uint8]:
    """The first convolution's weights as colors, uint8 (32, 3, 3, 3): white at zero, warm above, cold below.

    A network without convolutions has none: (0, 3, 3, 3).
    """
    convolution = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if convolution is None:
        return np.zeros((0, 3, 3, 3), np.uint8)
    weights = convolution.weight.detach()[:, 0].cpu().numpy()  # (32, 3, 3)
    depth = (weights / max(float(np.abs(weights).max()), 1e-12))[..., None]
    ends = np.where(depth > 0, np.array(WARM), np.array(COLD))
    return np.asarray((255 + (ends - 255) * np.abs(depth)).round(), np.uint8)


@torch.inference_mode()
def layer_activations(network: nn.Module, image: Tensor) -> list[LayerActivations]:
    """Every convolution's response to an image, uint8 (28, 28)."""
    outputs = dict[nn.Module, Tensor]()
    with register_module_forward_hook(lambda layer, _inputs, output: outputs.update({layer: output})):
        network(standardize(image[None]))
    found = []
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer not in outputs:
            continue
        responses = outputs[layer][0].relu().cpu().numpy()  # (C, H, W)
        found.append(LayerActivations(name, len(responses), *strongest_maps(responses)))
    return found
