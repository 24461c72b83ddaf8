"""Printed summaries: one small table after a fit and one after an evaluation."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from mnist_lit.callbacks.checkpoints import TrackBest, epochs_trained
from mnist_lit.callbacks.progress import TrainingClock, evaluated_images
from mnist_lit.data.in_memory import classes_of
from mnist_lit.data.loaders import Batch
from mnist_lit.evaluation.statistics import wilson_interval
from mnist_lit.metrics import require_numbers
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import LOGS, best_checkpoint, newest_checkpoint, recorded_command
from mnist_lit.runs.start import RunStart
from mnist_lit.runs.versions import run_versions
from mnist_lit.runs.weights import network_options
from mnist_lit.system.console import format_epochs, percent, print_fields, print_table, say

MAX_CONFUSIONS = 5  # other classes listed per row


class FitTable(TrainingClock):
    """The speed of a fit as a curve, and one small table at its end."""

    def __init__(self, start: RunStart, logs: Path, tracker: TrackBest, *, saves: bool) -> None:
        self.start, self.logs, self.tracker, self.saves = start, logs, tracker, saves
        self._since = self._time = ""

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_start(trainer)
        self._logged_step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Print the run folder, now that no option can be refused any more."""
        if trainer.is_global_zero and self.start.run and not self.images:
            source = "" if self.start.continues else f" {trainer.ckpt_path}"
            resumed = f", resuming{source} at step {trainer.global_step:,}" if trainer.global_step else ""
            self._since = " since the resume" if resumed else ""
            say(f"fit: {self.start.run}{resumed}", flush=True)
            if not resumed and "--config" not in recorded_command(self.start.run):
                say("fit: no --config given; options that are not set use their defaults", flush=True)
            if resumed and (before := _changed_since(pl_module.trained_with)):
                warning = "results may not be bit-identical to an uninterrupted run"
                say(f"fit: trained so far with {before}; {warning}", flush=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        """Log the images per second since the last log."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch)
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and step % every == 0 and step != self._logged_step:  # several batches may be one step
            pl_module.log_now({"train/images_per_second": self.newest_speed()}, step - 1)
            self._logged_step = step

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._time = f"{self.elapsed:.1f} s{self._since}  ({self.speed():,.0f} images/s while training)"

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Print. By now every checkpoint is written and the progress bar has stopped."""
        if not trainer.is_global_zero or not self.images:
            return
        best, run = self.tracker.best, self.start.run
        checkpoint = best_checkpoint(run) if run and self.saves else None
        epochs, steps, images = epochs_trained(trainer), trainer.global_step, evaluated_images(trainer)
        holds_out = getattr(trainer.datamodule, "val_size", 0)  # type: ignore[attr-defined]
        validates = holds_out and trainer.limit_val_batches
        without = "none: training ended before the first validation" if validates else "none: no validation"
        fields = {
            "epochs": f"{format_epochs(epochs)}  ({steps:,} step{'s' * (steps != 1)})",
            "time": self._time,
            "best val/acc": f"{percent(best.acc, images)}  (epoch {best.epoch})" if best else without,
            "checkpoint": str(checkpoint or "none"),
        }
        own = f" {network_options(load_checkpoint(checkpoint))}" if checkpoint and pl_module.hparams["network"] else ""
        if checkpoint and not holds_out:
            calibrate = f"`mnist-lit calibrate {shlex.quote(str(run))} --like THAT_RUN{own}`"
            trained_on = len(getattr(trainer.datamodule, "train_indices", ()))  # type: ignore[attr-defined]
            size = max(1, min(5000, trained_on // 10))
            how = f"train the same recipe again with --data.val_size {size}, then {calibrate}"
            fields["calibration"] = f"none, so no image is rejected; {how}"
        if checkpoint:
            named = "" if _is_newest(checkpoint) else f" {shlex.quote(str(checkpoint))}"
            fields["next"] = f"mnist-lit test{named}{own}"
        if trainer.logger:
            fields["curves"] = f"tensorboard --logdir {shlex.quote(str(self.logs))}"
        print_fields(fields)


def _is_newest(checkpoint: Path) -> bool:
    """Whether `mnist-lit test` chooses this checkpoint if none is named."""
    return checkpoint.parents[2] == Path(LOGS) and checkpoint == newest_checkpoint()


def _changed_since(history: Sequence[Mapping[str, str]]) -> str:
    """Where this process differs from what a resumed run was last trained with, such as `threads 4, not 2`; see
    `run_versions`. The commit is left out: it changes with every edit of this project."""
    now, before = run_versions(), history[-1] if history else {}
    changed = [name for name in before if name in now and before[name] != now[name] and name != "commit"]
    return ", ".join(f"{name} {before[name]}, not {now[name]}" for name in changed)


class ScoreTable(Callback):
    """One small table after `validate` and `test`: the score with its interval, each class and its usual confusions."""

    def __init__(
        self, predictions: Path | None = None, published: str | None = None, temperature: float | None = None
    ) -> None:
        """predictions: where they were written. published: the shipped model's score. temperature: a calibrated
        checkpoint's, by which `predict` divides the log-probabilities; this table does not."""
        self.predictions, self.published, self.temperature = predictions, published, temperature

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise InputError, on every process and before predictions are written, if a score is not a number."""
        metrics = pl_module.test_metrics if trainer.testing else pl_module.val_metrics
        require_numbers(metrics.compute()[f"{metrics.prefix}loss"])

    on_validation_epoch_end = on_test_epoch_end

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Print. By now the progress bar has stopped and all files are written, or `WritesFile` raises after this."""
        split = "test" if stage == "test" else "val"
        if not trainer.is_global_zero or pl_module.confusion is None:
            return
        confusion = pl_module.confusion.long().cpu()
        correct, total = int(confusion.trace()), int(confusion.sum())
        acc, low, high = (percent(fraction, total) for fraction in (correct / total, *wilson_interval(correct, total)))
        metrics = trainer.callback_metrics
        uncalibrated = (
            f", before dividing by the temperature {self.temperature:.3f}" if self.temperature not in (None, 1) else ""
        )
        fields = {
            "images": f"{total:,}",
            "correct": f"{correct:,}",
            f"{split}/acc": f"{acc}  (95 % interval {low} – {high})",
            f"{split}/loss": f"{float(metrics[f'{split}/loss']):.4f} nats",
            f"{split}/ece": f"{float(metrics[f'{split}/ece']):.4f}  (expected calibration error{uncalibrated})",
        }
        origins = {"provenance": self.published, "predictions": self.predictions}
        print_fields(fields | {name: str(value) for name, value in origins.items() if value})
        classes = classes_of(trainer, len(confusion))
        rows = []
        for label, row in enumerate(confusion):
            wrong = sorted((-int(n), other) for other, n in enumerate(row) if n and other != label)
            confused = "  ".join(f"{classes[other]} ×{-n}" for n, other in wrong[:MAX_CONFUSIONS])
            recall = percent(float(row[label] / row.sum()), int(row.sum())) if row.any() else "–"
            rows.append(["", classes[label], recall, confused])
        say()
        print_table(["", "true", "recall", "most often confused with"], rows, right=[1, 2])
