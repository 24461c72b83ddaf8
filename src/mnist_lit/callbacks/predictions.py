"""`predictions.csv`: what the network predicted for every test image."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from mnist_lit.data.in_memory import classes_of
from mnist_lit.data.loaders import Batch
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.csv_file import csv_text
from mnist_lit.system.distributed import all_gather_objects


class WritesFile(Callback):
    """Writes a file during a test. If that fails, raises only in `teardown`, after `ScoreTable` has printed: a full
    disk does not cost the score, nor a closed pipe the file."""

    _error: InputError | None = None

    @contextmanager
    def raise_later(self, path: Path) -> Iterator[None]:
        """Write the file inside the block; if that fails, `teardown` raises the error."""
        try:
            with report_write_errors(path):
                yield
        except InputError as error:
            self._error = error

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Raise InputError if the file could not be written."""
        error, self._error = self._error, None
        if error:
            raise error


class WritePredictions(WritesFile):
    """Write index, label, prediction, each class's probability and, for a folder of pictures, the file's name."""

    def __init__(self, path: Path, checkpoint: Path | None = None, step: int = 0) -> None:
        """checkpoint: the file that is tested, and step: its `global_step`. If a fit that is still running replaces the
        file during the test, nothing is written."""
        self.path, self.checkpoint, self.step = path, checkpoint, step

    def on_test_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        batch = Batch.of(batch, batch_idx=batch_idx)
        self._parts.append((batch.indices.cpu(), batch.labels.cpu(), outputs.float().exp().cpu()))

    def on_test_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write one file for all processes, in the dataset's order; it appears complete or not at all."""
        own = tuple(torch.cat(column) for column in zip(*self._parts, strict=True))
        indices, labels, probs = map(torch.cat, zip(*all_gather_objects(own), strict=True))
        if not trainer.is_global_zero:
            return
        order = indices.argsort()
        data = trainer.datamodule  # type: ignore[attr-defined]
        is_ours = isinstance(data, MNISTDataModule)
        files = data.in_memory.files if is_ours else ()  # empty unless every image has its own
        names = (f"prob_{name}" for name in classes_of(trainer, probs.shape[1]))
        rows: list[list[Any]] = [["index", "label", "predicted", *names]]
        rows[0] += ["file"] if files else []
        positions = indices[order].tolist() if is_ours else range(len(order))  # other loaders do not know them
        for index, label, row in zip(positions, labels[order].tolist(), probs[order], strict=True):
            probabilities = [f"{p:.9g}" for p in row.tolist()]
            rows.append([index, label, int(row.argmax()), *probabilities, *files[index : index + 1]])
        with self.raise_later(self.path):
            if self.checkpoint and load_checkpoint(self.checkpoint)["global_step"] != self.step:
                raise InputError(f"{self.checkpoint} was replaced while it was tested; repeat the command")
            write_atomic(self.path, csv_text(rows).encode())
