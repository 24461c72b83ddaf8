"""`mnist-lit predict`: read digits from pictures into a table. Imports torch only for a checkpoint."""

import hashlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mnist_lit import __version__
from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.errors import InputError, StoppedBySignal, require
from mnist_lit.imaging.open_picture import SHOW_SUFFIX
from mnist_lit.inference.predict import CSV_HEADER, Row, expand_paths, is_table, read_files, to_csv, to_jsonl
from mnist_lit.inference.reader import DigitReader, check_threshold
from mnist_lit.inference.unfinished_table import UnfinishedTable
from mnist_lit.runs.folders import ONNX_FILE, paths_named
from mnist_lit.runs.locate import MODEL_NAMES, PRETRAINED, is_pretrained, locate_model
from mnist_lit.system.atomic_file import report_write_errors
from mnist_lit.system.console import printable, say
from mnist_lit.system.regular_file import read_regular_file

MIN_FILES = 100  # fewest files for which a progress bar is shown
MAX_NAME_WIDTH = 60  # of the first column on the terminal
NUMBER_WIDTH = 12  # of the second column with --many: most numbers are shorter
MAX_LINE = 1 << 16  # bytes of a table's first line; names have a few thousand
REJECTED = "?"  # stands for a rejected digit in a number


def main(command: str, args: list[str]) -> int:
    """Print a table or JSON, or write a table to a file; returns 1 if any file failed, else 0."""
    options = _parse(command, args)
    for name in options.pictures:
        if name and not os.path.lexists(name) and any(path.is_dir() for path in paths_named(name)):
            raise InputError(f"found no file {name}; to read with that run, use --model {name}")
    files = list(expand_paths(options.pictures))
    path = locate_model(options.model, ONNX_FILE)
    sha256 = _sha256(path) if options.output else ""
    reader = DigitReader.load(path, threshold=options.threshold, network=build_network(options.network))
    if options.output and _sha256(path) != sha256:  # by a fit that is still running
        raise InputError(f"{path} was replaced while it was loaded; repeat the command")
    model = PRETRAINED if is_pretrained(reader.path) else str(reader.path)
    rejects = f", rejecting outlier scores above {reader.threshold:g}" if options.threshold is not None else ""
    say(f"predict: {model}{reader.note}{', without rejection' if reader.threshold == 1 else rejects}", file=sys.stderr)
    shown: list[Path] | None = [] if options.show else None
    if options.output:
        code = _write_table(options.output, reader, sha256, files, many=options.many, shown=shown)
    else:
        show = _print_json if options.json else _print_table
        code = show(reader, files, many=options.many, shown=shown)
    if shown:
        others = len({*shown}) - 1  # a picture that was named twice has one
        more = f" and {others:,} more" * (others > 0)
        say(f"predict: saved the network's input as {shown[0]}{more}", file=sys.stderr)
    return code


def _parse(command: str, args: list[str]) -> Namespace:
    """The options, checked. If a file's name was read as one, the error says how to name the file."""
    codes = "Exit code 0: every file was read; 1: some file could not be read; 2: invalid input."
    parser = CommandParser(command, "Read the digit in each picture, or every digit with --many.", epilog=codes)
    pictures = "a picture, a folder with its subfolders, or - for standard input"
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER|-", help=pictures)
    model = f"a checkpoint, an exported .onnx, a run, {MODEL_NAMES} (default: the newest run, else {PRETRAINED})"
    parser.add_model_argument(model, positional=False)
    parser.add_threshold_argument()
    parser.add_argument(
        "--many", action="store_true", help="read every digit, line by line, instead of one per picture"
    )
    output = "write one row per digit to a file; if the command is killed, the same command continues it"
    parser.add_argument("--output", type=Path, metavar="FILE.csv|FILE.jsonl", help=output)
    parser.add_argument("--json", action="store_true", help="print a JSON object per digit instead of the table")
    show = f"save the network's 28×28 input next to each picture, as photo.jpg{SHOW_SUFFIX}"
    parser.add_argument("--show", action="store_true", help=show)
    parser.add_network_argument()
    try:
        options: Namespace = parser.parse_args(args)
    except InputError as error:
        if file := next((arg for arg in args if arg[:1] == "-" != arg and os.path.lexists(arg)), None):
            raise InputError(f"{file} was read as an option; to read the file, write ./{file}") from error
        raise
    check_threshold("--threshold", options.threshold)
    if options.output:
        valid = options.output.suffix.lower() in (".csv", ".jsonl")
        expected = "a file name that ends in .csv or .jsonl (--json prints to standard output)"
        require("--output", options.output.name and options.output, expected, valid)
        if options.json:
            raise InputError("expected --json or --output, got both: --json prints to standard output")
        _require_replaceable(options.output)
    return options


