"""What is kept of training and testing: checkpoints, figures and scores for TensorBoard, predictions.

No loss and no surgery on the model.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams import summary_v2 as hparams
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mnist_lit import checkpoint, figures, runs
from mnist_lit.classifier import Classifier
from mnist_lit.errors import InputError
from mnist_lit.files import write_whole
from mnist_lit.order import Batch

__all__ = ["BestAndLast", "Figures", "Finite", "HParams", "Predictions", "TestCurve"]


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


class Finite(Callback):
    """Stops a fit that diverged, and lets no checkpoint with such weights be written."""

    def __init__(self, run: Path | None) -> None:
        self.run = run

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take rank 0's folder."""
        self.run = trainer.strategy.broadcast(self.run)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Look at the loss: at every step where that costs nothing, elsewhere where it is logged anyway."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if pl_module.device.type == "cpu" and trainer.world_size == 1:
            loss = outputs["loss"]
        elif every and trainer.global_step and trainer.global_step % every == 0:
            loss = trainer.callback_metrics["train/loss_step"]  # the same on every process
        else:
            return
        if not math.isfinite(loss):
            self._stop(trainer, pl_module, f"the loss is {float(loss)}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at validation's loss: weights may be far out and still finite."""
        if not trainer.sanity_checking and not math.isfinite(trainer.callback_metrics["val/loss"]):
            self._stop(trainer, pl_module, f"val/loss is {float(trainer.callback_metrics['val/loss'])}")

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Look at the weights, which a last step may have spoilt after its loss was known."""
        if not all(bool(weights.isfinite().all()) for weights in pl_module.parameters()):
            self._stop(trainer, pl_module, "weights are not finite")

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule, what: str) -> None:
        best = runs.best(self.run) if self.run else None
        kept = f"{best} was saved before" if best else "no checkpoint was saved yet"
        where = f"at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        raise InputError(f"{what} {where}; lower model.lr, which is {pl_module.hparams['lr']} ({kept})")


class Figures(Callback):
    """TensorBoard's pictures: training images as the network sees them, the confusion matrix, the worst mistakes."""

    GRID, WORST, COLUMNS = 32, 24, 8  # images at most, and in a row

    def __init__(self) -> None:
        self._drawn = False
        self._mistakes: list[tuple[Tensor, ...]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Draw the first images of the fit, warped and on their device as they are now."""
        if not self._drawn:
            labels = [str(label) for label in batch.labels[: self.GRID].tolist()]
            grid = figures.gallery(batch.images[: self.GRID].cpu().numpy(), labels, columns=self.COLUMNS)
            _add_picture(trainer, "training images", grid)
            self._drawn = True

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from nothing."""
        self._mistakes = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the mistakes that cost most; nothing waits for the device here."""
        predicted = outputs.argmax(dim=1)
        loss = -outputs.gather(1, batch.labels[:, None])[:, 0].float()
        loss = torch.where(predicted == batch.labels, -1.0, loss)
        worst = loss.topk(min(self.WORST, len(loss))).indices
        probs = outputs.gather(1, predicted[:, None])[:, 0].float().exp()
        columns = (loss, batch.labels, predicted, probs, batch.indices, batch.images)
        self._mistakes.append(tuple(column[worst] for column in columns))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, of all processes' mistakes together."""
        if trainer.sanity_checking or not self._mistakes:
            return
        mine = tuple(torch.cat(column).cpu() for column in zip(*self._mistakes, strict=True))
        loss, labels, predicted, probs, indices, images = (
            torch.cat(column) for column in zip(*_gather(mine), strict=True)
        )
        if not trainer.is_global_zero:
            return
        order = [n for n in loss.argsort(descending=True, stable=True)[: self.WORST].tolist() if loss[n] >= 0]
        captions = [f"true {labels[n]}, said {predicted[n]}\n{float(probs[n]):.1%}  #{indices[n]}" for n in order]
        worst = figures.gallery(images[order].numpy(), captions, columns=self.COLUMNS)
        _add_picture(trainer, "validation/worst mistakes", worst)
        assert isinstance(pl_module, Classifier)
        assert pl_module.confusion is not None
        confusion = pl_module.confusion.long().cpu().numpy()
        names = [str(label) for label in range(len(confusion))]
        _add_picture(trainer, "validation/confusion matrix", figures.confusion_matrix(confusion, names))


class HParams(Callback):
    """TensorBoard's table of runs: what each was trained with, and how good it became."""

    METRICS = ("best/val_acc", "val/loss", "train/acc", "train/images_per_second")

    def __init__(self, run: str, settings: Mapping[str, int | float | str]) -> None:
        self.run, self.settings = run, dict(settings)
        self._best = -1.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings, and which curves are the scores; `test` adds its own later."""
        metrics = [hparams.Metric(name) for name in self.METRICS]
        metrics.append(hparams.Metric("test/acc", group="test"))  # the subfolder that `TestCurve` writes to
        names = [hparams.HParam(name) for name in self.settings]
        for writer in _tensorboards(trainer):
            events = writer._get_file_writer()  # type: ignore[no-untyped-call]
            events.add_summary(hparams.hparams_config_pb(names, metrics))
            events.add_summary(hparams.hparams_pb(self.settings, trial_id=self.run))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the best score so far."""
        if trainer.sanity_checking:
            return
        self._best = max(self._best, float(trainer.callback_metrics["val/acc"]))
        for writer in _tensorboards(trainer):
            writer.add_scalar("best/val_acc", self._best, trainer.global_step)


class TestCurve(Callback):
    """The test's scores in TensorBoard, in the run's subfolder `test`, at the checkpoint's step."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write them; the run's own events file stays as it is, its fit may still be going on."""
        if not trainer.is_global_zero:
            return
        with SummaryWriter(str(self.run / "test")) as writer:
            for name in ("test/acc", "test/loss"):
                writer.add_scalar(name, trainer.callback_metrics[name], self.step)


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
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["index", "label", "predicted", *(f"prob_{label}" for label in range(probs.shape[1]))])
        for index, label, row in zip(indices[order], labels[order], probs[order], strict=True):
            writer.writerow([int(index), int(label), int(row.argmax()), *(f"{p:.9g}" for p in row.tolist())])
        try:
            write_whole(self.path, text.getvalue().encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


def _gather(mine: Any) -> list[Any]:
    """What every process holds, on all of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def _tensorboards(trainer: pl.Trainer) -> list[SummaryWriter]:
    """What writes to TensorBoard, on the first process; the others have nothing that could."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]


def _add_picture(trainer: pl.Trainer, name: str, picture: Any) -> None:
    for writer in _tensorboards(trainer):
        writer.add_image(name, picture, trainer.global_step, dataformats="HWC")
