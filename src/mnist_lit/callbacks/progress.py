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
        return f"epoch {epoch_of(self.trainer, current_epoch)}"


class FitLines(Callback):
    """A line per epoch, and at least every 30 seconds: for logs, pipes and notebooks without a terminal."""

    def __init__(self) -> None:
        self._images, self._pause = 0, 0.0  # since the last line: images, and seconds of validation

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = self._printed = time.monotonic()
        self._first_step, self._pause = trainer.global_step, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation out of the images per second."""
        self._pause += time.monotonic() - self._validation_began

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Count the images, and print if nothing was printed for a while."""
        self._images += Batch.of(batch).size
        if time.monotonic() - self._printed > INTERVAL:
            self._print(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's scores, unless it was finished before the fit was resumed."""
        if trainer.global_step > self._first_step:
            self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        """One line: epoch, step, loss and accuracy if known, images per second since the last line, time left."""
        now, step, total = time.monotonic(), trainer.global_step, trainer.estimated_stepping_batches
        metrics = trainer.callback_metrics
        parts = [f"epoch {epoch_of(trainer, trainer.current_epoch)}", f"step {step:,}"]
        if "train/loss_step" in metrics:  # logged every so many steps
            parts.append(f"loss {float(metrics['train/loss_step']):.4f}")
        if "val/acc" in metrics:
            parts.append(f"val/acc {percent(float(metrics['val/acc']), evaluated_images(trainer))}")
        parts.append(f"{self._images / max(now - self._printed - self._pause, 1e-9):,.0f} images/s")
        if self._first_step < step <= total < math.inf:  # a resumed run may have shorter epochs than before
            parts[1] += f"/{total:,.0f}"
            seconds = round((total - step) * (now - self._begun) / (step - self._first_step))
            parts.append(f"{seconds // 60}:{seconds % 60:02} left")
        if trainer.is_global_zero:
            say("  ".join(parts), flush=True)
        self._printed, self._images, self._pause = now, 0, 0.0


def evaluated_images(trainer: Trainer) -> int | None:
    """How many images the newest evaluation had; None if the module does not say."""
    confusion = getattr(trainer.lightning_module, "confusion", None)
    return None if confusion is None else int(confusion.sum())


def epoch_of(trainer: Trainer, epoch: int) -> str:
    """An epoch, counted from 1, and the number of epochs if it is known."""
    limit = trainer.max_epochs
    return f"{epoch + 1}/{limit}" if limit and limit > 0 else str(epoch + 1)
