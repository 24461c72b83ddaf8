"""What EMA, SAM and Muon do to the tutorial's network on MNIST: the data of three figures in docs/tutorial.md.

    python benchmarks/optimizers.py --data_dir data --output benchmarks/results/optimizers.json

Three runs of 300 steps with seed 0: AdamW at a constant rate with an average of the weights, Muon, and Muon with
SAM. Scores are those of 1,000 validation images; no test image is read.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measurement import benchmark_parser, save_results
from mnist_lit import MNISTDataModule, MNISTModule, optim
from mnist_lit.model import standardize
from mnist_lit.system.malloc import keep_freed_memory

BATCH, DECAY, RHO, VAL = 64, 0.98, 0.2, 1000  # RHO is that of configs/best.yaml
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 0.002, "schedule": "constant"}
MUON: dict[str, Any] = {"optimizer": "muon", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "schedule": "linear"}
DISTANCES = [0.2 * n for n in range(11)]


def train(data: MNISTDataModule, steps: int, rho: float = 0.0, after: Any = None, **settings: Any) -> nn.Module:
    """Train the tutorial's network; `after(step, network, optimizer)` is called after each step, counted from 1."""
    module = MNISTModule(init="he", seed=0, **settings)
    network, h = module.network, module.hparams
    optimizer = optim.build_optimizer(network, h)
    base = [group["lr"] for group in optimizer.param_groups]
    for step, (x, y) in enumerate(data.train_dataloader()):
        if step == steps:
            break
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * optim.lr_factor(h, step, steps, steps)
        closure = gradients(network, x, y)
        optimizer.step(optim.sam_closure(closure, network, rho) if rho else closure)
        if after:
            after(step + 1, network, optimizer)
    return network


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Any]:
    """A closure that computes the gradients of the loss and returns it."""

    def closure() -> Tensor:
        network.zero_grad()
        loss = F.nll_loss(network(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def averaging(data: MNISTDataModule, steps: int, x: Tensor, y: Tensor) -> dict[str, Any]:
    """The validation error in % of the weights and of their average, every 15 steps."""
    curve: dict[str, Any] = {"step": [], "weights": [], "average": []}
    averages: list[nn.Module] = []

    def after(step: int, network: nn.Module, _: Any) -> None:
        averages[:] = averages or [optim.ema_copy(network)]
        optim.update_ema(averages[0], network, optim.ema_weight(DECAY, step - 1))
        if step % 15 == 0:
            curve["step"].append(step)
            for name, scored in (("weights", network), ("average", averages[0])):
                with torch.no_grad():
                    wrong = (scored(x).argmax(dim=1) != y).float().mean()
                curve[name].append(round(100 * float(wrong), 2))

    train(data, steps, after=after, **ADAMW)
    return {**curve, "decay": DECAY}


def orthogonalized(steps: int) -> tuple[dict[str, list[float]], Callable[..., None]]:
    """A place for the singular values of one update of conv3, and the hook that fills it halfway."""
    values: dict[str, list[float]] = {}

    def after(step: int, network: Any, optimizer: Any) -> None:
        if step == steps // 2:
            momentum = optimizer.state[network.conv3.weight]["momentum_buffer"].flatten(1)  # (128, 576)
            for name, matrix in (("momentum", momentum), ("update", optim.orthogonalize(momentum))):
                values[name] = [float(f"{value:.4g}") for value in torch.linalg.svdvals(matrix)]

    return values, after


def sharpness(network: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """The loss where all weights together are moved each of DISTANCES along the gradient of that loss."""
    gradients(network, x, y)()
    losses = []
    for distance in DISTANCES:
        with optim.perturbed_weights(network, distance), torch.no_grad():
            losses.append(round(float(F.nll_loss(network(x), y)), 5))
    return losses


def main() -> None:
    """Train, measure and print."""
    parser = benchmark_parser(__doc__, data_dir="data", steps=300)
    options = parser.parse_args()
    keep_freed_memory()
    data = MNISTDataModule(options.data_dir, batch_size=BATCH, degrees=10, scale=0.1, shear=10, translate=1.5)
    data.prepare_data()
    data.setup()
    held_out = data.val_indices[:VAL]
    x, y = standardize(data.in_memory.train_images[held_out]), data.in_memory.train_labels[held_out]
    curve = averaging(data, options.steps, x, y)
    singular_values, hook = orthogonalized(options.steps)
    plain = sharpness(train(data, options.steps, after=hook, **MUON), x, y)
    flat = sharpness(train(data, options.steps, RHO, **MUON), x, y)
    print("| step | error of the weights | of their average |\n|---|---|---|")
    for row in zip(curve["step"], curve["weights"], curve["average"], strict=True):
        print(f"| {row[0]} | {row[1]:.2f} % | {row[2]:.2f} % |")
    print("\n| distance | loss without SAM | with SAM |\n|---|---|---|")
    for distance, *losses in zip(DISTANCES, plain, flat, strict=True):
        print(f"| {distance:.1f} | {losses[0]:.4f} | {losses[1]:.4f} |")
    print("\n| conv3 | largest | median | smallest singular value |\n|---|---|---|---|")
    for name, values in singular_values.items():
        print(f"| {name} | {values[0]:.4g} | {values[len(values) // 2]:.4g} | {values[-1]:.4g} |")
    results = {"averaging": curve, "singular_values": singular_values}
    results["sharpness"] = {"rho": RHO, "distance": DISTANCES, "without": plain, "with": flat}
    save_results(options.output, "EMA, Muon and SAM", {"steps": options.steps, "batch_size": BATCH, **results})


if __name__ == "__main__":
    main()
