"""A network's layers: their outputs, parameters, multiply-adds and receptive fields. torch only."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from mnist_lit.model import MaskedDropout


class LayerRow(NamedTuple):
    """One layer, for one image."""

    name: str
    shape: tuple[int, ...]  # of the output, without the batch dimension
    parameters: int
    multiply_adds: int
    receptive_field: int  # side in input pixels; 0 if the layer sees the complete image


def layer_rows(network: nn.Module) -> list[LayerRow]:
    """Run a blank (1, 1, 28, 28) image through the network and measure each layer in the order of execution. Our own,
    since Lightning's ModelSummary and torchinfo have no receptive field. That grows as in Dumoulin and Visin 2016, "A
    guide to convolution arithmetic for deep learning": a kernel of side k widens it by (k - 1) × jump, where jump,
    the distance between neighboring outputs in input pixels, is the product of all strides so far."""
    rows: list[LayerRow] = []
    field, jump = 1, 1
    names = {layer: name for name, layer in network.named_children() if not isinstance(layer, MaskedDropout)}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal field, jump
        if layer not in names:
            return
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride = (v if isinstance(v, int) else v[0] for v in (layer.kernel_size, layer.stride))
            field, jump = field + (kernel - 1) * jump, jump * stride
        else:
            field = 0
        parameters = sum(p.numel() for p in layer.parameters())
        weights = sum(p.numel() for p in layer.parameters() if p.ndim > 1)
        positions = output[0, 0].numel()  # H × W; 1 for a fully connected layer
        rows.append(LayerRow(names[layer], tuple(output.shape[1:]), parameters, weights * positions, field))

    with torch.no_grad(), register_module_forward_hook(measure):
        network(torch.zeros(1, 1, 28, 28))
    return rows
