"""What happens around training and testing: checkpoints, predictions, the tables at the end.

No loss and no surgery on the model.
"""

import csv
import shlex
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from torch import Tensor

from mnist_lit import checkpoint, runs
from mnist_lit.classifier import Classifier
from mnist_lit.errors import InputError
from mnist_lit.order import Batch

__all__ = ["BestAndLast", "FitTable", "Predictions", "ProgressBar", "ScoreTable", "print_rows", "wilson_interval"]


class BestAndLast(Checkpoint):
    """`best.ckpt` after a validation better than all before it, `last.ckpt` after each epoch and where training stops.

    With `keep_epochs` also `epoch_1.ckpt` and so on. Every file describes itself: `config`, the run's whole YAML, goes
    into it, see `checkpoint.provenance`.
    """

    def __init__(self, run: Path, config: str, *, keep_epochs: bool = False) -> None:
        self.folder, self.config, self.keep_epochs = run / "checkpoints", config, keep_epochs
        self.best = (-1.0, 0.0)  # accuracy, and the negative loss that decides among equals
        self._whole_epoch = True  # also where a run is resumed after an epoch's last step

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take rank 0's folder."""
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if no earlier validation was as good."""
        if trainer.sanity_checking:
            return
        scores = trainer.callback_metrics
        score = (float(scores["val/acc"]), -float(scores["val/loss"]))
        if score > self.best:
            self.best = score
            trainer.save_checkpoint(self.folder / "best.ckpt")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the newest weights where `max_steps` or `max_time` stops within an epoch.

        At that epoch's end Lightning would already count it as done, and a resumed run would skip its rest.
        """
        self._whole_epoch = batch_idx + 1 >= trainer.num_training_batches
        if not self._whole_epoch and (trainer.should_stop or trainer.global_step == trainer.max_steps):
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the newest weights."""
        if self._whole_epoch:
            trainer.save_checkpoint(self.folder / "last.ckpt")
            if self.keep_epochs:
                trainer.save_checkpoint(self.folder / f"epoch_{trainer.current_epoch + 1}.ckpt")

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Write the recipe, the data's fingerprint, versions and scores into the file."""
        fingerprint = trainer.datamodule.fingerprint  # type: ignore[attr-defined]
        content[checkpoint.KEY] = checkpoint.provenance(self.config, fingerprint, trainer.callback_metrics)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and where its file is."""
        return {"best": self.best, "folder": str(self.folder)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score so far, if its file is in this run's folder; else start anew."""
        if state_dict["folder"] == str(self.folder):
            self.best = tuple(state_dict["best"])


class FitTable(Callback):
    """One small table at the end of a fit. Images a second count the training, not the validation."""

    def __init__(self, run: Path | None, logs: Path, *, saves: bool) -> None:
        self.run, self.logs, self.saves = run, logs, saves
        self.images = 0
        self.seconds = self.validating = 0.0
        self.best: tuple[float, int] | None = None  # accuracy and epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where the run is, once nothing can be refused any more."""
        if trainer.is_global_zero and self.run and not self.images:
            print(f"fit: {self.run}", flush=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the images."""
        self.images += batch.size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the other clock."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the other clock, and remember the best score."""
        if trainer.sanity_checking:
            return
        self.validating += time.perf_counter() - self._validation_start
        score = float(trainer.callback_metrics["val/acc"])
        if self.best is None or score > self.best[0]:
            self.best = (score, trainer.current_epoch + 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: whatever follows is no training."""
        self.seconds = time.perf_counter() - self._start

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print. By now every checkpoint is written and the progress bar has stopped."""
        if not trainer.is_global_zero or not self.images:
            return
        rate = self.images / max(self.seconds - self.validating, 1e-9)
        best = runs.best(self.run) if self.run and self.saves else None
        rows = {
            "epochs": f"{trainer.current_epoch}  ({trainer.global_step:,} steps)",
            "time": f"{self.seconds:.1f} s  ({rate:,.0f} images/s while training)",
            "best val/acc": f"{self.best[0]:.2%}  (epoch {self.best[1]})" if self.best else "none: no validation",
            "checkpoint": str(best or "none"),
        }
        if best:
            elsewhere = "" if self.logs == Path(runs.LOGS) else f" --ckpt_path {shlex.quote(str(best))}"
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


class Predictions(Callback):
    """`predictions.csv`: index, label, predicted and each class's probability of every test image."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from nothing."""
        self._parts = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what was said of each image."""
        self._parts.append((batch.indices.cpu(), batch.labels.cpu(), outputs.float().exp().cpu()))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write one file for all processes, in the dataset's order; it appears whole or not at all."""
        mine = tuple(torch.cat(column) for column in zip(*self._parts, strict=True))
        indices, labels, probs = (torch.cat(column) for column in zip(*_gather(mine), strict=True))
        if not trainer.is_global_zero:
            return
        order = indices.argsort()
        aside = self.path.with_suffix(".part")
        try:
            with aside.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["index", "label", "predicted", *(f"prob_{label}" for label in range(probs.shape[1]))])
                for index, label, row in zip(indices[order], labels[order], probs[order], strict=True):
                    writer.writerow([int(index), int(label), int(row.argmax()), *(f"{p:.9g}" for p in row.tolist())])
            aside.replace(self.path)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


class ScoreTable(Callback):
    """One small table after `validate` and `test`: the score with its interval, each class and its usual mistakes."""

    def __init__(self, predictions: Path | None = None) -> None:
        self.predictions = predictions

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print. By now the predictions are written and the progress bar has stopped."""
        split = "test" if stage == "test" else "val"
        assert isinstance(pl_module, Classifier)
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
            f"{split}/ece": f"{float(metrics[f'{split}/ece']):.4f}  (calibration error)",
        }
        if self.predictions:
            rows["predictions"] = str(self.predictions)
        print_rows(rows)
        print("\n  true  right        most often taken for")
        for label, row in enumerate(confusion):
            wrong = sorted(((int(n), other) for other, n in enumerate(row) if n and other != label), reverse=True)
            taken = "  ".join(f"{other} ×{n}" for n, other in wrong[:5])
            print(f"  {label:>4}  {float(row[label] / row.sum().clamp(min=1)):>7.2%}      {taken}".rstrip())


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), as numbers in [0, 1].

    >>> [round(bound, 4) for bound in wilson_interval(9934, 10_000)]
    [0.9916, 0.9948]
    """
    z = 1.959964
    centre = (right + z * z / 2) / (total + z * z)
    half = z * (right * (total - right) / total + z * z / 4) ** 0.5 / (total + z * z)
    return centre - half, centre + half


def print_rows(rows: dict[str, str]) -> None:
    """Names in one column, values in the other."""
    print("", *(f"  {name:<14}{value}" for name, value in rows.items()), sep="\n")


def _gather(mine: Any) -> list[Any]:
    """What every process holds, on all of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone
