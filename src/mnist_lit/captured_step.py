"""The training step as one CUDA graph: another way to run what `MNISTModule` and `optim` describe.

A step of this network takes about three hundred short kernels, and launching them from Python takes several times as
long as running them. A CUDA graph records the launches of one step and replays them with a single call (Ng et al. 2021,
"Accelerating PyTorch with CUDA Graphs", pytorch.org). A replay runs the same kernels on the same memory, so everything
that differs between steps is a tensor that is filled beforehand: the images' positions, the epoch (which determines the
random draws and the strength of the warp), the learning rates, and the fraction of the newest weights in their average.
The images are gathered and warped inside the graph, so the loader yields only positions, see `DeferredBatch`.

Tests compare it bit by bit with the textbook step on a CPU, where the same code runs without a graph.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BaseFinetuning, ModelPruning
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from mnist_lit import optim
from mnist_lit.data.loaders import Batch, DeferredBatch, TrainLoader
from mnist_lit.own_network import is_tutorial
from mnist_lit.step_logging import LoggingModule
from mnist_lit.system.console import say

WARM_UP = 3  # steps before the capture, while libraries choose kernels and the optimizer creates its state
VARYING = ("params", "lr", "initial_lr")  # entries of a parameter group that are not baked into the graph
STEP_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")

Step = TypeVar("Step", bound=Callable[..., Any])


def never_compiled(step: Step) -> Step:
    """Keep `torch.compile(module)` from compiling a step: `forward`, which it calls, is compiled on its own, and the
    counting around it would be compiled anew every time."""
    return torch.compiler.disable(step)  # type: ignore[no-any-return, no-untyped-call]


def why_not_captured(trainer: Any, module: Any, plain: type) -> str:
    """Why a fit's steps cannot be captured; empty if they can. plain: the class whose step is captured."""
    loader, callbacks = trainer.train_dataloader, trainer.callbacks
    ours = isinstance(loader, TrainLoader)
    hooked = [type(c).__name__ for c in callbacks if isinstance(c, BaseFinetuning | ModelPruning) or _has_step_hooks(c)]
    reasons = {
        "the network is not the tutorial's": not is_tutorial(module.network),
        f"{type(module).__name__} may train in another way": type(module) is not plain,
        "another optimizer or schedule was configured": module.lr_schedulers() is not module.schedule,
        "the network is compiled": module.hparams["compile"] or "forward" in vars(module),
        "the batches come from another loader": not ours,
        "images and weights are on different devices": ours and loader.images.device != module.device,
        "the augmentation is data.continental, data.handwriting, or one of your own": ours and not loader.capturable,
        "trainer.accumulate_grad_batches is above 1": trainer.accumulate_grad_batches != 1,
        "trainer.gradient_clip_val is set": trainer.gradient_clip_val,
        "trainer.detect_anomaly looks at every gradient": torch.is_anomaly_enabled(),
        f"trainer.precision is {trainer.precision}": trainer.precision not in ("32-true", "bf16-mixed"),
        "trainer.strategy is for several processes": not isinstance(trainer.strategy, SingleDeviceStrategy),
        f"a device of type {module.device.type} has no graphs": module.device.type not in ("cuda", "cpu"),
        f"{', '.join(hooked)} may change the model within a step": hooked,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def finds_learning_rate(trainer: Any) -> bool:
    """Whether this is the short fit of Lightning's learning-rate finder, which has a schedule of its own."""
    return any(type(one).__module__ == "lightning.pytorch.tuner.lr_finder" for one in trainer.callbacks)


def _has_step_hooks(callback: Callback) -> bool:
    return any(is_overridden(hook, callback) for hook in STEP_HOOKS)


class CapturingModule(LoggingModule):
    """A LightningModule whose steps can be replayed. A captured step needs no gradients from Lightning."""

    replays = False  # whether this batch's step is replayed
    _captured: "CapturedStep | None" = None

    def start_steps(self, plain: type, *, captured: bool) -> None:
        """Begin a run. captured: replay its steps, or print why that is impossible. plain: the class to capture."""
        trainer = self.trainer
        self._release()
        self.start_logging()
        reason = why_not_captured(trainer, self, plain) if captured else ""
        if reason and trainer.is_global_zero and not finds_learning_rate(trainer):
            report_eager_steps(reason)
        if captured and not reason:
            self._captured = CapturedStep(self, trainer.optimizers[0], trainer.train_dataloader)  # type: ignore[arg-type]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Decide how this step runs."""
        self.ensure_started()
        self.replays = self._captured is not None and self._captured.accepts(batch, self.trainer)

    def on_train_end(self) -> None:
        """Free the graph's memory; after an exception, the next fit does."""
        self._release()

    def replay(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Take a captured step; returns its mean loss and log-probabilities, or None if this step is not captured."""
        return self._captured(batch, self.trainer.global_step) if self._captured and self.replays else None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, unless a captured step has."""
        self.ensure_started()
        if not self.replays:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the step as Lightning does, unless the closure takes a captured one."""
        if self.replays:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def _release(self) -> None:
        if self._captured:
            self._captured.loader.deferred = False
        self._captured, self.replays = None, False


class CapturedStep:
    """A whole training step: gather, warp, forward, backward, optimizer, moving average.

    The first few steps run without a graph, on the capture stream, and train like any other.
    """

    def __init__(self, module: Any, optimizer: torch.optim.Optimizer, loader: TrainLoader) -> None:
        device = module.device
        self._module, self._optimizer, self.loader = module, optimizer, loader
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
        self._recorded_constants = self._constants()
        loader.deferred = True

    def accepts(self, batch: Any, trainer: Any) -> bool:
        """Whether a step can be captured: a full batch from our loader. Falls back if what the graph recorded no longer
        holds."""
        if self.loader.deferred and self._recorded_constants != self._constants():
            self.fall_back("weights were replaced or frozen, or the optimizer's options changed")
        if self.loader.deferred and trainer.accumulate_grad_batches != 1:
            self.fall_back("trainer.accumulate_grad_batches is above 1")
        if self.loader.deferred and trainer.train_dataloader is not self.loader:
            self.fall_back("the batches come from another loader")
        return self.loader.deferred and isinstance(batch, DeferredBatch)

    def fall_back(self, reason: str) -> None:
        """Train eagerly from here on."""
        self.loader.deferred, self._graph = False, None
        report_eager_steps(reason)

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Take a step, counted from 0; returns mean loss and log-probabilities (B, C), valid until the next call."""
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
        # Lightning calls this inside autocast, which is meant for the forward pass alone.
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        passes: list[tuple[Tensor, Tensor]] = []  # SAM makes two

        def closure() -> Any:
            with torch.autocast(kind, dtype, enabled=enabled, cache_enabled=False):
                loss, log_probs = module.training_loss(batch, batch_idx=0)  # unused without accumulation
            passes.append((loss.detach(), log_probs.detach()))
            self._optimizer.zero_grad()
            loss.backward()
            return loss

        with torch.autocast(kind, enabled=False), self._rates_as_tensors():
            batch = self.loader.batch(self._indices, len(self._indices), self._epoch)
            self._optimizer.step(optim.sam_closure(closure, module.network, h["sam_rho"]) if h["sam_rho"] else closure)
            if module.ema is not None:
                optim.update_ema(module.ema, module.network, self._ema_weight)
        return passes[-1][0], passes[0][1]  # Lightning's closure, too, keeps the last pass's loss

    @contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        """Let the optimizer read its rates from the device inside the block; schedules and files need numbers."""
        groups = self._optimizer.param_groups
        before = [group.copy() for group in groups]
        on_gpu = {"fused" if isinstance(self._optimizer, torch.optim.SGD) else "capturable": True}
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, **(on_gpu if self._on_gpu else {}))
        try:
            with warnings.catch_warnings():  # AdamW warns while it warms up
                warnings.filterwarnings("ignore", ".*capturable=True")
                yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.clear()
                group.update(old)

    def _constants(self) -> tuple[list[Any], ...]:
        """What the graph fixes: where the weights are, which are trained, and the optimizer's options except rates."""
        weights = [(one.data_ptr(), one.requires_grad) for one in self._module.parameters()]
        rest = [{k: v for k, v in group.items() if k not in VARYING} for group in self._optimizer.param_groups]
        return weights, rest


def report_eager_steps(reason: str) -> None:
    """Say once why the steps of a fit are not captured."""
    say(f"fit: training step by step, without a CUDA graph: {reason}", flush=True)
