"""What is kept of training and testing: checkpoints, figures and scores for TensorBoard, predictions.

No loss and no surgery on the model.
"""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mnist_lit.callbacks.checkpoints import SaveBestAndLast, is_optimizer_step, validation_may_follow
from mnist_lit.data.loaders import Batch
from mnist_lit.errors import StoppedBySignal, TrainingDiverged
from mnist_lit.runs.folders import LAST_CKPT, best_checkpoint
from mnist_lit.runs.start import RunStart
from mnist_lit.system.signals import DeferredSignals

__all__ = ["StopOnDivergence", "StopOnSignal"]


class StopOnSignal(Callback):
    """SIGTERM or Ctrl-C, on any process, ends the fit on all of them once the step is done and saved."""

    def __init__(self, saver: SaveBestAndLast | None) -> None:
        self.saver = saver
        self._noted = DeferredSignals()
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
        if not ends and talks and is_optimizer_step(trainer, batch_idx) and (signum := self._agreed(trainer)):
            if self.saver and validation_may_follow(trainer, batch_idx):
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
        last = run / "checkpoints" / LAST_CKPT if run else None
        if last and last.exists():
            where += f"saved {last}, and the same command with --resume auto goes on from there"
        else:
            where += "nothing was saved"
        raise StoppedBySignal(signum, where)


class StopOnDivergence(Callback):
    """Stops a fit that diverged, and lets no checkpoint with such weights be written."""

    def __init__(self, start: RunStart) -> None:
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
        best = best_checkpoint(self.start.run) if self.start.run else None
        kept = f"{best} was saved before" if best else "no checkpoint was saved yet"
        where = f"at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        raise TrainingDiverged(f"{what} {where}; lower model.lr, which is {pl_module.hparams['lr']} ({kept})")
