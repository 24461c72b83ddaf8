"""Optimizers by name and learning-rate schedules as pure functions of the step. torch only.

Muon: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
SAM: Foret et al. 2021, "Sharpness-aware minimization for efficiently improving generalization", section 2.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.adamw import adamw

__all__ = [
    "Muon",
    "OptimizerName",
    "ScheduleName",
    "build_optimizer",
    "lr_factor",
    "orthogonalize",
    "perturbed_weights",
]

OptimizerName = Literal["sgd", "adamw", "muon"]
ScheduleName = Literal["constant", "step", "cosine", "linear"]


def build_optimizer(
    name: OptimizerName,
    network: nn.Module,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    aux_lr: float,
) -> Optimizer:
    """The optimizer of a network's parameters. `aux_lr` is what Muon's AdamW uses where Muon does not apply."""
    if name == "sgd":
        return SGD(network.parameters(), lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    if name == "adamw":
        return AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    last = list(network.parameters())[-2]  # the output layer's weights are no hidden matrix
    matrices = [p for p in network.parameters() if p.ndim >= 2 and p is not last]
    rest = [p for p in network.parameters() if p.ndim < 2 or p is last]
    return Muon(matrices, rest, lr=lr, momentum=momentum, weight_decay=weight_decay, aux_lr=aux_lr)


def lr_factor(
    name: ScheduleName,
    step: int,
    *,
    total_steps: float,
    steps_per_epoch: int,
    warmup: float = 0.0,
    step_size: int = 15,
    gamma: float = 0.1,
) -> float:
    """What the learning rate is multiplied by at a step, from 0 on: nothing to save, nothing to restore.

    `warmup` is the share of all steps over which the rate first rises evenly. Then `constant` stays, `step` multiplies
    by `gamma` each `step_size` epochs, `cosine` and `linear` fall to 0 at the end.

    >>> [lr_factor("linear", step, total_steps=6, steps_per_epoch=3, warmup=0.5) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    rising = warmup * total_steps if warmup else 0.0
    if step < rising:
        return (step + 1) / (math.floor(rising) + 1)
    if name == "constant":
        return 1.0
    if name == "step":
        return float(gamma ** (step // steps_per_epoch // step_size))
    done = (step - rising) / (total_steps - rising)
    return 1 - done if name == "linear" else (1 + math.cos(math.pi * done)) / 2


@contextmanager
def perturbed_weights(network: nn.Module, rho: float) -> Iterator[None]:
    """Within the block the weights stand `rho` further along their gradient; afterwards where they stood, to the bit.

    What is computed there are SAM's gradients: of the worst weights nearby, to first order.
    """
    gradients = {p: p.grad for p in network.parameters() if p.grad is not None}
    moved, before = list[Tensor](gradients), [p.detach().clone() for p in gradients]
    norm = nn.utils.get_total_norm(gradients.values())
    with torch.no_grad():
        torch._foreach_add_(moved, torch._foreach_mul(list(gradients.values()), rho / (norm + 1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, before)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values between about 0.7 and 1.2. (m, n) → (m, n).

    A Newton–Schulz iteration with Jordan's quintic coefficients, x ← (a + b·g + c·g²) x with g = x xᵀ. All its steps
    are polynomials of the first g, so they are multiplied up in that smaller square, and x only once.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x  # (m, n), m ≤ n
    gram = x @ x.t()  # (m, m)
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial @ product
        if step < steps - 1:
            gram = polynomial @ gram @ polynomial
    x = product @ x
    return x.t() if tall else x


class Muon(Optimizer):
    """Momentum whose update of each weight is made orthogonal; AdamW for biases and the output layer.

    matrices: parameters of two or more dimensions; a convolution's (out, in, 3, 3) counts as (out, in · 9).
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        aux_lr: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        groups = [
            {"params": list(matrices), "lr": lr, "orthogonal": True},
            {"params": list(rest), "lr": aux_lr, "orthogonal": False},
        ]
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; the closure, where there is one, computes the gradients and the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["orthogonal"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(p.grad)
            update = p.grad + group["momentum"] * buffer  # Nesterov's look ahead
            update = orthogonalize(update.flatten(1)).view_as(p)
            stretch = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
            p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * stretch)

    def _adamw(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.state[p].update(zeros, step=torch.zeros(()))
        adamw(
            params,
            [p.grad for p in params],
            [self.state[p]["exp_avg"] for p in params],
            [self.state[p]["exp_avg_sq"] for p in params],
            [],
            [self.state[p]["step"] for p in params],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )
