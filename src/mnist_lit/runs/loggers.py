"""A run's scalars on disk: `metrics.csv` and TensorBoard's events. Written, flushed, and cut back to a checkpoint.

A checkpoint holds how long each file was when it was saved. A run that goes on from it first cuts the files to that, so
that its curves have every step once, whatever was written after the checkpoint. Knows nothing of models.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.system.atomic_file import write_atomic

__all__ = ["ResumableCSVLogger", "create_loggers", "flush_loggers", "log_lengths", "truncate_logs"]

METRICS_CSV = "metrics.csv"
TENSORBOARD_EVENTS = "events.out.tfevents.*"


class ResumableCSVLogger(Logger):
    """`metrics.csv`: a row for whatever is logged together, a column for each name.

    Lightning's would delete the rows of a run that goes on, and tears the file if it is killed while a column is added.
    """

    EVERY = 100  # rows between two writings, at most

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_CSV
        self._columns: list[str] = []
        self._waiting: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """The folder of all runs has no name of its own, as TensorBoard's."""
        return ""

    @property
    def version(self) -> str:
        """The run folder's name."""
        return self.path.parent.name

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` says more."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a row until it is written."""
        self._waiting.append({**metrics, "step": step})
        if len(self._waiting) >= self.EVERY:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Append the rows that wait; a new column rewrites the file, whole or not at all."""
        if not self._waiting:
            return
        if not self._columns and self.path.exists():
            self._columns = _rows(self.path)[0]
        columns = sorted({*self._columns, *(name for row in self._waiting for name in row)})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        if columns == self._columns:
            writer.writerows(self._waiting)
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(text.getvalue())
        else:
            head, *rows = _rows(self.path) if self.path.exists() else [[]]
            writer.writeheader()
            writer.writerows(dict(zip(head, row, strict=False)) for row in rows)
            writer.writerows(self._waiting)
            write_atomic(self.path, text.getvalue().encode())
        self._columns, self._waiting = columns, []

    def finalize(self, status: str) -> None:
        """Write what waits."""
        self.save()


def create_loggers(run: Path) -> list[Logger]:
    """The same scalars for TensorBoard and as `metrics.csv`, both in the run folder itself."""
    return [TensorBoardLogger(run.parent, name="", version=run.name, default_hp_metric=False), ResumableCSVLogger(run)]


@rank_zero_only
def flush_loggers(loggers: Iterable[Logger]) -> None:
    """Have everything that was logged in the files. Raises OSError where they cannot be written."""
    for logger in loggers:
        logger.save()
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()


def log_lengths(run: Path) -> dict[str, int]:
    """How long each file is: rows of `metrics.csv`, since a new column rewrites it, and bytes of the events."""
    found = {path.name: path.stat().st_size for path in run.glob(TENSORBOARD_EVENTS)}
    if run.joinpath(METRICS_CSV).exists():
        found[METRICS_CSV] = len(_rows(run / METRICS_CSV)) - 1
    return found


def truncate_logs(run: Path, to: Mapping[str, int]) -> None:
    """Cut each file to the length that `lengths` gave, and remove those that it did not know."""
    for path in run.glob(TENSORBOARD_EVENTS):
        if path.name not in to:
            path.unlink()
        elif path.stat().st_size > to[path.name]:
            os.truncate(path, to[path.name])
    table = run / METRICS_CSV
    if METRICS_CSV not in to:
        table.unlink(missing_ok=True)
    elif table.exists():
        text = io.StringIO(newline="")
        csv.writer(text).writerows(_rows(table)[: to[METRICS_CSV] + 1])
        write_atomic(table, text.getvalue().encode())


def _rows(table: Path) -> list[list[str]]:
    """The head and the rows; [[]] of an empty file."""
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.reader(file)) or [[]]
