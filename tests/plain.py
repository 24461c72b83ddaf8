"""A quiet `L.Trainer` on the CPU, and the embedded digits."""

from typing import Any

import lightning as L

from mnist_lit.datamodule import MNISTDataModule


def trainer(**options: Any) -> L.Trainer:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(**{**quiet, "enable_checkpointing": False, "max_epochs": 1, **options})


def digits(**options: Any) -> MNISTDataModule:
    return MNISTDataModule(**{"dataset": "digits", "val_size": 180, "batch_size": 64, **options})
