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
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams import summary_v2 as hparams
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from mnist_lit import checkpoint, curves, figures, runs
from mnist_lit.classifier import Best, Classifier
from mnist_lit.errors import Diverged, InputError, Stopped
from mnist_lit.files import write_whole
from mnist_lit.order import Batch
from mnist_lit.processes import gather, in_rank_order
from mnist_lit.runs import Start
from mnist_lit.signals import Noted

__all__ = ["BestAndLast", "Figures", "Finite", "HParams", "Predictions", "RankOrder", "StopOnSignal", "TestCurve"]


class BestAndLast(Checkpoint):
    """`best.ckpt` after a validation better than all before it, `last.ckpt` after each epoch and where training stops.

    With `every_n_steps` also within an epoch; with `keep_epochs` also `epoch_1.ckpt` and so on. Every file describes
    itself: `config`, the run's whole YAML, goes into it, see `checkpoint.provenance`.
    """

    def __init__(self, start: Start, config: str, *, every_n_steps: int = 0, keep_epochs: bool = False) -> None:
        self.start, self.config = start, config
        self.every_n_steps, self.keep_epochs = every_n_steps, keep_epochs
        self._whole_epoch = True  # also where a run is resumed after an epoch's last step
        self.due = self._stopping = False
        self._saved_best: Best | None = None
        self._scores: dict[str, Any] = {}  # of before a resume

    def save(self, trainer: pl.Trainer, name: str = runs.LAST) -> None:
        """Write a checkpoint; called on every process."""
        assert self.start.run
        trainer.save_checkpoint(self.start.run / "checkpoints" / name)
        self.due = self.due and name != runs.LAST

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if no earlier validation was as good."""
        assert isinstance(pl_module, Classifier)
        if trainer.sanity_checking:
            return
        if pl_module.best != self._saved_best:
            self._saved_best = pl_module.best
            self.save(trainer, "best.ckpt")
        if self.due:
            self.save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the newest weights every so many steps, and where `max_steps` or `max_time` stops within an epoch.

        At that epoch's end Lightning would already count it as done, and a resumed run would skip its rest. It would
        also skip a validation that follows upon a step, so there the checkpoint waits until after that.
        """
        self._whole_epoch = batch_idx + 1 >= trainer.num_training_batches
        if not _is_whole_step(trainer, batch_idx):  # the gradients so far would be lost
            self._stopping, trainer.should_stop = self._stopping or trainer.should_stop, False
            return
        trainer.should_stop = trainer.should_stop or self._stopping
        if self._whole_epoch:
            return
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self.due = True
        stops = trainer.should_stop or trainer.global_step == trainer.max_steps
        if stops or (self.due and not _may_validate(trainer, batch_idx)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the newest weights."""
        if self._whole_epoch:
            self.save(trainer)
            if self.keep_epochs:
                self.save(trainer, f"epoch_{trainer.current_epoch + 1}.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as finished."""
        if trainer.is_global_zero and self.start.run:
            self.start.run.joinpath(runs.FINISHED).touch()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Write the recipe, the data's fingerprint, versions and scores into the file, and how long the curves are."""
        assert isinstance(pl_module, Classifier)
        assert self.start.run
        curves.flush(trainer.loggers)
        lengths = curves.lengths(self.start.run) if trainer.is_global_zero else {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        content["best"] = pl_module.best and list(pl_module.best)
        scores = self._scores | dict(trainer.callback_metrics)
        content[checkpoint.KEY] = checkpoint.provenance(self.config, data.fingerprint, data.classes, scores, lengths)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Go on comparing with the best score so far, if its file is in this run's folder; else start anew."""
        assert isinstance(pl_module, Classifier)
        if self.start.continues:
            self._scores = content[checkpoint.KEY]["scores"]
        if self.start.continues and content["best"]:
            pl_module.best = self._saved_best = Best(*content["best"])


class RankOrder(Callback):
    """Several processes add their gradients in one order, also after a resume; see `processes.in_rank_order`."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell DDP, which wraps the module by now."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.register_comm_hook(None, in_rank_order)


class StopOnSignal(Callback):
    """SIGTERM or Ctrl-C, on any process, ends the fit on all of them once the step is done and saved."""

    def __init__(self, saver: BestAndLast | None) -> None:
        self.saver = saver
        self._noted = Noted()
        self._pending = 0

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning, which would speak to the other processes from within its handler."""
        self._noted.install()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same, where there is no sanity check."""
        self._noted.install()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save and stop within an epoch; its last step is left to the epoch's end."""
        ends = batch_idx + 1 >= trainer.num_training_batches
        talks = trainer.world_size == 1 or pl_module.device.type == "cpu" or trainer.global_step % 10 == 0
        if not ends and talks and _is_whole_step(trainer, batch_idx) and (signum := self._agreed(trainer)):
            if self.saver and _may_validate(trainer, batch_idx):
                self.saver.due, self._pending = True, signum  # it saves after the validation
                return
            if self.saver:
                self.saver.save(trainer)
            self._stop(trainer, signum)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Stop after a validation within an epoch."""
        if self._pending and self.saver and not self.saver.due:
            self._stop(trainer, self._pending)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after an epoch, which was saved at its end."""
        if signum := self._agreed(trainer):
            self._stop(trainer, signum)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same after the last epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal, on every process as soon as one has it; 0 where there is none."""
        if trainer.world_size == 1:
            return self._noted.signum
        mine = torch.tensor(float(self._noted.signum), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(mine, reduce_op="max"))

    def _stop(self, trainer: pl.Trainer, signum: int) -> None:
        where = f"at step {trainer.global_step}; "
        run = self.saver.start.run if self.saver else None
        last = run / "checkpoints" / runs.LAST if run else None
        if last and last.exists():
            where += f"saved {last}, and the same command with --resume auto goes on from there"
        else:
            where += "nothing was saved"
        raise Stopped(signum, where)


class Finite(Callback):
    """Stops a fit that diverged, and lets no checkpoint with such weights be written."""

    def __init__(self, start: Start) -> None:
        self.start = start

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
        best = runs.best(self.start.run) if self.start.run else None
        kept = f"{best} was saved before" if best else "no checkpoint was saved yet"
        where = f"at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        raise Diverged(f"{what} {where}; lower model.lr, which is {pl_module.hparams['lr']} ({kept})")


class Figures(Callback):
    """TensorBoard's pictures: training images as the network sees them, the confusion matrix, the worst mistakes."""

    GRID, WORST, COLUMNS = 32, 24, 8  # images at most, and in a row

    def __init__(self, start: Start) -> None:
        self.start = start
        self._drawn = False
        self._mistakes: list[tuple[Tensor, ...]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Draw the first images of the fit, warped and on their device as they are now."""
        if not self._drawn and not (self.start.continues and trainer.global_step):
            classes = trainer.datamodule.classes  # type: ignore[attr-defined]
            labels = [classes[label] for label in batch.labels[: self.GRID].tolist()]
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
            torch.cat(column) for column in zip(*gather(mine), strict=True)
        )
        if not trainer.is_global_zero:
            return
        order = [n for n in loss.argsort(descending=True, stable=True)[: self.WORST].tolist() if loss[n] >= 0]
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        apart = "\n" if max(map(len, classes)) > 2 else ", "
        captions = [
            f"true {classes[labels[n]]}{apart}said {classes[predicted[n]]}\n{float(probs[n]):.1%}  #{indices[n]}"
            for n in order
        ]
        worst = figures.gallery(images[order].numpy(), captions, columns=self.COLUMNS)
        _add_picture(trainer, "validation/worst mistakes", worst)
        assert isinstance(pl_module, Classifier)
        assert pl_module.confusion is not None
        confusion = pl_module.confusion.long().cpu().numpy()
        _add_picture(trainer, "validation/confusion matrix", figures.confusion_matrix(confusion, classes))


class HParams(Callback):
    """TensorBoard's table of runs: what each was trained with, and how good it became."""

    METRICS = ("best/val_acc", "val/loss", "train/acc", "train/images_per_second")

    def __init__(self, start: Start, settings: Mapping[str, int | float | str]) -> None:
        self.start, self.settings = start, dict(settings)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings, and which curves are the scores; `test` adds its own later."""
        if self.start.continues and trainer.global_step:
            return
        assert self.start.run
        metrics = [hparams.Metric(name) for name in self.METRICS]
        metrics.append(hparams.Metric("test/acc", group="test"))  # the subfolder that `TestCurve` writes to
        names = [hparams.HParam(name) for name in self.settings]
        for writer in _tensorboards(trainer):
            events = writer._get_file_writer()  # type: ignore[no-untyped-call]
            events.add_summary(hparams.hparams_config_pb(names, metrics))
            events.add_summary(hparams.hparams_pb(self.settings, trial_id=runs.name(self.start.run)))


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
    """`predictions.csv`: of every test image index, label, what was predicted, each class's probability, any file."""

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
        indices, labels, probs = (torch.cat(column) for column in zip(*gather(mine), strict=True))
        if not trainer.is_global_zero:
            return
        order = indices.argsort()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        files = {"file": data.digits.files} if data.digits.files else {}
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["index", "label", "predicted", *(f"prob_{name}" for name in data.classes), *files])
        for index, label, row in zip(indices[order].tolist(), labels[order].tolist(), probs[order], strict=True):
            from_file = (column[index] for column in files.values())
            writer.writerow([index, label, int(row.argmax()), *(f"{p:.9g}" for p in row.tolist()), *from_file])
        try:
            write_whole(self.path, text.getvalue().encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


def _is_whole_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer stepped after this batch; several batches may be one step."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches == 0 or done >= trainer.num_training_batches


def _may_validate(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a validation may follow upon this batch within the epoch, see `trainer.val_check_interval`."""
    if trainer.datamodule.val_size == 0:  # type: ignore[attr-defined]
        return False
    if trainer.check_val_every_n_epoch is None:  # batches are counted over epochs
        batch_idx += trainer.current_epoch * int(trainer.num_training_batches)
    every = trainer.val_check_batch
    return every is None or (batch_idx + 1) % every == 0


def _tensorboards(trainer: pl.Trainer) -> list[SummaryWriter]:
    """What writes to TensorBoard, on the first process; the others have nothing that could."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]


def _add_picture(trainer: pl.Trainer, name: str, picture: Any) -> None:
    for writer in _tensorboards(trainer):
        writer.add_image(name, picture, trainer.global_step, dataformats="HWC")
