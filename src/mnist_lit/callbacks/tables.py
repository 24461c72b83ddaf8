"""What a person reads at the end: one small table after a fit and after an evaluation. And the bar until then."""

import math
import shlex
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

from mnist_lit.data.loaders import Batch
from mnist_lit.evaluation.statistics import wilson_interval
from mnist_lit.module import MNISTModule
from mnist_lit.runs.folders import LOGS, best_checkpoint
from mnist_lit.runs.start import RunStart

__all__ = ["FitTable", "ProgressBar", "ScoreTable", "print_rows"]


class FitTable(Callback):
    """The speed of a fit as a curve, and one small table at its end.

    Images a second leave out the validation and what the callbacks before this one do after it.
    """

    def __init__(self, start: RunStart, logs: Path, *, saves: bool) -> None:
        self.start, self.logs, self.saves = start, logs, saves
        self.images = self._logged_images = 0
        self._logged_at, self._logged_step = 0.0, 0
        self.seconds = self.validating = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()
        self._logged_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Say where the run is, once nothing can be refused any more."""
        if trainer.is_global_zero and self.start.run and not self.images:
            goes_on = f", from step {trainer.global_step:,} on" if trainer.global_step else ""
            print(f"fit: {self.start.run}{goes_on}", flush=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the images; log how many a second since the last time, the time of validations left out."""
        self.images += batch.size
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and step % every == 0 and step != self._logged_step:  # several batches may be one step
            now = time.perf_counter() - self._start - self.validating
            rate = (self.images - self._logged_images) / (now - self._logged_at)
            assert isinstance(pl_module, MNISTModule)
            pl_module.write({"train/images_per_second": rate}, step - 1)
            self._logged_images, self._logged_at, self._logged_step = self.images, now, step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the other clock."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the other clock."""
        if not trainer.sanity_checking:
            self.validating += time.perf_counter() - self._validation_start

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: whatever follows is no training."""
        self.seconds = time.perf_counter() - self._start

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print. By now every checkpoint is written and the progress bar has stopped."""
        if not trainer.is_global_zero or not self.images:
            return
        rate = self.images / max(self.seconds - self.validating, 1e-9)
        assert isinstance(pl_module, MNISTModule)
        score, run = pl_module.best, self.start.run
        best = best_checkpoint(run) if run and self.saves else None
        epochs = trainer.global_step / math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        rows = {
            "epochs": f"{round(epochs, 2):g}  ({trainer.global_step:,} steps)",
            "time": f"{self.seconds:.1f} s  ({rate:,.0f} images/s while training)",
            "best val/acc": f"{score.acc:.2%}  (epoch {score.epoch})" if score else "none: no validation",
            "checkpoint": str(best or "none"),
        }
        if best:
            elsewhere = "" if best.parents[2] == Path(LOGS) else f" --ckpt_path {shlex.quote(str(best))}"
            rows["next"] = f"mnist-lit test{elsewhere}"
        if trainer.logger:
            rows["curves"] = f"tensorboard --logdir {shlex.quote(str(self.logs))}"
        print_rows(rows)


class ProgressBar(RichProgressBar):
    """Rich's bar with the scores beside it. It stops before what stands behind it in the list of callbacks prints."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5, leave=False)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The scores; the run's number stands in the table at the end."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class ScoreTable(Callback):
    """One small table after `validate` and `test`: the score with its interval, each class and its usual mistakes."""

    def __init__(self, predictions: Path | None = None, published: str | None = None) -> None:
        self.predictions, self.published = predictions, published

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print. By now the predictions are written and the progress bar has stopped."""
        split = "test" if stage == "test" else "val"
        assert isinstance(pl_module, MNISTModule)
        if not trainer.is_global_zero or pl_module.confusion is None:
            return
        confusion = pl_module.confusion.long().cpu()
        right, total = int(confusion.trace()), int(confusion.sum())
        low, high = wilson_interval(right, total)
        metrics = trainer.callback_metrics
        rows = {
            "images": f"{total:,}",
            "right": f"{right:,}",
            f"{split}/acc": f"{right / total:.2%}  (95 % interval {low:.2%} – {high:.2%})",
            f"{split}/loss": f"{float(metrics[f'{split}/loss']):.4f} nats",
            f"{split}/ece": f"{float(metrics[f'{split}/ece']):.4f}  (calibration error, before the temperature)",
        }
        if self.published:
            rows["provenance"] = self.published
        if self.predictions:
            rows["predictions"] = str(self.predictions)
        print_rows(rows)
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        width = max(4, *map(len, classes))
        print(f"\n  {'true':<{width}}  right        most often taken for")
        for label, row in enumerate(confusion):
            wrong = sorted(((int(n), other) for other, n in enumerate(row) if n and other != label), reverse=True)
            taken = "  ".join(f"{classes[other]} ×{n}" for n, other in wrong[:5])
            print(
                f"  {classes[label]:>{width}}  {float(row[label] / row.sum().clamp(min=1)):>7.2%}      {taken}".rstrip()
            )


def print_rows(rows: dict[str, str]) -> None:
    """Names in one column, values in the other."""
    print("", *(f"  {name:<14}{value}" for name, value in rows.items()), sep="\n")
