"""Files that appear whole or not at all. The standard library only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_lit.errors import InputError

__all__ = ["remove_partial_files", "report_write_errors", "write_atomic"]


@contextmanager
def report_write_errors(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes an InputError that says which file cannot be written and why."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def write_atomic(path: Path, data: bytes | memoryview, previous: Path | None = None) -> None:
    """Write beside the target, flush, rename, flush the folder: whoever opens it finds the old file or the new one.

    `previous` names where the old file goes. Between the two renames only that one is there.
    Raises OSError, and then leaves the target as it was and nothing beside it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed while it wrote here left behind; to be called while nobody else writes."""
    for aside in folder.glob(".*.part"):
        aside.unlink(missing_ok=True)
