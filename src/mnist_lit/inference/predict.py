"""`mnist-lit predict`: read digits from pictures, for people and for programs. No torch unless the model needs it."""

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import FoundDigit, find_digit, find_digits
from mnist_lit.imaging.open_picture import SHOW_SUFFIX, open_picture, picture_names
from mnist_lit.inference.reader import DigitReader, Reading
from mnist_lit.system.atomic_file import write_atomic

__all__ = ["BATCH_SIZE", "COLUMNS", "Row", "encodable", "expand_paths", "read_rows", "to_csv", "to_jsonl"]

COLUMNS = ("file", "box", "digit", "probability", "status", "message")
STDIN = "-"
BATCH_SIZE = 256  # files whose digits are classified at once


class Row(NamedTuple):
    """A digit of a file, or why the file gave none."""

    file: str
    reading: Reading | None
    message: str = ""

    def cells(self) -> dict[str, Any]:
        """The row's columns, as values that can be written."""
        file, message = encodable(self.file), encodable(self.message)
        if self.reading is None:
            return dict(zip(COLUMNS, (file, None, None, None, "error", message), strict=True))
        found = self.reading
        digit = (found.digit, round(found.probability, 6)) if found.digit else (None, None)
        values = (file, list(found.box), *digit)
        return dict(zip(COLUMNS, (*values, found.status, found.message or None), strict=True))


def expand_paths(given: Iterable[str]) -> Iterator[str]:
    """Each named file, and of each folder the pictures in it, also in its folders; itself if there are none."""
    for name in given:
        if not os.path.isdir(name):  # noqa: PTH112  # of a name that no file can have, Path.is_dir raises
            yield name
            continue
        closed: list[OSError] = []  # folders; each becomes a row that says so
        found: list[str] = []
        for folder, _, inner in os.walk(name, onerror=closed.append):
            found += [str(Path(folder, file)) for file in picture_names(inner)]
        found += [str(error.filename) for error in closed]
        yield from sorted(found) or [name]


def read_rows(reader: DigitReader, files: Sequence[str], *, many: bool, show: bool) -> Iterator[Row]:
    """The rows of the files, in their order; threads open the pictures, the network reads many digits at once."""

    def find(file: str) -> tuple[list[FoundDigit], tuple[int, int]] | InputError:
        try:
            if file != STDIN and os.path.isdir(file):  # noqa: PTH112
                raise InputError("no picture is in this folder, or it cannot be read")
            if file != STDIN and os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113
                raise InputError("expected a picture, got a device")
            if file == STDIN and sys.stdin is None:
                raise InputError("expected a picture, got no standard input")
            picture = open_picture(sys.stdin.buffer if file == STDIN else Path(file))
            one = None if many else find_digit(picture)
            return (find_digits(picture) if many else [one] if one else []), picture.info["size"]
        except InputError as error:
            return error
        except Exception as error:  # one file shall not cost the others their rows
            return InputError(f"could not be read ({type(error).__name__})")

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        opened = zip(files, threads.map(find, files), strict=True)
        while batch := list(itertools.islice(opened, BATCH_SIZE)):
            digits = [found for _, what in batch if not isinstance(what, InputError) for found in what[0]]
            readings = iter(reader.readings(digits))
            for file, what in batch:
                if isinstance(what, InputError):
                    yield Row(file, None, str(what))
                    continue
                found, size = what
                here = [next(readings) for _ in found] or [reader.blank(size)]
                message = _show(file, here) if show else ""
                yield from (Row(file, reading) for reading in here)
                if message:
                    yield Row(file, None, message)


def _show(file: str, readings: Sequence[Reading]) -> str:
    """Save what the network saw, eight times as large, side by side; returns why it cannot, or nothing."""
    path = Path("stdin" + SHOW_SUFFIX if file == STDIN else file + SHOW_SUFFIX)
    images = np.concatenate([reading.image for reading in readings], axis=1).repeat(8, axis=0).repeat(8, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(images).save(buffer, "PNG")
    try:
        write_atomic(path, buffer.getbuffer())
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return ""


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        cells = row.cells()
        cells["box"] = " ".join(map(str, cells["box"] or []))
        writer.writerow([_quoted(cell) if isinstance(cell, str) else cell for cell in cells.values()])
    return text.getvalue()


def to_jsonl(rows: Sequence[Row]) -> str:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row.cells(), ensure_ascii=False) + "\n" for row in rows)


def _quoted(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV injection")."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def encodable(name: str) -> str:
    """A file's name as text that can be written, also where it is no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
