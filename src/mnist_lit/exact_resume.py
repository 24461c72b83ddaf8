"""Where Lightning alone would not resume a run exactly, see "What Lightning would not resume exactly" in
docs/decisions.md."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler


class ResumableModule(LightningModule):
    """A LightningModule that resumes with the same bits in the cases that Lightning 2.6.6 gets wrong."""

    @property
    def is_fitting(self) -> bool:
        """Whether a trainer is fitting this module."""
        return self._trainer is not None and self._trainer.training

    def setup(self, stage: str) -> None:
        """With max_steps, Lightning would resume after an epoch as if within it, and skip the next (issue 19617)."""
        if stage == "fit":
            self.trainer.fit_loop._iteration_based_training = bool  # type: ignore[method-assign]  # `bool()` is false

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Convert the module now: Lightning does so only later, and would round float64 weights until then."""
        if self.is_fitting:
            self.trainer.precision_plugin.convert_module(self)

    def on_train_start(self) -> None:
        """Apply a schedule of accumulated batches: within an epoch, Lightning would leave that to the next one."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                now = callback.get_accumulate_grad_batches(self.current_epoch)
                self.trainer.accumulate_grad_batches = now
