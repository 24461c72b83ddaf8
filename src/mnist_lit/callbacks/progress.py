"""A fit's progress: a bar on a terminal, otherwise a line per epoch and at least every 30 seconds."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn

from mnist_lit.data.loaders import Batch
from mnist_lit.system.console import percent, say

INTERVAL = 30.0  # seconds after which a line is printed within an epoch
BAR_WIDTH = 12  # so that everything fits into 80 columns


def progress_display(enabled: bool | None, others: Sequence[Callback]) -> tuple[bool, list[Callback]]:  # noqa: FBT001
    """Whether the Trainer has a progress bar, and what to add for it.

    enabled: `trainer.enable_progress_bar`; False turns everything off. Another bar among `others` replaces ours.
    """
    if enabled is False:
        return False, []
    if any(isinstance(other, ProgressBar) for other in others):
        return True, []
    bar = sys.stdout.isatty() if enabled is None else enabled
    return bar, [FitBar() if bar else FitLines()]


class FitBar(RichProgressBar):
    """Rich's bar in 80 columns, counting only batches that will run. It stops before later callbacks print."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5, leave=False)

    @property
    def total_train_batches(self) -> int | float:
        """The epoch's batches; fewer if `max_steps` ends the run within it."""
        trainer = self.trainer
        if trainer.max_steps < 0:
            return trainer.num_training_batches
        # The previous epoch's count remains until the first batch of the next one.
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed % trainer.num_training_batches
        left = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return min(trainer.num_training_batches, done + left)

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Description, progress and remaining time; Lightning adds the scores."""
        bar = BarColumn(bar_width=BAR_WIDTH)
        return [TextColumn("{task.description}"), bar, MofNCompleteColumn(), TimeRemainingColumn()]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The newest scores, under names that fit."""
        metrics = {"train/loss_step": getattr(pl_module, "latest_loss", None), **trainer.progress_bar_metrics}
        names = {"train/loss_step": "loss", "val/acc": "val/acc"}
        return {short: metrics[name] for name, short in names.items() if metrics.get(name) is not None}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {epoch_label(self.trainer)}"


class TrainingClock(Callback):
    """A fit's images per second. Its clock excludes validation, including the time that callbacks listed before this
    one spend in `on_validation_end`."""

    images = 0  # trained on so far, by all processes
    _validation_seconds = 0.0

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Start at zero; a sanity check came before."""
        self._started_at, self.images, self._validation_seconds = time.perf_counter(), 0, 0.0
        self._read = 0, 0.0  # images and seconds when `newest_speed` was last called

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        self._validation_seconds -= time.perf_counter()  # its end is added below

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self._validation_seconds += time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Count the images."""
        self.images += Batch.of(batch).size

    @property
    def elapsed(self) -> float:
        """Seconds since training began, including validation."""
        return time.perf_counter() - self._started_at

    def speed(self) -> float:
        """Images per second since training began."""
        return self.images / max(self.elapsed - self._validation_seconds, 1e-9)

    def newest_speed(self) -> float:
        """Images per second since the last call."""
        images, seconds = self._read
        self._read = self.images, self.elapsed - self._validation_seconds
        return (self.images - images) / max(self._read[1] - seconds, 1e-9)


class FitLines(TrainingClock):
    """A line per epoch, and at least every 30 seconds: for logs, pipes and notebooks without a terminal."""

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_start(trainer)
        self._printed_at, self._first_step = 0.0, trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Print if nothing was printed for a while."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch)
        if self.elapsed - self._printed_at > INTERVAL:
            self._print(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's scores, unless it was finished before the fit was resumed."""
        if trainer.global_step > self._first_step:
            self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        """One line: epoch, step, loss and accuracy if known, images per second since the last line, time left."""
        self._printed_at, step, total = self.elapsed, trainer.global_step, trainer.estimated_stepping_batches
        metrics = trainer.callback_metrics
        parts = [f"epoch {epoch_label(trainer)}", f"step {step:,}"]
        if "train/loss_step" in metrics:  # logged every so many steps
            parts.append(f"loss {float(metrics['train/loss_step']):.4f}")
        if "val/acc" in metrics:
            parts.append(f"val/acc {percent(float(metrics['val/acc']), evaluated_images(trainer))}")
        parts.append(f"{self.newest_speed():,.0f} images/s")
        if self._first_step < step <= total < math.inf:  # a resumed run may have shorter epochs than before
            parts[1] += f"/{total:,.0f}"
            seconds = round((total - step) * self._printed_at / (step - self._first_step))
            parts.append(f"{seconds // 60}:{seconds % 60:02} left")
        if trainer.is_global_zero:
            say("  ".join(parts), flush=True)


def evaluated_images(trainer: Trainer) -> int | None:
    """How many images the newest evaluation had; None if the module does not say."""
    confusion = getattr(trainer.lightning_module, "confusion", None)
    return None if confusion is None else int(confusion.sum())


def epoch_label(trainer: Trainer) -> str:
    """The current epoch, counted from 1, and the number of epochs if it is known."""
    epoch, limit = trainer.current_epoch, trainer.max_epochs
    return f"{epoch + 1}/{limit}" if limit and limit > 0 else str(epoch + 1)
