"""Everything that updates the weights: optimizers by name, learning-rate schedules, Muon, SAM and EMA. torch only.

Sources: for Muon, Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; for SAM, Foret
et al. 2021, "Sharpness-aware minimization for efficiently improving generalization", section 2.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.adamw import adamw
from torch.optim.lr_scheduler import LambdaLR

from mnist_lit.errors import MAX_CLASSES, InputError, require, require_choice

OptimizerName = Literal["sgd", "adamw", "muon"]
ScheduleName = Literal["constant", "step", "cosine", "linear"]


def check_hyperparameters(h: Mapping[str, Any]) -> None:
    """Raise InputError if a hyperparameter of `MNISTModule` is outside its range."""
    require_choice("model.optimizer", h["optimizer"], get_args(OptimizerName))
    require_choice("model.schedule", h["schedule"], get_args(ScheduleName))
    for name in ("lr", "aux_lr"):
        require(f"model.{name}", h[name], "above 0 and at most 1e30", 0 < h[name] <= 1e30)  # torch needs a float32
    for name in ("momentum", "ema_decay", "dropout", "label_smoothing"):
        require(f"model.{name}", h[name], "in [0, 1)", 0 <= h[name] < 1)
    require("model.momentum", h["momentum"], "above 0 with nesterov", h["momentum"] > 0 or not h["nesterov"])
    require("model.weight_decay", h["weight_decay"], "0 or more and at most 1e30", 0 <= h["weight_decay"] <= 1e30)
    require("model.warmup", h["warmup"], "in [0, 1]", 0 <= h["warmup"] <= 1)
    require("model.step_size", h["step_size"], "1 or more", h["step_size"] >= 1)
    require("model.gamma", h["gamma"], "above 0 and at most 10", 0 < h["gamma"] <= 10)
    require("model.sam_rho", h["sam_rho"], "0 or more and finite", 0 <= h["sam_rho"] < math.inf)
    own = bool(h.get("network"))
    require(
        "model.dropout", h["dropout"], "0 for a network of your own; give it dropout layers", not (own and h["dropout"])
    )
    require("model.num_classes", h["num_classes"], f"2 … {MAX_CLASSES:,}", 2 <= h["num_classes"] <= MAX_CLASSES)


def check_accumulation(h: Mapping[str, Any], accumulated: int) -> None:
    """Raise InputError if SAM, which needs the gradient of a whole step, is combined with accumulated batches."""
    if h["sam_rho"] and accumulated != 1:
        raise InputError("model.sam_rho: expected 0 where trainer.accumulate_grad_batches is above 1")


def unoptimized(module: nn.Module, optimizers: Iterable[Optimizer]) -> list[str]:
    """The names of a module's trainable parameters that none of the optimizers has."""
    optimized = {p for one in optimizers for group in one.param_groups for p in group["params"]}
    return [name for name, p in module.named_parameters() if p.requires_grad and p not in optimized]


def build_optimizer(network: nn.Module, h: Mapping[str, Any]) -> Optimizer:
    """The optimizer that `MNISTModule`'s hyperparameters describe, for all trainable parameters. Raises InputError if
    there are none, none that Muon is for, or if AdamW cannot train them."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    require("model.network", "none", "trainable parameters", bool(parameters))
    if h["optimizer"] == "sgd":
        options = {name: h[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
        return SGD(parameters, **options)
    is_float16 = any(p.dtype == torch.float16 for p in parameters)  # where AdamW's eps is 0, and 0 / 0 follows
    expected = "sgd with weights in float16, or trainer.precision 16-mixed or bf16-true"
    require("model.optimizer", h["optimizer"], expected, not is_float16)
    if h["optimizer"] == "adamw":
        return AdamW(parameters, lr=h["lr"], weight_decay=h["weight_decay"])
    matrices = [p for p in parameters if p.ndim >= 2]
    outputs = [p for p in matrices if len(p) == h.get("num_classes")]
    last = (outputs or matrices)[-1:]  # the output layer's weight is not a hidden matrix
    hidden = [p for p in matrices if p is not last[0]]
    require("model.optimizer", "muon", "sgd or adamw for a network without hidden matrices", bool(hidden))
    rest = [p for p in parameters if p.ndim < 2 or p is last[0]]
    options = {name: h[name] for name in ("lr", "momentum", "weight_decay", "aux_lr")}
    return Muon(hidden, rest, **options)


class Schedule(LambdaLR):
    """A `LambdaLR` that learns the length of the run when training starts, and whose options override a checkpoint's.

    `lr_factor` is a pure function of the step, so the step is the only state.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer, _unchanged)

    def start(
        self,
        step: int,
        options: Sequence[Mapping[str, Any]],
        h: Mapping[str, Any],
        total_steps: float,
        steps_per_epoch: float,
    ) -> None:
        """Begin at a step. options: those of each parameter group, which replace the options of a resumed state."""
        factor = partial(lr_factor, h, total_steps=total_steps, steps_per_epoch=steps_per_epoch)  # can be pickled
        self.lr_lambdas = [factor] * len(options)
        for group, own in zip(self.optimizer.param_groups, options, strict=False):  # a callback may have added some
            group |= {name: value for name, value in own.items() if name != "params"}
            group["initial_lr"] = own["lr"]
            group["lr"] = own["lr"] * factor(step)
        self.base_lrs = [own["lr"] for own in options]
        self.last_epoch = step
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_lr(self) -> list[Any]:
        """Each group's rate; a group that a callback such as BackboneFinetuning has added keeps its own."""
        rates = super().get_lr()
        return [*rates, *(group["lr"] for group in self.optimizer.param_groups[len(rates) :])]


