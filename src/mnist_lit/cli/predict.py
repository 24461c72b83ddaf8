"""`mnist-lit predict`: read digits from pictures, for people and for programs. No torch unless the model needs it."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mnist_lit.errors import InputError
from mnist_lit.imaging.open_picture import SHOW_SUFFIX
from mnist_lit.inference.predict import BATCH_SIZE, Row, encodable, expand_paths, read_rows, to_csv, to_jsonl
from mnist_lit.inference.reader import DigitReader
from mnist_lit.system.arguments import CommandParser
from mnist_lit.system.atomic_file import write_atomic

__all__ = ["main"]


def main(command: str, args: list[str]) -> int:
    """Print a table, or write one; returns 1 if any file failed, else 0."""
    options = _parser(command).parse_args(args)
    files = list(expand_paths(options.pictures))
    output: Path | None = options.output
    if output and output.suffix not in (".csv", ".jsonl"):
        raise InputError(f"--output: expected a name that ends in .csv or .jsonl, got {output}")
    reader = DigitReader.load(options.model, threshold=options.threshold)
    print(f"predict: {reader.path}{reader.note}, rejecting outliers above {reader.threshold:g}", file=sys.stderr)
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True, disable=len(files) < BATCH_SIZE) as progress:
        task = progress.add_task("reading", total=len(files))
        for row in read_rows(reader, files, many=options.many, show=options.show):
            progress.advance(task, not rows or rows[-1].file != row.file)
            rows.append(row)
    if output:
        try:
            write_atomic(output, (to_jsonl(rows) if output.suffix == ".jsonl" else to_csv(rows)).encode())
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error
        counts = Counter(row.cells()["status"] for row in rows)
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items())
        print(f"predict: {len(rows):,} rows in {output}: {told}", file=sys.stderr)
    else:
        _print_table(rows, boxes=options.many)
    return int(any(row.reading is None for row in rows))


def _parser(command: str) -> CommandParser:
    parser = CommandParser(
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
    shown = f"save what the network saw beside the picture, as NAME{SHOW_SUFFIX}"
    parser.add_argument("--show", action="store_true", help=shown)
    return parser


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


def _printable(text: str) -> str:
    """Text that does nothing to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in encodable(text))
