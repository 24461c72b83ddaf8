"""`mnist-lit predict`: read digits from pictures, for people and for programs. No torch unless the model needs it."""

import csv
import io
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from mnist_lit import pictures, pixels
from mnist_lit.errors import InputError
from mnist_lit.files import write_whole
from mnist_lit.reader import DigitReader, Reading
from mnist_lit.suggest import Parser

__all__ = ["COLUMNS", "Row", "main"]

COLUMNS = ("file", "box", "digit", "probability", "status", "message")
STDIN = "-"
BATCH = 256  # files whose digits are classified at once


class Row(NamedTuple):
    """A digit of a file, or why the file gave none."""

    file: str
    reading: Reading | None
    message: str = ""

    def cells(self) -> dict[str, Any]:
        """The row's columns, as values that can be written."""
        file, message = _written(self.file), _written(self.message)
        if self.reading is None:
            return dict(zip(COLUMNS, (file, None, None, None, "error", message), strict=True))
        found = self.reading
        digit = (found.digit, round(found.probability, 6)) if found.digit else (None, None)
        values = (file, list(found.box), *digit)
        return dict(zip(COLUMNS, (*values, found.status, found.message or None), strict=True))


def main(command: str, args: list[str]) -> int:
    """Print a table, or write one; returns 1 if any file failed, else 0."""
    options = _parser(command).parse_args(args)
    files = list(_files(options.pictures))
    output: Path | None = options.output
    if output and output.suffix not in (".csv", ".jsonl"):
        raise InputError(f"--output: want a name that ends in .csv or .jsonl, got {output}")
    reader = DigitReader.load(options.model, threshold=options.threshold)
    print(f"predict: {reader.path}{reader.note}, rejecting outliers above {reader.threshold:g}", file=sys.stderr)
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True, disable=len(files) < BATCH) as progress:
        task = progress.add_task("reading", total=len(files))
        for row in _rows(reader, files, many=options.many, show=options.show):
            progress.advance(task, not rows or rows[-1].file != row.file)
            rows.append(row)
    if output:
        try:
            write_whole(output, (_jsonl(rows) if output.suffix == ".jsonl" else _csv(rows)).encode())
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error
        counts = Counter(row.cells()["status"] for row in rows)
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items())
        print(f"predict: {len(rows):,} rows in {output}: {told}", file=sys.stderr)
    else:
        _print_table(rows, boxes=options.many)
    return int(any(row.reading is None for row in rows))


def _parser(command: str) -> Parser:
    parser = Parser(
        command,
        "Read the digit in each picture, or with --many each digit.",
        epilog="Exit code 0: every file was read; 1: some file could not be; 2: wrong input.",
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER|-", help="- reads a picture from standard input")
    model = "a checkpoint, a run, an exported .onnx, latest or pretrained (default: the newest run, else pretrained)"
    parser.add_argument("--model", help=model)
    threshold = "reject what is more of an outlier: 0 rejects all, 1 nothing (default: the model's own)"
    parser.add_argument("--threshold", type=float, help=threshold)
    parser.add_argument("--many", action="store_true", help="find several digits, in reading order")
    parser.add_argument("--output", type=Path, metavar="FILE.csv|FILE.jsonl", help="a row per digit, for programs")
    shown = f"save what the network saw beside the picture, as NAME{pictures.SEEN}"
    parser.add_argument("--show", action="store_true", help=shown)
    return parser


def _files(given: Iterable[str]) -> Iterator[str]:
    """Each named file, and of each folder the pictures in it, also in its folders; itself if there are none."""
    for name in given:
        if not os.path.isdir(name):  # noqa: PTH112  # of a name that no file can have, Path.is_dir raises
            yield name
            continue
        closed: list[OSError] = []  # folders; each becomes a row that says so
        found: list[str] = []
        for folder, _, inner in os.walk(name, onerror=closed.append):
            found += [str(Path(folder, file)) for file in pictures.are_pictures(inner)]
        found += [str(error.filename) for error in closed]
        yield from sorted(found) or [name]


def _rows(reader: DigitReader, files: Sequence[str], *, many: bool, show: bool) -> Iterator[Row]:
    """The rows of the files, in their order; threads open the pictures, the network reads many digits at once."""

    def find(file: str) -> tuple[list[pixels.Found], tuple[int, int]] | InputError:
        try:
            if file != STDIN and os.path.isdir(file):  # noqa: PTH112
                raise InputError("no picture is in this folder, or it cannot be read")
            if file != STDIN and os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113
                raise InputError("want a picture, got a device")
            if file == STDIN and sys.stdin is None:
                raise InputError("want a picture, got no standard input")
            picture = pictures.load(sys.stdin.buffer if file == STDIN else Path(file))
            one = None if many else pixels.find_digit(picture)
            return (pixels.find_digits(picture) if many else [one] if one else []), picture.info["size"]
        except InputError as error:
            return error
        except Exception as error:  # one file shall not cost the others their rows
            return InputError(f"could not be read ({type(error).__name__})")

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        opened = zip(files, threads.map(find, files), strict=True)
        while batch := list(itertools.islice(opened, BATCH)):
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
    path = Path("stdin" + pictures.SEEN if file == STDIN else file + pictures.SEEN)
    images = np.concatenate([reading.image for reading in readings], axis=1).repeat(8, axis=0).repeat(8, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(images).save(buffer, "PNG")
    try:
        write_whole(path, buffer.getbuffer())
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return ""


def _print_table(rows: Sequence[Row], *, boxes: bool) -> None:
    """For people: a line per digit."""
    names = [_printable(row.file) for row in rows]
    width = min(max(map(len, ["file", *names])), 60)
    wide = max([5, *(len(row.reading.digit) for row in rows if row.reading)])
    print(f"{'file':<{width}}  {'digit':>{wide}}  probability  status    {'box' if boxes else ''}".rstrip())
    for name, row in zip(names, rows, strict=True):
        if row.reading is None:
            print(f"{name:<{width}}  {'-':>{wide}}  {'-':>11}  error     {_printable(row.message)}")
            continue
        found = row.reading
        box = " ".join(map(str, found.box)) if boxes else ""
        told = "  ".join(filter(None, (box, found.message)))
        digit = (found.digit, f"{found.probability:.2%}") if found.digit else ("-", "-")
        said = f"{name:<{width}}  {digit[0]:>{wide}}  {digit[1]:>11}  {found.status:<8}  {told}"
        print(said.rstrip())


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        cells = row.cells()
        cells["box"] = " ".join(map(str, cells["box"] or []))
        writer.writerow([_quoted(cell) if isinstance(cell, str) else cell for cell in cells.values()])
    return text.getvalue()


def _jsonl(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row.cells(), ensure_ascii=False) + "\n" for row in rows)


def _quoted(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV injection")."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _written(name: str) -> str:
    """A file's name as text that can be written, also where it is no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _printable(text: str) -> str:
    """Text that does nothing to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in _written(text))
