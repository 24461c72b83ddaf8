"""Which checkpoints a fit keeps: the best by validation, the latest and, on request, each epoch's.

Lightning's ModelCheckpoint covers far more cases, but not these: files that describe themselves, the previous file kept
beside the last, and saves only between optimizer steps, so that a resumed run ends with the same bits.
"""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, StochasticWeightAveraging
from torch import Tensor

from mnist_lit.data.loaders import Batch
from mnist_lit.runs.checkpoint import STOPS, WITHIN_STEP
from mnist_lit.runs.folders import BEST_CKPT, CHECKPOINTS, LAST_CKPT, PREVIOUS_CKPT, mark_finished, remove_predictions
from mnist_lit.runs.loggers import flush_loggers, log_lengths
from mnist_lit.runs.metadata import METADATA_KEY, Metadata
from mnist_lit.runs.results import Validation
from mnist_lit.runs.start import RunStart


class TrackBest(Callback):
    """The best validation so far, logged as `best/val_acc` after each validation."""

    def __init__(self, start: RunStart | None = None) -> None:
        self.start = start or RunStart()
        self.best: Validation | None = None
        self.improved = False  # by the latest validation

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        acc, loss = (float(trainer.callback_metrics[name]) for name in ("val/acc", "val/loss"))
        validation = Validation(acc, loss, trainer.current_epoch + 1)
        best = max(filter(None, (self.best, validation)), key=Validation.rank)
        self.best, self.improved = best, best is validation
        pl_module.log_now({"best/val_acc": best.acc}, max(trainer.global_step - 1, 0))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, content: dict[str, Any]) -> None:
        """Keep the best score for a resume."""
        content["best"] = self.best and list(self.best)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, content: dict[str, Any]) -> None:
        """Continue comparing with the best score so far if its file is in this run's folder, see `restore_run`."""
        if self.start.continues and content.get("best"):
            self.best = Validation(*content["best"])


class SaveBestAndLast(Checkpoint):
    """Save `best.ckpt` after each validation better than all before it, `last.ckpt` after each epoch and at a stop.

    `every_n_steps` also saves within an epoch; `keep_epochs` also saves `epoch_1.ckpt` and so on. `config`, the run's
    whole YAML, goes into every file, see `runs.metadata.Metadata`; without it the module describes itself.
    """

    def __init__(
        self, tracker: TrackBest, config: str = "", *, every_n_steps: int = 0, keep_epochs: bool = False
    ) -> None:
        self.start, self.tracker, self.config = tracker.start, tracker, config
        self.every_n_steps, self.keep_epochs = every_n_steps, keep_epochs
        self._at_epoch_end = True  # as for a run that resumes after an epoch's last step
        self.due = self.stopping = False
        self._last_step = -1  # the step at which `last.ckpt` was saved
        self._scores: dict[str, Tensor] = {}  # from before a resume, until Lightning has reset `callback_metrics`

    def save(self, trainer: Trainer, name: str = LAST_CKPT) -> None:
        """Write a checkpoint; called on every process."""
        assert self.start.run
        path = self.start.run / CHECKPOINTS / name
        if trainer.is_global_zero:
            remove_predictions(path)
            if name == LAST_CKPT and path.exists():  # which becomes the previous one
                remove_predictions(path.with_name(PREVIOUS_CKPT))
        trainer.save_checkpoint(path)
        if name == LAST_CKPT:
            self.due, self._last_step = False, trainer.global_step

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Save `best.ckpt` if no earlier validation was as good, and `last.ckpt` if its save has waited for this."""
        if trainer.sanity_checking:
            return
        if self.tracker.improved:
            self.save(trainer, BEST_CKPT)
        stops = stops_now(trainer) and not self._at_epoch_end and trainer.global_step != self._last_step
        if self.due or stops:
            self.save(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Save every `every_n_steps` steps, and when `max_steps` or a callback ends training within an epoch.

        Waiting for the epoch's end would be too late: Lightning would count the epoch as done, and a resumed run would
        skip the rest of it. It would also skip a validation that follows the step, so the save waits for that one.
        """
        self._at_epoch_end = ends_epoch(trainer, batch_idx)
        if not is_optimizer_step(trainer, batch_idx):  # stopping here would lose the accumulated gradients
            self.stopping, trainer.should_stop = self.stopping or trainer.should_stop, False
            return
        trainer.should_stop = trainer.should_stop or self.stopping
        if self._at_epoch_end:
            return
        is_nth = self.every_n_steps > 0 and trainer.global_step % self.every_n_steps == 0
        self.due = self.due or is_nth or is_last_step(trainer) or stops_now(trainer)
        if self.due and not validation_may_follow(trainer, batch_idx):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._at_epoch_end:
            if self.keep_epochs:  # before the file that marks the epoch as done: a kill in between would lose it
                self.save(trainer, f"epoch_{trainer.current_epoch + 1}.ckpt")
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save if it is still due, or if StochasticWeightAveraging has just replaced the weights; mark the run as
        finished."""
        if self.due or any(isinstance(callback, StochasticWeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            self.save(trainer)
        if self.config and self.start.run and trainer.is_global_zero:
            pl_module.finish_logging()
            flush_loggers(trainer.loggers)  # what an epoch without a save at its end has logged
            mark_complete(self.start.run, trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, content: dict[str, Any]) -> None:
        """Add the metadata, which includes the lengths of the logs."""
        if not self.config:
            return
        assert self.start.run
        pl_module.finish_logging()
        flush_loggers(trainer.loggers)
        lengths = log_lengths(self.start.run) if trainer.is_global_zero else {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        scores = dict(trainer.callback_metrics)
        metadata = Metadata.new(self.config, data.fingerprint, data.classes, scores, lengths, pl_module.trained_with)
        content[METADATA_KEY] = metadata.to_dict()
        content[STOPS] = trainer.should_stop or self.stopping  # set by callbacks such as EarlyStopping
        content[WITHIN_STEP] = not is_optimizer_step(trainer, trainer.fit_loop.batch_idx)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, content: dict[str, Any]) -> None:
        """Keep a continued run's scores, and a callback's decision to stop it."""
        if self.start.continues:
            scores = Metadata.of(content).scores
            self._scores = {name: torch.tensor(score, dtype=torch.float64) for name, score in scores.items()}
            self.stopping = bool(content.get(STOPS))

    def on_fit_start(self, trainer: Trainer, *_: Any) -> None:
        """Give callbacks the scores from before the resume, which EarlyStopping may read before the next validation;
        stop a continued run if a callback had decided to."""
        trainer.callback_metrics.update(self._scores)
        self._scores = {}
        trainer.should_stop, self.stopping = trainer.should_stop or self.stopping, False


def mark_complete(run: Path, trainer: Trainer) -> None:
    """Mark a run as finished, after a fit that left nothing to train."""
    mark_finished(run, epochs_trained(trainer), full_validation_size(trainer))


def epochs_trained(trainer: Trainer) -> float:
    """The epochs trained so far, such as 0.5 for half of one; 0 if an epoch has no end."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    of_latest: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    batches = trainer.num_training_batches
    return 0.0 if batches == math.inf else epochs.started - 1 + of_latest.processed / batches


