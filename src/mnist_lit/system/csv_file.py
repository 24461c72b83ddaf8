"""Format and read CSV files."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_lit.system.regular_file import read_regular_file

MAX_BYTES = 128 << 20  # ten times the largest table of a published dataset: 18,800 predictions of 47 probabilities
MAX_ROWS, MAX_CELLS = 1 << 21, 1 << 25  # 2,200 epochs of MNIST in batches of 64, with a row for each step


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Rows, the header first, as CSV text.

    >>> csv_text([["index", "file"], [0, "a,b.png"]])
    'index,file\r\n0,"a,b.png"\r\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def read_csv_rows(path: Path, *, errors: str = "strict") -> list[list[str]]:
    """All rows, the header first; `errors` as for `open`, so that "replace" reads a damaged file. Raises OSError,
    UnicodeDecodeError or csv.Error if any part is unreadable."""
    return list(csv.reader(_open_text(read_regular_file(path), errors)))


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """The rows by column name; raises as `read_csv_rows` does, and for a table larger than any written."""
    content = read_regular_file(path, MAX_BYTES + 1)
    limits = {b",": MAX_CELLS, b"\r": MAX_ROWS, b"\n": MAX_ROWS}
    if len(content) > MAX_BYTES or any(content.count(sign) > limit for sign, limit in limits.items()):
        raise csv.Error(f"more than {MAX_BYTES:,} bytes, {MAX_ROWS:,} rows or {MAX_CELLS:,} cells")
    return csv.DictReader(_open_text(content))


def _open_text(content: bytes, errors: str = "strict") -> io.TextIOWrapper:
    content.decode("utf-8", errors)  # raises for a damaged byte now, not after some rows
    return io.TextIOWrapper(io.BytesIO(content), "utf-8", errors, newline="")