def _unchanged(step: int) -> float:
    return 1.0


def planned_steps(trainer: Any) -> tuple[float, float]:
    """The steps of a run and of an epoch; infinite if the trainer has no limit, or the loader no length."""
    total = trainer.estimated_stepping_batches
    per_epoch = steps_per_epoch(trainer.num_training_batches, trainer.accumulate_grad_batches)
    return (total if total >= 0 else math.inf), per_epoch  # Lightning says -1 for such a loader


def steps_per_epoch(batches: float, accumulated: int, limit: float | None = None) -> float:
    """The optimizer steps of an epoch of that many batches, which may be infinite. accumulated: batches per step.
    limit: Lightning's limit on the batches, a number or a fraction.

    >>> steps_per_epoch(9, 2), steps_per_epoch(9, 2, 3), steps_per_epoch(9, 2, 0.5)
    (5, 2, 2)
    """
    if isinstance(limit, int):
        batches = min(batches, limit)
    elif limit is not None and math.isfinite(batches):
        batches = int(batches * limit)
    return math.ceil(batches / accumulated) if math.isfinite(batches) else math.inf


def lr_factor(h: Mapping[str, Any], step: int, total_steps: float, steps_per_epoch: float) -> float:
    """The factor on the peak learning rate at a step, counted from 0. A pure function: no scheduler state.

    `warmup` is the fraction of all steps over which the rate first rises linearly. Then `constant` keeps it, `step`
    multiplies it by `gamma` every `step_size` epochs, and `cosine` and `linear` decay it to 0 at the end.

    >>> [lr_factor({"schedule": "linear", "warmup": 0.5}, step, 6, 3) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    name = h["schedule"]
    ends = "trainer.max_epochs or trainer.max_steps" if math.isfinite(steps_per_epoch) else "trainer.max_steps"
    if not math.isfinite(total_steps) and name in ("cosine", "linear"):
        raise InputError(f"model.schedule: {name} needs an end; set {ends}")
    if not math.isfinite(total_steps) and h["warmup"]:
        raise InputError(f"model.warmup: needs an end; set {ends}")
    if not math.isfinite(steps_per_epoch) and name == "step":
        raise InputError("model.schedule: step needs epochs of a known length; set trainer.limit_train_batches")
    rising = h["warmup"] * total_steps if h["warmup"] else 0.0
    if step < rising:
        return float((step + 1) / (math.floor(rising) + 1))
    if name == "constant":
        return 1.0
    if name == "step":
        return float(h["gamma"] ** (step // steps_per_epoch // h["step_size"]))
    if step >= total_steps:  # the scheduler asks once more after the last step
        return 0.0
    done = (step - rising) / (total_steps - rising)
    return float(1 - done if name == "linear" else (1 + math.cos(math.pi * done)) / 2)


def ema_copy(network: nn.Module) -> nn.Module:
    """A copy of a network that holds the exponential moving average of its weights; it needs no gradients."""
    return copy.deepcopy(network).requires_grad_(False)


def ema_weight(decay: float, step: int) -> float:
    """The fraction of the newest weights in the moving average after a step, counted from 0.

    The decay is at most (step + 1) / (step + 10), so early averages forget faster and the initial weights leave no
    trace.
    """
    return 1 - min(decay, (step + 1) / (step + 10))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, weight: float | Tensor) -> None:
    """Move the average toward the weights by `weight`, a number or a scalar tensor of the weights' type.

    Our own, because Lightning's EMA callback evaluates unaveraged weights until its first update (issue 21724).
    """
    averages: list[Tensor] = [*average.parameters()]
    weights: list[Tensor] = [*network.parameters()]
    if isinstance(weight, Tensor):
        torch._foreach_lerp_(averages, weights, [weight] * len(weights))
    else:
        torch._foreach_lerp_(averages, weights, weight=weight)
    for mine, newest in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(newest)  # batch normalization's statistics are averages already


@contextmanager
def perturbed_weights(network: nn.Module, rho: float) -> Iterator[None]:
    """Move the weights by `rho` along their gradient inside the block, and restore them bit for bit afterwards.

    Buffers are restored, too: batch normalization's running statistics describe the unmoved weights.

    Sharpness-aware minimization looks for flat minima: it minimizes the loss at the worst weights within distance rho,
    which to first order are the current ones plus rho · g / |g|. The gradient computed inside this block, applied to
    the weights outside it, is SAM's. That costs a second forward and backward pass per step.
    """
    gradients = {p.detach(): p.grad for p in network.parameters() if p.grad is not None}  # keys share memory with p
    weights, before = [*gradients], [weight.clone() for weight in gradients]
    parts = [(module, *item) for module in network.modules() for item in module.named_buffers(recurse=False)]
    buffers = [(module, name, buffer, buffer.clone()) for module, name, buffer in parts]
    norm = nn.utils.get_total_norm(gradients.values())
    torch._foreach_add_(weights, torch._foreach_mul([*gradients.values()], rho / (norm + 1e-12)))
    try:
        yield
    finally:
        torch._foreach_copy_(weights, before)
        for module, name, buffer, value in buffers:
            if 0 not in buffer.stride():  # an expanded one cannot be written to
                buffer.copy_(value)
            setattr(module, name, buffer)


def sam_closure(closure: Callable[[], Any], network: nn.Module, rho: float) -> Callable[[], Any]:
    """A closure that runs `closure` twice: it leaves SAM's gradients, and returns the loss at the unmoved weights."""

    def both_gradients() -> Any:
        loss = closure()
        with perturbed_weights(network, rho):
            closure()
        return loss

    return both_gradients


