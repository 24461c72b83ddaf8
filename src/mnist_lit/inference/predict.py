"""Read the digits of many files into rows, and rows into CSV or JSON Lines. Imports torch only for a checkpoint."""

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_lit.errors import InputError
from mnist_lit.evaluation.figures import png_bytes
from mnist_lit.imaging.mnist_format import FoundDigit, find_digit, find_digits
from mnist_lit.imaging.open_picture import SHOW_SUFFIX, open_picture, picture_names
from mnist_lit.inference.reader import DigitReader, Reading
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.csv_file import csv_text

COLUMNS = ("file", "box", "digit", "probability", "status", "message")
STDIN = "-"
BATCH_SIZE = 256  # files whose digits are classified together
SHOW_SCALE = 8  # by which --show enlarges the network's input
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV injection"


class Row(NamedTuple):
    """One digit of a file, or the reason why the file has none."""

    file: str
    reading: Reading | None
    message: str = ""

    def cells(self) -> dict[str, Any]:
        """The row's values by column; None where there is no value."""
        values: tuple[Any, ...] = (None, None, None, "error", encodable(self.message))
        if reading := self.reading:
            digit = (reading.digit, round(reading.probability, 6)) if reading.digit else (None, None)
            values = (list(reading.box), *digit, reading.status, reading.message or None)
        return dict(zip(COLUMNS, (encodable(self.file), *values), strict=True))


def expand_paths(paths: Iterable[str]) -> Iterator[str]:
    """Each file, and each folder's pictures, subfolders included; a folder without pictures stands for itself."""
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for names no file can have
            yield path
            continue
        unreadable: list[OSError] = []  # each of these folders becomes an error row
        walk = os.walk(path, onerror=unreadable.append)
        found = [str(Path(folder, name)) for folder, _, names in walk for name in picture_names(names)]
        yield from sorted(found + [str(error.filename) for error in unreadable]) or [path]


def read_rows(reader: DigitReader, files: Sequence[str], *, many: bool, show: bool) -> Iterator[Row]:
    """The files' rows, in order. Threads open the pictures; the network classifies the digits of a batch of files."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = zip(files, threads.map(lambda file: _find(file, many=many), files), strict=True)
        while batch := list(itertools.islice(results, BATCH_SIZE)):
            readings = iter(reader.readings([digit for _, (found, _, _) in batch for digit in found]))
            for file, (found, size, error) in batch:
                if error:
                    yield Row(file, None, error)
                    continue
                of_file = [next(readings) for _ in found] or [reader.blank(size)]
                yield from (Row(file, reading) for reading in of_file)
                if show and (failure := _show(file, of_file)):
                    yield Row(file, None, failure)


def _find(file: str, *, many: bool) -> tuple[list[FoundDigit], tuple[int, int], str]:
    """A picture's digits, its size and an error message: one bad file must not cost the others their rows."""
    try:
        if file == STDIN and sys.stdin is None:
            raise InputError("expected a picture on standard input, got no standard input")
        if file != STDIN and os.path.isdir(file):  # noqa: PTH112
            raise InputError("this folder has no pictures or cannot be read")
        if file != STDIN and os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113
            raise InputError("expected a picture, got a device or a pipe")
        picture = open_picture(sys.stdin.buffer if file == STDIN else Path(file))
        digits = find_digits(picture) if many else [find_digit(picture)]
        return [digit for digit in digits if digit], picture.info["size"], ""
    except Exception as error:
        message = str(error) if isinstance(error, InputError) else f"could not be read ({type(error).__name__})"
        return [], (0, 0), message


def _show(file: str, readings: Sequence[Reading]) -> str:
    """Save the network's inputs side by side, enlarged; returns the error message if that fails, else nothing."""
    path = Path(("stdin" if file == STDIN else file) + SHOW_SUFFIX)
    images = np.concatenate([reading.image for reading in readings], axis=1)  # (28, 28 N)
    try:
        write_atomic(path, png_bytes(images.repeat(SHOW_SCALE, axis=0).repeat(SHOW_SCALE, axis=1)))
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return ""


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV with a header. Text that a spreadsheet would run as a formula gets a quote in front."""
    table: list[Sequence[Any]] = [COLUMNS]
    for row in rows:
        cells = row.cells()
        cells["box"] = " ".join(map(str, cells["box"] or []))
        table.append([f"'{cell}" if str(cell).startswith(FORMULA_STARTS) else cell for cell in cells.values()])
    return csv_text(table)


def to_jsonl(rows: Iterable[Row]) -> str:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row.cells(), ensure_ascii=False) + "\n" for row in rows)


def encodable(name: str) -> str:
    """A file name as text that can be written, even if it is not valid UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