def full_validation_size(trainer: Trainer) -> int | None:
    """How many images each validation has; None if there is no validation or the trainer's limits skip images."""
    whole = is_unlimited(trainer.limit_val_batches) and not trainer.overfit_batches  # type: ignore[attr-defined]
    indices = getattr(trainer.datamodule, "val_indices", ())  # type: ignore[attr-defined]
    return len(indices) or None if whole else None


def is_unlimited(limit: float | None) -> bool:
    """Whether a trainer's limit on batches skips none: 1 means one batch, 1.0 and None mean all of them."""
    return limit is None or (isinstance(limit, float) and limit == 1)


def stops_now(trainer: Trainer) -> bool:
    """Whether a request to stop, such as EarlyStopping's, ends training after this step: Lightning ignores it until
    `min_epochs` and `min_steps` are reached."""
    least = trainer.current_epoch >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
    return trainer.should_stop and least


def is_last_step(trainer: Trainer) -> bool:
    """Whether `max_steps` ends training after this step."""
    return trainer.global_step == trainer.max_steps


def is_optimizer_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the optimizer stepped after this batch; several batches may be accumulated into one step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or ends_epoch(trainer, batch_idx)


def ends_epoch(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this batch is its epoch's last one; for a loader without a length, only a fetched batch shows that."""
    return batch_idx + 1 >= trainer.num_training_batches or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def validation_may_follow(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a validation may follow this batch within the epoch: see `trainer.val_check_interval`; one follows a
    request to stop."""
    if getattr(trainer.datamodule, "val_size", None) == 0 or not trainer.enable_validation:  # type: ignore[attr-defined]
        return False
    if trainer.val_dataloaders is not None and not sum(trainer.num_val_batches):
        return False
    if (epochs := trainer.check_val_every_n_epoch) is None:  # then batches are counted across epochs
        batch_idx = trainer.fit_loop.total_batch_idx
    elif (trainer.current_epoch + 1) % epochs:
        return False
    every = trainer.val_check_batch  # None if a clock says when: after any batch, or none for hours
    return stops_now(trainer) or (every is not None and (batch_idx + 1) % every == 0)
