"""Exact resume inside a fit: tell every process where to resume, and sum gradients in rank order."""

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel

from mnist_lit.runs.start import RunStart
from mnist_lit.system.distributed import rank_ordered_mean


class RunFinished(Exception):
    """The run to resume is already complete; raised on every process."""


class ResumePath(os.PathLike[str]):
    """The checkpoint to resume from, as Lightning's `ckpt_path`, which Lightning reads after the broadcast."""

    def __init__(self, start: RunStart) -> None:
        self.start, self.broadcast = start, False

    def __bool__(self) -> bool:
        return not self.broadcast or self.start.checkpoint is not None

    def __fspath__(self) -> str:
        return str(self.start.checkpoint)


class BroadcastResume(Callback):
    """Tell every process where the fit begins. Must come before all other callbacks.

    Rank 0 alone searches for the run to resume, since by the time the others start the run is locked and may have been
    written to. Processes can communicate only once the trainer has set up its strategy, so this is a callback.
    """

    def __init__(self, start: RunStart) -> None:
        self.start = start
        self.path = ResumePath(start)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over what rank 0 found."""
        vars(self.start).update(trainer.strategy.broadcast(vars(self.start)))
        self.path.broadcast = True
        if self.start.finished:
            raise RunFinished

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note that training has begun: from now on the run folder stays, whatever happens."""
        self.start.has_trained = True


class RankOrderedGradients(Callback):
    """Sum gradients in the order of the ranks, including after a resume; see `distributed.rank_ordered_mean`."""

    def on_fit_start(self, trainer: Trainer, *_: Any) -> None:
        """Register the hook with DDP, which has wrapped the module by now."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.register_comm_hook(None, rank_ordered_mean)
