"""The training step as one CUDA graph: another way to run what `MNISTModule` and `optim` describe.

A step of this network is some three hundred short kernels, and launching them from Python takes several times as long
as running them. A CUDA graph records the launches of one step and replays them with a single call (Ng et al. 2021,
"Accelerating PyTorch with CUDA Graphs", pytorch.org). A replay runs the same kernels on the same memory, so whatever
differs from step to step is a tensor that is filled before: the images' positions, the epoch, from which random draws
and the strength of the warp follow, the learning rates, and the weight of the newest weights in their average. The
images are gathered and warped inside the graph, so the loader hands out positions only, see `DeferredBatch`.

Tests compare it bit by bit with the textbook step on a CPU, where the same code runs without a graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import BaseFinetuning, ModelPruning
from torch import Tensor

from mnist_lit import optim
from mnist_lit.data.loaders import Batch, DeferredBatch, TrainLoader
from mnist_lit.own_network import is_tutorial

WARM_UP = 3  # steps before the capture, in which libraries choose their kernels and the optimizer makes its state
STEP_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")


def reason_against(trainer: Any, module: Any, plain: type) -> str:
    """Why a fit's steps cannot be captured; empty if they can. plain: the class whose step is captured."""
    loader, callbacks = trainer.train_dataloader, trainer.callbacks
    hooked = [type(c).__name__ for c in callbacks if isinstance(c, BaseFinetuning | ModelPruning) or _has_step_hooks(c)]
    reasons = {
        "the network is not the tutorial's": not is_tutorial(module.network),
        f"{type(module).__name__} may train in another way": type(module) is not plain,
        "another optimizer or schedule was configured": module.lr_schedulers() is not module.schedule,
        "the network is compiled": module.hparams["compile"],
        "the batches come from another loader": not isinstance(loader, TrainLoader),
        "data.continental selects images by their labels": getattr(trainer.datamodule, "continental", 0),
        "trainer.accumulate_grad_batches is above 1": trainer.accumulate_grad_batches != 1,
        "trainer.gradient_clip_val is set": trainer.gradient_clip_val,
        f"trainer.precision is {trainer.precision}": trainer.precision not in ("32-true", "bf16-mixed"),
        "several processes train": trainer.world_size > 1,
        f"{', '.join(hooked)} may change the model within a step": hooked,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _has_step_hooks(callback: Callback) -> bool:
    own = {hook: getattr(getattr(callback, hook), "__func__", None) for hook in STEP_HOOKS}
    return any(function is not getattr(Callback, hook) for hook, function in own.items())


class CapturingModule(LightningModule):
    """A LightningModule whose steps can be replayed. A captured step needs no gradients from Lightning."""

    replays = False  # whether this batch's step is replayed
    _captured: "CapturedStep | None" = None

    def capture_steps(self, plain: type) -> None:
        """Replay steps from now on, or say once why not. plain: the class whose step is captured."""
        trainer = self.trainer
        if reason := reason_against(trainer, self, plain):
            self._captured = None
            say_eager(reason)
        else:
            self._captured = CapturedStep(self, trainer.optimizers[0], trainer.train_dataloader)  # type: ignore[arg-type]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Decide how this step runs."""
        self.replays = self._captured is not None and self._captured.takes(batch)

    def replayed(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The mean loss and the log-probabilities of a step that is replayed here and now, or None."""
        return self._captured(batch, self.trainer.global_step) if self._captured and self.replays else None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, unless a captured step has."""
        if loss.requires_grad:
            super().backward(loss, *args, **kwargs)


class CapturedStep:
    """A whole training step: gather, warp, forward, backward, optimizer, moving average.

    The first few steps run as they are, on the stream that captures, and count like any other.
    """

    def __init__(self, module: Any, optimizer: torch.optim.Optimizer, loader: TrainLoader) -> None:
        device = module.device
        self._module, self._optimizer, self._loader = module, optimizer, loader
        self._on_gpu = device.type == "cuda"
        number = {"dtype": torch.float32 if self._on_gpu else torch.float64, "device": device}  # what optimizers take
        self._indices = torch.zeros(loader.batch_size, dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._rates = [torch.zeros((), **number) for _ in optimizer.param_groups]
        self._ema_weight = torch.zeros((), device=device)
        for state in optimizer.state.values():
            if "step" in state:  # a resumed run's
                state["step"] = state["step"].to(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: Any = torch.cuda.Stream() if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._steps = 0
        self._addresses = self._weight_addresses()
        loader.deferred = True

    def takes(self, batch: Any) -> bool:
        """Whether a batch is a full one of ours, while the weights are still those that were captured."""
        if isinstance(batch, DeferredBatch) and self._addresses != self._weight_addresses():
            self.give_up("the weights were replaced or frozen")
        return self._loader.deferred and isinstance(batch, DeferredBatch)

    def give_up(self, reason: str) -> None:
        """Train eagerly from here on."""
        self._loader.deferred, self._graph = False, None
        say_eager(reason)

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Take a step, counted from 0: the mean loss and log-probabilities (B, C), valid until the next call."""
        self._indices.copy_(batch.indices)
        assert batch.epoch is not None
        self._epoch.fill_(batch.epoch)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._ema_weight.fill_(optim.ema_weight(self._module.hparams["ema_decay"], step))
        if self._graph is None:
            self._outputs = self._step() if self._stream is None else self._warm_up_or_capture()
            self._steps += 1
        if self._graph is not None:
            self._graph.replay()
        return self._outputs

    def _warm_up_or_capture(self) -> tuple[Tensor, Tensor]:
        if self._steps == WARM_UP:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                return self._step()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _step(self) -> tuple[Tensor, Tensor]:
        """The step itself, on the tensors that `__call__` has filled."""
        module, h, kind = self._module, self._module.hparams, self._indices.device.type
        # Lightning calls this inside autocast, which is for the forward pass alone.
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        passes: list[tuple[Tensor, Tensor]] = []  # SAM makes two

        def closure() -> Any:
            with torch.autocast(kind, dtype, enabled=enabled, cache_enabled=False):
                loss, log_probs = module.loss(batch, batch_idx=0)  # which matters to other networks only
            passes.append((loss.detach(), log_probs.detach()))
            self._optimizer.zero_grad()
            loss.backward()
            return loss

        with torch.autocast(kind, enabled=False), self._rates_as_tensors():
            batch = self._loader.batch(self._indices, len(self._indices), self._epoch)
            self._optimizer.step(optim.sam_closure(closure, module.network, h["sam_rho"]) if h["sam_rho"] else closure)
            if module.ema is not None:
                optim.update_ema(module.ema, module.network, self._ema_weight)
        return passes[-1][0], passes[0][1]  # as Lightning's closure returns the last loss

    @contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        """Inside, the optimizer reads its rates from the device; outside, they are numbers, for schedules and files."""
        groups = self._optimizer.param_groups
        before = [dict(group) for group in groups]
        on_gpu = {"fused" if isinstance(self._optimizer, torch.optim.SGD) else "capturable": True}
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, **(on_gpu if self._on_gpu else {}))
        try:
            yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.clear()
                group.update(old)

    def _weight_addresses(self) -> list[tuple[int, bool]]:
        return [(weights.data_ptr(), weights.requires_grad) for weights in self._module.parameters()]


def say_eager(reason: str) -> None:
    """Say once why the steps of a fit are not captured."""
    print(f"fit: training step by step, without a CUDA graph: {reason}", flush=True)
