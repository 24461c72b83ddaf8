"""A run's scalars on disk, as `metrics.csv` and TensorBoard events. A checkpoint stores the length of each file when it
was saved. A resumed run first truncates the files to these lengths, so its curves have every step exactly once."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import METRICS_CSV
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.csv_file import csv_text, read_csv_rows
from mnist_lit.system.regular_file import read_regular_file

TENSORBOARD_EVENTS = "events.out.tfevents.*"


class ResumableCSVLogger(Logger):
    """Write `metrics.csv`: a row per call of `log_metrics`, a column per metric, in alphabetical order. Our own, since
    Lightning's CSVLogger deletes a resumed run's rows, and a kill while it adds a column damages the file."""

    BUFFERED_ROWS = 100  # at most
    saved_with_checkpoints = True  # by `flush_loggers`, rather than at every step

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_CSV
        self._columns: list[str] = []
        self._buffer: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return ""  # as for TensorBoard: runs lie directly in the folder of all runs

    @property
    def version(self) -> str:
        return self.path.parent.name

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `config.yaml` holds more."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # A callback's own metric may be a tensor, or have a line break in its name.
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        self._buffer.append({" ".join(name.split()): value for name, value in plain.items()} | {"step": step})
        if len(self._buffer) >= self.BUFFERED_ROWS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Append the buffered rows; a new column rewrites the file atomically."""
        if not self._buffer:
            return
        self._columns = self._columns or _read_rows(self.path)[0]
        columns = sorted({*self._columns, *(name for row in self._buffer for name in row)})
        new = [[row.get(name) for name in columns] for row in self._buffer]
        if columns == self._columns:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(csv_text(new))
        else:
            header, *rows = _read_rows(self.path)
            by_name = (dict(zip(header, row, strict=False)) for row in rows)
            old = [[row.get(name) for name in columns] for row in by_name]
            write_atomic(self.path, csv_text([columns, *old, *new]).encode())
        self._columns, self._buffer = columns, []


class GroupedTensorBoardLogger(TensorBoardLogger):
    """Log the learning rate and the epoch under `train/`: TensorBoard groups tags by the part before the slash, and
    would list these two first."""

    saved_with_checkpoints = True
    GROUPED: Mapping[str, str] = {"lr": "train/lr", "epoch": "train/epoch"}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({self.GROUPED.get(name, name): value for name, value in metrics.items()}, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `TensorBoardOverview` fills TensorBoard's table."""


def create_loggers(run: Path) -> list[Logger]:
    """Loggers that write the same scalars to TensorBoard events and `metrics.csv`, both directly in the run folder."""
    tensorboard = GroupedTensorBoardLogger(run.parent, name="", version=run.name, default_hp_metric=False)
    return [tensorboard, ResumableCSVLogger(run)]


@rank_zero_only
def flush_loggers(loggers: Iterable[Logger]) -> None:
    """Write everything that was logged to the files. Raises OSError if they cannot be written."""
    for logger in loggers:
        logger.save()
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()


def log_lengths(run: Path) -> dict[str, int]:
    """The length of each log: events in bytes, `metrics.csv` in rows, since a new column changes its bytes."""
    lengths = {path.name: path.stat().st_size for path in run.glob(TENSORBOARD_EVENTS)}
    if run.joinpath(METRICS_CSV).exists():
        lines = read_regular_file(run / METRICS_CSV).count(b"\n")  # no name or number holds a line break
        lengths[METRICS_CSV] = max(lines - 1, 0)
    return lengths


def truncate_logs(run: Path, to: Mapping[str, int]) -> None:
    """Truncate each log to its length in `to`, see `log_lengths`, and remove the logs that are not in it."""
    for path in run.glob(TENSORBOARD_EVENTS):
        if path.name not in to:
            path.unlink()
        elif path.stat().st_size > to[path.name]:
            os.truncate(path, to[path.name])
    metrics = run / METRICS_CSV
    if METRICS_CSV not in to:
        metrics.unlink(missing_ok=True)
    elif metrics.exists():
        write_atomic(metrics, csv_text(_read_rows(metrics)[: to[METRICS_CSV] + 1]).encode())


def _read_rows(metrics: Path) -> list[list[str]]:
    """The header and the rows; [[]] if there are none. A damaged byte must not stop a run from resuming. Raises
    InputError if the file is not a table."""
    try:
        return (read_csv_rows(metrics, errors="replace") if metrics.exists() else []) or [[]]
    except csv.Error as error:
        raise InputError(f"{metrics} is not the table that this run wrote ({error}); remove it") from error
