"""`predictions.csv`: what the network predicted for every test image."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from mnist_lit.data.in_memory import classes_of
from mnist_lit.data.loaders import Batch
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.csv_file import csv_text
from mnist_lit.system.distributed import all_gather_objects


class WritePredictions(Callback):
    """Write index, label, prediction and the probability of each class; for a folder of pictures also the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[list[Any]] = []

    def on_test_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        batch = Batch.of(batch, batch_idx=batch_idx)
        self._parts.append((batch.indices.cpu(), batch.labels.cpu(), outputs.float().exp().cpu()))

    def on_test_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Collect the rows of all processes, in the dataset's order."""
        own = tuple(torch.cat(column) for column in zip(*self._parts, strict=True))
        indices, labels, probs = map(torch.cat, zip(*all_gather_objects(own), strict=True))
        if not trainer.is_global_zero:
            return
        order = indices.argsort()
        dataset = getattr(trainer.datamodule, "digits", None)  # type: ignore[attr-defined]
        files = dataset.files if dataset else ()  # empty unless every image has its own
        names = (f"prob_{name}" for name in classes_of(trainer, probs.shape[1]))
        rows: list[list[Any]] = [["index", "label", "predicted", *names]]
        rows[0] += ["file"] if files else []
        positions = indices[order].tolist() if dataset else range(len(order))  # other loaders do not know them
        for index, label, row in zip(positions, labels[order].tolist(), probs[order], strict=True):
            probabilities = [f"{p:.9g}" for p in row.tolist()]
            rows.append([index, label, int(row.argmax()), *probabilities, *files[index : index + 1]])
        self._rows = rows

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Write one file, which appears complete or not at all. By now `ScoreTable` has printed: a full disk must not
        cost the score."""
        rows, self._rows = self._rows, []
        if rows:
            with report_write_errors(self.path):
                write_atomic(self.path, csv_text(rows).encode())
