"""Read the digits of many files into rows, and rows into CSV or JSON Lines. Imports torch only for a checkpoint."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_lit.evaluation.figures import png_bytes
from mnist_lit.imaging.open_picture import SHOW_SUFFIX, picture_names
from mnist_lit.inference.reader import DigitReader, Reading, with_advice
from mnist_lit.inference.workers import STDIN, propose_chunks
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.csv_file import csv_text

COLUMNS = ("file", "line", "column", "box", "digit", "probability", "status", "message")
CSV_HEADER = csv_text([COLUMNS])
HOW_TO_READ_ALL = "use --many to read them all"
SHOW_SCALE = 8  # by which --show enlarges the network's input
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV injection"


class Row(NamedTuple):
    """One digit of a file, or the reason why the file has none."""

    file: str
    reading: Reading | None
    error: str = ""

    @property
    def status(self) -> str:
        """The reading's status, or "error" without one."""
        return self.reading.status if self.reading else "error"

    @property
    def message(self) -> str:
        """Why there is no digit, why it was rejected, or that there are more."""
        if not self.reading:
            return self.error
        return with_advice(self.reading.message, HOW_TO_READ_ALL)

    def cells(self) -> dict[str, Any]:
        """The row's values by column; None where there is no value."""
        values: tuple[Any, ...] = (None,) * 5
        if reading := self.reading:
            place = (reading.line, reading.column) if reading.digit else (None, None)
            digit = (reading.digit, round(reading.probability, 6)) if reading.digit else (None, None)
            values = (*place, list(reading.box), *digit)
        cells = (encodable(self.file), *values, self.status, encodable(self.message) or None)
        return dict(zip(COLUMNS, cells, strict=True))


def expand_paths(paths: Sequence[str]) -> Iterator[str]:
    """Each file, and each folder's pictures, subfolders included; a folder without pictures stands for itself. Skips
    what `--show` saved beside one of these files, since a wildcard matches that as well."""
    saved = {f"{path}{SHOW_SUFFIX}" for path in paths}
    for path in paths:
        if path in saved:
            continue
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for names no file can have
            yield path
            continue
        unreadable: list[OSError] = []  # each of these folders becomes an error row
        walk = os.walk(path, onerror=unreadable.append)
        found = [str(Path(folder, name)) for folder, _, names in walk for name in picture_names(names)]
        yield from sorted(found + [str(error.filename) for error in unreadable]) or [path]


def read_files(
    reader: DigitReader, files: Sequence[str], *, many: bool, shown: list[Path] | None = None
) -> Iterator[list[Row]]:
    """Each file's rows, in order. Workers find the digits; the network classifies those of a chunk of files at once.
    shown: collects the paths of saved pictures of what the network saw; None saves none."""
    for chunk, found in propose_chunks(files, many=many):
        readings = iter(reader.decide([proposal for proposal in found if not isinstance(proposal, str)]))
        for file, proposal in zip(chunk, found, strict=True):
            if isinstance(proposal, str):
                yield [Row(file, None, proposal)]
                continue
            of_file = next(readings) or [reader.blank(proposal.size)]
            failure = "" if shown is None else _show(file, of_file, shown)
            yield [*(Row(file, reading) for reading in of_file), *([Row(file, None, failure)] if failure else [])]


def _show(file: str, readings: Sequence[Reading], shown: list[Path]) -> str:
    """Save the network's inputs, enlarged, each line of text side by side; returns the error message if that fails,
    else nothing."""
    path = Path(("stdin" if file == STDIN else file) + SHOW_SUFFIX)
    by_line = groupby(readings, key=lambda reading: reading.line)
    lines = [np.concatenate([reading.image for reading in line], axis=1) for _, line in by_line]  # (28, 28 N) each
    width = max(line.shape[1] for line in lines)
    images = np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines])
    try:
        write_atomic(path, png_bytes(images.repeat(SHOW_SCALE, axis=0).repeat(SHOW_SCALE, axis=1)))
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    shown.append(path)
    return ""


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV without CSV_HEADER. Text that a spreadsheet would run as a formula gets a quote in front."""
    table: list[Sequence[Any]] = []
    for row in rows:
        cells = row.cells()
        cells["box"] = " ".join(map(str, cells["box"] or []))
        table.append([f"'{cell}" if str(cell).startswith(FORMULA_STARTS) else cell for cell in cells.values()])
    return csv_text(table)


def to_jsonl(rows: Iterable[Row]) -> str:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row.cells(), ensure_ascii=False) + "\n" for row in rows)


def is_table(start: bytes, suffix: str) -> bool:
    """Whether a file that begins with `start`, at least its first line, is a table that this module wrote."""
    if suffix.lower() == ".csv":
        return start.startswith(CSV_HEADER.strip().encode())
    try:
        row = json.loads(start.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and row.keys() == {*COLUMNS}


def encodable(name: str) -> str:
    """A file name as text that can be written, even if it is not valid UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
