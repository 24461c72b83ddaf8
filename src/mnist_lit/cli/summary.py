"""`mnist-lit summary`: the network, layer by layer, measured on the real thing."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN

__all__ = ["LayerRow", "layer_rows", "main"]


class LayerRow(NamedTuple):
    """One layer as it ran on one image."""

    name: str
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int
    multiply_adds: int
    receptive_field: int  # side, in pixels of the input; 0 where the whole image is seen


def layer_rows(network: nn.Module) -> list[LayerRow]:
    """Run one blank image through the network and note each layer: output shape, parameters, multiply-adds.

    Receptive fields after Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning".
    """
    rows: list[LayerRow] = []
    field, jump = 1, 1

    def note(name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal field, jump
            parameters = sum(p.numel() for p in module.parameters())
            weights = sum(p.numel() for p in module.parameters() if p.ndim > 1)
            if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                kernel, stride = (v if isinstance(v, int) else v[0] for v in (module.kernel_size, module.stride))
                field, jump = field + (kernel - 1) * jump, jump * stride
                places = output[0, 0].numel()
            else:
                field, places = 0, 1
            rows.append(LayerRow(name, tuple(output.shape[1:]), parameters, weights * places, field))

        return module.register_forward_hook(hook)

    hooks = [note(name, module) for name, module in network.named_children()]
    with torch.no_grad():
        network(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return rows


def main(command: str, args: list[str]) -> None:
    """Print the table."""
    if args and args[0] in ("-h", "--help"):
        print("usage: mnist-lit summary\n\nThe network, layer by layer; it takes no options.")
        return
    if args:
        raise InputError(f"summary takes no options, got {' '.join(args)}")
    rows = layer_rows(TutorialCNN())
    print(f"{'layer':<8}{'output':>14}{'parameters':>12}{'multiply-adds':>15}{'receptive field':>17}")
    print(f"{'input':<8}{'1 × 28 × 28':>14}")
    for row in rows:
        field = f"{row.receptive_field} × {row.receptive_field}" if row.receptive_field else "all"
        shape = " × ".join(map(str, row.shape))
        print(f"{row.name:<8}{shape:>14}{row.parameters:>12,}{row.multiply_adds:>15,}{field:>17}")
    total = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    print(f"{'total':<8}{'':>14}{total[0]:>12,}{total[1]:>15,}")
