"""Calibrate a run's best checkpoint once its fit is complete."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import nn

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.calibration import calibrate_checkpoint
from mnist_lit.evaluation.checkpoint_data import require_same_data
from mnist_lit.own_network import is_tutorial
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import best_checkpoint
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import say


class CalibrateBest(Callback):
    """Fit the temperature and the outlier detector of the best checkpoint if images were held out for validation."""

    def __init__(self, start: RunStart) -> None:
        self.start = start

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Calibrate after every other callback has finished."""
        if trainer.is_global_zero and self.start.run:
            self.calibrate(self.start.run, trainer.datamodule, pl_module.network)  # type: ignore[attr-defined]

    def calibrate(self, run: Path, datamodule: MNISTDataModule, network: nn.Module) -> None:
        """Calibrate a run's best checkpoint unless that was done before a kill. Raises InputError for other data."""
        path = best_checkpoint(run)
        content = load_checkpoint(path) if path and datamodule.val_size else {}
        if not path or not content or Metadata.of(content).calibration:
            return
        datamodule.setup()
        require_same_data(content, datamodule, path, "--data.data_dir")
        assert datamodule.digits
        indices = datamodule.train_indices, datamodule.val_indices
        own = None if is_tutorial(network) else network
        say(f"fit: calibrating {path}, which may take a minute or two", flush=True)
        calibrate_checkpoint(path, path, datamodule.digits, *indices, network=own)
