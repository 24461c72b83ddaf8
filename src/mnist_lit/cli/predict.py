"""`mnist-lit predict`: read digits from pictures into a table. Imports torch only for a checkpoint."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mnist_lit.cli.network import build_network, split_network_options
from mnist_lit.errors import require
from mnist_lit.imaging.open_picture import SHOW_SUFFIX
from mnist_lit.inference.predict import BATCH_SIZE, Row, encodable, expand_paths, read_rows, to_csv, to_jsonl
from mnist_lit.inference.reader import DigitReader
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.command_parser import CommandParser


def main(command: str, args: list[str]) -> int:
    """Print a table or write one to a file; returns 1 if any file failed, else 0."""
    codes = "Exit code 0: every file was read; 1: some file could not be read; 2: invalid input."
    parser = CommandParser(command, "Read the digit in each picture, or every digit with --many.", epilog=codes)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER|-", help="- reads a picture from standard input")
    model = "a checkpoint, a run, an exported .onnx, latest or pretrained (default: the newest run, else pretrained)"
    parser.add_model_argument(model, positional=False)
    threshold = "reject outlier scores above it: 0 rejects all, 1 nothing (default: the model's own)"
    parser.add_argument("--threshold", type=float, help=threshold)
    parser.add_argument("--many", action="store_true", help="find several digits, in reading order")
    parser.add_argument("--output", type=Path, metavar="FILE.csv|FILE.jsonl", help="write one row per digit to a file")
    show = f"save what the network saw next to each picture, as NAME{SHOW_SUFFIX}"
    parser.add_argument("--show", action="store_true", help=show)
    named, args = split_network_options(args)
    options = parser.parse_args(args)
    files = list(expand_paths(options.pictures))
    output: Path | None = options.output
    valid = not output or output.suffix in (".csv", ".jsonl")
    require("--output", output, "a name that ends in .csv or .jsonl", valid)
    reader = DigitReader.load(options.model, threshold=options.threshold, network=build_network(named))
    print(f"predict: {reader.path}{reader.note}, rejecting outliers above {reader.threshold:g}", file=sys.stderr)
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True, disable=len(files) < BATCH_SIZE) as progress:
        task = progress.add_task("reading", total=len(files))
        for row in read_rows(reader, files, many=options.many, show=options.show):
            progress.advance(task, not rows or rows[-1].file != row.file)
            rows.append(row)
    if output:
        with report_write_errors(output):
            write_atomic(output, (to_jsonl(rows) if output.suffix == ".jsonl" else to_csv(rows)).encode())
        counts = Counter(row.cells()["status"] for row in rows)
        summary = ", ".join(f"{count:,} {status}" for status, count in counts.items())
        print(f"predict: {len(rows):,} rows in {output}: {summary}", file=sys.stderr)
    else:
        _print_table(rows, boxes=options.many)
    return int(any(row.reading is None for row in rows))


def _print_table(rows: Sequence[Row], *, boxes: bool) -> None:
    """Print one line per digit. Formatted by hand: Rich takes a millisecond per row, and there may be thousands."""
    lines = [("file", "digit", "probability", "status", "box" if boxes else "")]
    for row in rows:
        name, reading = _printable(row.file), row.reading
        if reading is None:
            lines.append((name, "-", "-", "error", _printable(row.message)))
        else:
            digit, probability = (reading.digit, f"{reading.probability:.2%}") if reading.digit else ("-", "-")
            box = " ".join(map(str, reading.box)) if boxes else ""
            lines.append((name, digit, probability, reading.status, "  ".join(filter(None, (box, reading.message)))))
    width = min(max(len(line[0]) for line in lines), 60)
    digit_width = max(len(line[1]) for line in lines)
    for name, digit, probability, status, rest in lines:
        print(f"{name:<{width}}  {digit:>{digit_width}}  {probability:>11}  {status:<8}  {rest}".rstrip())


def _printable(text: str) -> str:
    """Text without characters that would control a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in encodable(text))