# Muon takes the momentum of a weight matrix, U S Vᵀ, and steps along U Vᵀ instead: every direction of the update gets
# the same length, so rare directions are learned as fast as dominant ones. An SVD would be slow, so a fixed number of
# Newton–Schulz iterations pushes all singular values toward 1: x ← (a + b·g + c·g²) x with g = x xᵀ, whose quintic
# coefficients (Jordan) trade exactness for speed. Each step multiplies x by a polynomial of the initial g, so the five
# polynomials, small square matrices, are multiplied together and applied to the wide matrix once: half the time, the
# same result up to rounding. torch.optim.Muon takes only 2-D parameters, and most weights here are convolutions.
def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximately the nearest orthogonal matrix, singular values between about 0.7 and 1.2: (m, n) → (m, n)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    # In 16 bits, the product of the polynomials would explode.
    x: Tensor = matrix.float() if matrix.dtype.itemsize < 4 else matrix
    x = x / (x.norm() + 1e-7)
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
    x = (product @ x).to(matrix.dtype)
    return x.t() if tall else x


class Muon(Optimizer):
    """Momentum with orthogonalized updates for hidden weights, AdamW for biases and the output layer.

    hidden: parameters of two or more dimensions; a convolution's (out, in, 3, 3) is treated as (out, in · 9).
    Groups that are added later are trained with AdamW.
    """

    def __init__(
        self,
        hidden: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        aux_lr: float = 0.002,
    ) -> None:
        matrices: dict[str, Any] = {"params": list(hidden), "lr": lr, "orthogonal": True}
        others: dict[str, Any] = {"params": list(rest)}
        defaults = {
            "lr": aux_lr,
            "orthogonal": False,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "betas": (0.9, 0.999),
        }
        super().__init__([matrices, others], defaults)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; a closure, if given, computes the gradients and returns the loss."""
        loss = closure() if closure else None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["orthogonal"] else self._adamw)(params, group)
        return loss

    @torch.no_grad()
    def _muon(self, params: list[Any], group: dict[str, Any]) -> None:
        for p in params:
            if p not in self.state:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffer = self.state[p]["momentum_buffer"].mul_(group["momentum"]).add_(p.grad)
            update = p.grad + group["momentum"] * buffer  # Nesterov momentum
            update = orthogonalize(update.flatten(1)).view_as(p)
            rate = group["lr"] * max(1.0, p.shape[0] / p[0].numel()) ** 0.5
            p.mul_(1 - group["lr"] * group["weight_decay"])
            if group.get("capturable"):  # the rate is on the GPU, and `alpha` would be read on the host
                p.sub_(update * rate)
            else:
                p.add_(update, alpha=-rate)

    @torch.no_grad()
    def _adamw(self, params: list[Any], group: dict[str, Any]) -> None:
        capturable = group.get("capturable", False)  # as in torch.optim: the state's steps and rates are on the GPU
        for p in params:
            if p not in self.state:
                zeros = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.state[p].update(zeros, step=torch.zeros((), device=p.device if capturable else "cpu"))
        names, (beta1, beta2) = ("exp_avg", "exp_avg_sq", "step"), group["betas"]
        averages, squares, steps = ([self.state[p][name] for p in params] for name in names)
        options = {"lr": group["lr"], "weight_decay": group["weight_decay"], "beta1": beta1, "beta2": beta2}
        gradients = [p.grad for p in params]
        options |= {"eps": 1e-8, "amsgrad": False, "maximize": False, "capturable": capturable}
        adamw(params, gradients, averages, squares, [], steps, **options)
