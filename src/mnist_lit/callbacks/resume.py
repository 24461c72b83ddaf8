"""`--resume auto`: the newest checkpoint of the same recipe, in a run that nobody else holds. Or a fresh start.

The first process looks; the others are told when they can be, which is after the trainer has started. Trains nothing.
"""

import os

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch.nn.parallel import DistributedDataParallel

from mnist_lit.runs.start import RunStart
from mnist_lit.system.distributed import rank_ordered_mean

__all__ = ["BroadcastResume", "RankOrderedGradients", "ResumePath", "RunFinished"]


class RunFinished(Exception):
    """The run that would go on is at its end; raised on every process."""


class ResumePath(os.PathLike[str]):
    """The checkpoint of a Start for Lightning, which asks for it after the processes have agreed, if there is one."""

    def __init__(self, start: RunStart) -> None:
        self.start, self.agreed = start, False

    def __bool__(self) -> bool:
        return not self.agreed or self.start.checkpoint is not None

    def __fspath__(self) -> str:
        return str(self.start.checkpoint)


class BroadcastResume(Callback):
    """Tells every process what the first one found; stands before all other callbacks."""

    def __init__(self, start: RunStart) -> None:
        self.start = start
        self.found = ResumePath(start)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take over what the first process knows."""
        vars(self.start).update(trainer.strategy.broadcast(vars(self.start)))
        self.found.agreed = True
        if self.start.finished:
            raise RunFinished


class RankOrderedGradients(Callback):
    """Several processes add their gradients in one order, also after a resume; see `rank_ordered_mean`."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell DDP, which wraps the module by now."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.register_comm_hook(None, rank_ordered_mean)