def _require_replaceable(path: Path) -> None:
    """Raise InputError unless an output file is missing, empty or an earlier table."""
    with report_write_errors(path):
        require("--output", f"the folder {path}", "a file", not path.is_dir())
        start = read_regular_file(path, MAX_LINE) if path.exists() else b""
    if start and not is_table(start, path.suffix):
        raise InputError(f"--output: {path} is not a table of this command; delete it first, or choose another name")


def _sha256(model: Path) -> str:
    try:
        return hashlib.sha256(read_regular_file(model)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {model}: {error.strerror}") from error


def _write_table(
    path: Path, reader: DigitReader, sha256: str, files: Sequence[str], *, many: bool, shown: list[Path] | None
) -> int:
    """Write the rows to a file, or only the remaining ones if the same command was killed before. sha256: that of the
    model's file."""
    settings = {
        "version": __version__,
        "model": sha256,
        "threshold": reader.threshold,
        "mode": "many" if many else "one",
    }
    to_text, header = (to_jsonl, "") if path.suffix.lower() == ".jsonl" else (to_csv, CSV_HEADER)
    with report_write_errors(path):
        table = UnfinishedTable(path, files, settings, header)
    if table.done:
        say(f"predict: continuing {path} after {table.done:,} of {len(files):,} files", file=sys.stderr)
    elif path.exists():
        say(f"predict: {path} will be replaced once every file is read", file=sys.stderr)
    try:
        console = Console(stderr=True)
        hidden = len(files) < MIN_FILES or not console.is_terminal
        with Progress(console=console, transient=True, disable=hidden) as progress:
            task = progress.add_task("reading", total=len(files), completed=table.done)
            for rows in read_files(reader, files[table.done :], many=many, shown=shown):
                with report_write_errors(path):
                    table.add(rows[0].file, to_text(rows), [row.status for row in rows])
                progress.advance(task)
        with report_write_errors(path):
            table.finish()
    except StoppedBySignal as stopped:
        done = f"after {table.saved():,} of {len(files):,} files; the same command continues {path}"
        raise StoppedBySignal(stopped.signum, done) from None
    finally:
        table.close()
    summary = ", ".join(
        f"{count:,} {status}{'s' * (status == 'error' and count != 1)}" for status, count in table.counts.items()
    )
    total = table.counts.total()
    say(f"predict: {total:,} row{'s' * (total != 1)} in {path}: {summary}", file=sys.stderr)
    return int("error" in table.counts)


def _print_json(reader: DigitReader, files: Sequence[str], *, many: bool, shown: list[Path] | None) -> int:
    """Print the rows that `--output FILE.jsonl` writes, in ASCII, which every terminal and pipe leaves as it is."""
    failed = False
    for rows in read_files(reader, files, many=many, shown=shown):
        say(*(json.dumps(row.cells()) for row in rows), sep="\n")
        failed |= any(row.reading is None for row in rows)
    return int(failed)


def _print_table(reader: DigitReader, files: Sequence[str], *, many: bool, shown: list[Path] | None) -> int:
    """Print a line per picture or, with `many`, per line of text, as soon as it is read. Not by Rich, which takes
    a millisecond per row, and there may be thousands."""
    name_width = min(max(len(printable(file)) for file in [*files, "file"]), MAX_NAME_WIDTH)
    title = "number" if many else "digit"
    width = NUMBER_WIDTH if many else max(map(len, [title, *reader.labels]))

    def show_line(name: str, text: str, probability: str, status: str, message: str) -> None:
        say(f"{name:<{name_width}}  {text:>{width}}  {probability:>11}  {status:<8}  {message}".rstrip())

    show_line("file", title, "probability", "status", "")
    failed = False
    for rows in read_files(reader, files, many=many, shown=shown):
        for _, line in groupby(rows, key=lambda row: row.reading and row.reading.line):
            show_line(printable(rows[0].file), *_summarize(list(line), many=many))
        failed |= any(row.reading is None for row in rows)
    return int(failed)


def _summarize(line: Sequence[Row], *, many: bool) -> tuple[str, str, str, str]:
    """The number that one line of text says, the lowest probability of its digits, a status and a message."""
    readings = [row.reading for row in line if row.reading and row.reading.digit]
    if not readings:
        return "-", "-", line[0].status, printable(line[0].message)
    rejected = [reading.status != "ok" for reading in readings]
    digits = [reading.digit for reading in readings]
    if many:
        digits = [REJECTED if bad else digit for digit, bad in zip(digits, rejected, strict=True)]
    text = printable(("" if max(map(len, digits)) == 1 else " ").join(digits))
    status = "rejected" if any(rejected) else "ok"
    message = f"{sum(rejected)} of {len(rejected)} digits" if len(digits) > 1 and any(rejected) else line[0].message
    return text, f"{min(reading.probability for reading in readings):.2%}", status, printable(message)
