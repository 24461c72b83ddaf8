"""A LightningModule that resumes exactly, also where Lightning alone would not, and continues an interrupted epoch's
scores. docs/decisions.md, "What Lightning would not resume exactly", lists these cases."""

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import MetricCollection

from mnist_lit.errors import InputError
from mnist_lit.metrics import merge_states, states, update_metrics
from mnist_lit.optim import unoptimized
from mnist_lit.system.distributed import all_gather_objects, rank_and_world_size


class ResumableModule(LightningModule):
    """A LightningModule that resumes bit for bit, also in the cases that Lightning 2.6.6 gets wrong.

    Its training scores count each batch once, and only when the batch's step is over, so that a run resumed from the
    middle of a step counts no batch twice.
    """

    train_metrics: MetricCollection
    has_counts = False  # whether the epoch's scores have counted any images so far, on any process

    def __init__(self) -> None:
        super().__init__()
        self._position: tuple[int, int] | None = None  # epoch and batch of the latest training step
        self._pending: tuple[Tensor, Tensor] | None = None  # its outputs and labels, until the step is over
        self._started_with: Any = None  # the optimizers of the fit that has started

    @property
    def attached_trainer(self) -> Any:
        """The trainer, or None where `trainer` raises, as after `trainer.strategy.connect(module)`."""
        return self._trainer

    @property
    def is_fitting(self) -> bool:
        """Whether a trainer is fitting this module."""
        return self._trainer is not None and self._trainer.training

    def begin_pass(self, batch_idx: int) -> bool:
        """Begin a pass over a batch; returns whether it is the batch's first. If it is, count the step before it."""
        self.ensure_started()
        if self._position == (self.current_epoch, batch_idx):
            return False
        if batch_idx:
            self.count_step()  # in case a subclass has overridden `on_train_batch_end`
        else:
            self._reset_counts()  # in case a resume has skipped the end of the epoch before
        return True

    def count_when_over(self, batch_idx: int, log_probs: Tensor, labels: Tensor) -> None:
        """Keep a batch's log-probabilities (B, C) and labels (B,) until its step is over."""
        self._position, self._pending = (self.current_epoch, batch_idx), (log_probs, labels)

    def count_step(self) -> None:
        """Count the latest step unless it has been counted."""
        if self._pending:
            update_metrics(self.train_metrics, *self._pending)
            self._pending, self.has_counts = None, True

    def on_train_batch_end(self, *_: Any) -> None:
        """Count the batch, now that its step is over."""
        self.count_step()

    def teardown(self, stage: str) -> None:
        """Let go of the optimizers, and leave the trainer as it was."""
        self._started_with = None
        vars(self.trainer.fit_loop).pop("_iteration_based_training", None)

    def setup(self, stage: str) -> None:
        """Keep Lightning from skipping an epoch: with max_steps, it resumes a checkpoint from the end of an epoch as if
        it came from within the epoch (issue 19617)."""
        if stage == "fit":
            self.trainer.fit_loop._iteration_based_training = _never  # type: ignore[method-assign]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store each process's counts for the epoch's scores."""
        progress: Any = self.attached_trainer and self.trainer.fit_loop.epoch_loop.batch_progress.current
        if progress and self._position and progress.processed > self._position[1]:
            self.count_step()  # a step that is not over will be repeated
        checkpoint["train_scores"] = all_gather_objects(states(self.train_metrics))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue counting the epoch's scores, whatever number of processes saved them. Convert the module now:
        Lightning does so only after loading, which would round float64 weights."""
        if self.is_fitting:
            self.trainer.precision_plugin.convert_module(self)
        self._reset_counts()
        if saved := checkpoint.get("train_scores"):  # missing from a checkpoint stripped for sharing
            self.has_counts = merge_states(self.train_metrics, saved, *rank_and_world_size())

    def on_train_start(self) -> None:
        """Start the fit."""
        self.start_fit()

    def ensure_started(self) -> None:
        """Start the fit if a subclass has overridden `on_train_start`, empty in Lightning, without `super()`."""
        if self._started_with is not self.trainer.optimizers:
            self.start_fit()

    def start_fit(self) -> None:
        """Report parameters that nothing trains. Apply a schedule of accumulated batches: if a run resumes within an
        epoch, Lightning would ignore it until the next one."""
        self._started_with, self._position, self._pending = self.trainer.optimizers, None, None
        if names := unoptimized(self, self.trainer.optimizers):
            some = ", ".join(names[:3]) + ", …" * (len(names) > 3)
            rank_zero_warn(f"no optimizer has {some}; freeze these parameters, or add them in configure_optimizers")
        for callback in _accumulation_schedulers(self.trainer):
            self.trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(self.current_epoch)

    def _reset_counts(self) -> None:
        self.train_metrics.reset()
        self._pending, self.has_counts = None, False


def was_updated(metrics: MetricCollection) -> bool:
    """Whether any process has scored images since the last reset. False if a subclass counts its own scores."""
    return any(all_gather_objects(any(metric.update_called for metric in metrics.values())))


def check_accumulation_schedules(trainer: Any, h: Mapping[str, Any]) -> None:
    """Raise InputError if a callback makes some of a run's epochs shorter, in steps, than others, although something
    depends on the number of steps of the run or, with the schedule `step`, of an epoch."""
    last = trainer.max_epochs
    if last == -1:  # the run ends at `max_steps`
        last = math.inf if h["schedule"] == "step" else 0
    factors = [
        {one.get_accumulate_grad_batches(epoch) for epoch in one.scheduling if epoch < last}
        for one in _accumulation_schedulers(trainer)
    ]
    if any(len(some) > 1 for some in factors) and (h["schedule"] != "constant" or h["warmup"] or h["sam_rho"]):
        reason = "a schedule, warmup and SAM require a number of steps that is known in advance"
        instead = "use trainer.accumulate_grad_batches, or a constant schedule without warmup and SAM"
        raise InputError(f"GradientAccumulationScheduler: {reason}; {instead}")


def _accumulation_schedulers(trainer: Any) -> list[GradientAccumulationScheduler]:
    return [one for one in trainer.callbacks if isinstance(one, GradientAccumulationScheduler)]


def _never() -> bool:  # not a lambda, since a spawning strategy pickles the trainer
    return False
