"""What is kept of training and testing: checkpoints, figures and scores for TensorBoard, predictions.

No loss and no surgery on the model.
"""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from mnist_lit.data.loaders import Batch
from mnist_lit.module import BestValidation, MNISTModule
from mnist_lit.runs.checkpoint import METADATA_KEY, metadata
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT
from mnist_lit.runs.loggers import flush_loggers, log_lengths
from mnist_lit.runs.start import RunStart

__all__ = ["SaveBestAndLast", "is_optimizer_step", "validation_may_follow"]


class SaveBestAndLast(Checkpoint):
    """`best.ckpt` after a validation better than all before it, `last.ckpt` after each epoch and where training stops.

    With `every_n_steps` also within an epoch; with `keep_epochs` also `epoch_1.ckpt` and so on. Every file describes
    itself: `config`, the run's whole YAML, goes into it, see `metadata`.
    """

    def __init__(self, start: RunStart, config: str, *, every_n_steps: int = 0, keep_epochs: bool = False) -> None:
        self.start, self.config = start, config
        self.every_n_steps, self.keep_epochs = every_n_steps, keep_epochs
        self._whole_epoch = True  # also where a run is resumed after an epoch's last step
        self.due = self._stopping = False
        self._saved_best: BestValidation | None = None
        self._scores: dict[str, Any] = {}  # of before a resume

    def save(self, trainer: pl.Trainer, name: str = LAST_CKPT) -> None:
        """Write a checkpoint; called on every process."""
        assert self.start.run
        trainer.save_checkpoint(self.start.run / "checkpoints" / name)
        self.due = self.due and name != LAST_CKPT

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if no earlier validation was as good."""
        assert isinstance(pl_module, MNISTModule)
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
        if not is_optimizer_step(trainer, batch_idx):  # the gradients so far would be lost
            self._stopping, trainer.should_stop = self._stopping or trainer.should_stop, False
            return
        trainer.should_stop = trainer.should_stop or self._stopping
        if self._whole_epoch:
            return
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self.due = True
        stops = trainer.should_stop or trainer.global_step == trainer.max_steps
        if stops or (self.due and not validation_may_follow(trainer, batch_idx)):
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
            self.start.run.joinpath(FINISHED_MARK).touch()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Write the recipe, the data's fingerprint, versions and scores into the file, and how long the curves are."""
        assert isinstance(pl_module, MNISTModule)
        assert self.start.run
        flush_loggers(trainer.loggers)
        lengths = log_lengths(self.start.run) if trainer.is_global_zero else {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        content["best"] = pl_module.best and list(pl_module.best)
        scores = self._scores | dict(trainer.callback_metrics)
        content[METADATA_KEY] = metadata(self.config, data.fingerprint, data.classes, scores, lengths)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any]) -> None:
        """Go on comparing with the best score so far, if its file is in this run's folder; else start anew."""
        assert isinstance(pl_module, MNISTModule)
        if self.start.continues:
            self._scores = content[METADATA_KEY]["scores"]
        if self.start.continues and content["best"]:
            pl_module.best = self._saved_best = BestValidation(*content["best"])


def is_optimizer_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer stepped after this batch; several batches may be one step."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches == 0 or done >= trainer.num_training_batches


def validation_may_follow(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a validation may follow upon this batch within the epoch, see `trainer.val_check_interval`."""
    if trainer.datamodule.val_size == 0:  # type: ignore[attr-defined]
        return False
    if trainer.check_val_every_n_epoch is None:  # batches are counted over epochs
        batch_idx += trainer.current_epoch * int(trainer.num_training_batches)
    every = trainer.val_check_batch
    return every is None or (batch_idx + 1) % every == 0
