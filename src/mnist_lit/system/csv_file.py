"""CSV files: one way to format them and one way to read them."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnist_lit.system.regular_file import read_regular_file


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
    return list(csv.reader(_open_text(path, errors)))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows by column name; raises what `read_csv_rows` raises."""
    return list(csv.DictReader(_open_text(path)))


def _open_text(path: Path, errors: str = "strict") -> io.StringIO:
    return io.StringIO(read_regular_file(path).decode("utf-8", errors), newline="")
