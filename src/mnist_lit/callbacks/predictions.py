"""What is kept of training and testing: checkpoints, figures and scores for TensorBoard, predictions.

No loss and no surgery on the model.
"""

import csv
import io
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mnist_lit.data.loaders import Batch
from mnist_lit.errors import InputError
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.distributed import all_gather_objects

__all__ = ["WritePredictions"]


class WritePredictions(Callback):
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
        indices, labels, probs = (torch.cat(column) for column in zip(*all_gather_objects(mine), strict=True))
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
            write_atomic(self.path, text.getvalue().encode())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error
