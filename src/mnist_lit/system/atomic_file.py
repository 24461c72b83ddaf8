"""Files that appear complete or not at all. The standard library only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_lit.errors import InputError


@contextmanager
def report_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an InputError that says which file cannot be written and why."""
    try:
        yield
    except OSError as error:
        hint = f"; create the folder {path.parent} first" if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"cannot write {path}: {error.strerror or error}{hint}") from error


# A rename within a folder is atomic on POSIX, so readers find either the old file or the new one. Without the first
# fsync a power cut can leave the new name on an empty file; without the second it can undo the rename.
def write_atomic(path: Path, data: bytes | memoryview, previous: Path | None = None) -> None:
    """Write a partial file beside the target, then rename it over the target; the old file moves to `previous`. If
    that fails, raises an OSError that names the target, leaves the target unchanged, or as `previous`, and removes the
    partial file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            path.replace(previous)
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's error names no file
    finally:
        with suppress(OSError):  # if there is none, or not even its folder
            partial.unlink()
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_partial_files(folder: Path) -> None:
    """Remove the partial files of killed processes, in the folder and those in it. Call this only while no other
    process writes to them."""
    for partial in (*folder.glob(".*.part"), *folder.glob("*/.*.part")):
        partial.unlink(missing_ok=True)
