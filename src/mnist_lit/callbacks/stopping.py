"""Stop a fit early: on a signal, once the step is complete and saved, or when the loss is no longer finite."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.callbacks.checkpoints import (
    SaveBestAndLast,
    ends_epoch,
    is_last_step,
    is_optimizer_step,
    validation_may_follow,
)
from mnist_lit.data.loaders import Batch
from mnist_lit.errors import InputError, StoppedBySignal, TrainingDiverged
from mnist_lit.runs.folders import CHECKPOINTS, CONFIG_YAML, LAST_CKPT, best_checkpoint
from mnist_lit.runs.recipes import command_line
from mnist_lit.runs.start import RunStart
from mnist_lit.system.signals import DeferredSignals


class StopOnSignal(Callback):
    """SIGTERM, SIGUSR1 or Ctrl-C on any process ends the fit on all of them, once the step is complete and saved.

    Lightning communicates with the other processes from its signal handler, and its launcher kills rank 0 if another
    process exits with an error. Here a signal only sets a flag; after each step the processes agree whether to stop.
    """

    def __init__(self, saver: SaveBestAndLast | None = None) -> None:
        self.saver, self.start = saver, saver.start if saver else RunStart()
        self._signals = DeferredSignals()
        self._pending = 0

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers."""
        self._signals.install()

    on_train_start = on_sanity_check_start  # there may be no sanity check

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Save and stop within an epoch. After the last step of the epoch or the fit, the hooks at its end do that."""
        at_end = ends_epoch(trainer, batch_idx) or is_last_step(trainer)
        # On GPUs, agreeing costs a synchronization, so they agree only every tenth step.
        agrees = trainer.world_size == 1 or pl_module.device.type == "cpu" or trainer.global_step % 10 == 0
        if not at_end and agrees and is_optimizer_step(trainer, batch_idx) and (signum := self._agreed(trainer)):
            # The saver, which runs later, has held back a request to stop between accumulated batches.
            trainer.should_stop = trainer.should_stop or bool(self.saver and self.saver.stopping)
            if self.saver and validation_may_follow(trainer, batch_idx):
                self.saver.due, self._pending = True, signum  # saved after the validation
                return
            if self.saver:
                self.saver.save(trainer)
            self._stop(trainer, signum)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop after a validation within an epoch."""
        if self._pending and self.saver and not self.saver.due:
            self._stop(trainer, self._pending)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch, which was saved at its end."""
        if signum := self._agreed(trainer):
            self._stop(trainer, signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note a signal that came after the last step: nothing is left to train, but the run must still be marked."""
        self._pending = self._agreed(trainer)

    def stop_after_fit(self, trainer: Trainer) -> None:
        """Stop after a complete fit, before its best checkpoint is calibrated."""
        if signum := self._pending or self._signals.signum:
            holds_out = getattr(trainer.datamodule, "val_size", 0) if self.saver else 0  # type: ignore[attr-defined]
            left = f"; {self._resume_command(trainer)} calibrates the best checkpoint" if holds_out else ""
            raise StoppedBySignal(signum, f"at step {trainer.global_step}, the last one{left}")

    def _agreed(self, trainer: Trainer) -> int:
        """The signal that any process has received; 0 if there is none."""
        if trainer.world_size == 1:
            return self._signals.signum
        own = torch.tensor(float(self._signals.signum), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    def _stop(self, trainer: Trainer, signum: int) -> None:
        saved, run = "nothing was saved", self.start.run
        if run and (last := run / CHECKPOINTS / LAST_CKPT).exists():
            saved = f"saved {last}; {self._resume_command(trainer)} continues from there"
        raise StoppedBySignal(signum, f"at step {trainer.global_step}; {saved}")

    def _resume_command(self, trainer: Trainer) -> str:
        """What to type to continue, for a message."""
        run = self.start.run
        if trainer.ckpt_path and run and not self.start.continues:  # the command names another checkpoint
            return f"`{command_line(['fit', '--config', str(run / CONFIG_YAML), '--resume', 'auto'])}`"
        return "the same command with --resume auto"


class StopOnDivergence(Callback):
    """Stop a fit whose loss or weights are not finite, before such weights are saved."""

    def __init__(self, start: RunStart | None = None) -> None:
        self.start = start or RunStart()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network with an infinite buffer, such as a mask: our commands load no checkpoint that has one."""
        if names := [name for name, value in pl_module.state_dict().items() if not _is_finite(value)]:
            hint = "register a buffer that may be infinite with persistent=False"
            raise InputError(f"model.{names[0]} is not finite; {hint}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Check the loss: at every step if that costs nothing, otherwise when it is logged anyway."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if pl_module.device.type == "cpu" and trainer.world_size == 1:
            loss = (outputs or {}).get("loss")  # with manual optimization there may be none
        elif every and trainer.global_step and trainer.global_step % every == 0:
            loss = getattr(pl_module, "latest_loss", None)  # the same on every process
        else:
            return
        if loss is not None and not math.isfinite(loss):
            self._stop(trainer, pl_module, f"the loss is {float(loss)}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation loss, if the module logs one: weights may be useless and still finite."""
        loss = trainer.callback_metrics.get("val/loss", 0.0)
        if not trainer.sanity_checking and not math.isfinite(loss):
            self._stop(trainer, pl_module, f"val/loss is {float(loss)}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Check the weights, which the last step may have ruined after its loss was computed."""
        if not all(map(_is_finite, pl_module.state_dict().values())):
            self._stop(trainer, pl_module, "weights are not finite")

    def _stop(self, trainer: Trainer, pl_module: LightningModule, reason: str) -> None:
        best = best_checkpoint(self.start.run) if self.start.run else None
        kept = f"{best} was saved before" if best else "no checkpoint was saved yet"
        where = f"at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        lr = f"model.lr, which is {pl_module.hparams['lr']}" if "lr" in pl_module.hparams else "the learning rate"
        raise TrainingDiverged(f"{reason} {where}; lower {lr} ({kept})")


def _is_finite(value: Any) -> bool:
    return not torch.is_tensor(value) or bool(value.isfinite().all())
