"""A table that grows row by row and survives a kill: the same command continues it. Knows nothing about digits.

While a command runs, its rows are in a folder beside the output, `rows.csv.part/`, together with a record of how far
they go. `rows.csv` itself appears, complete, when all is done; an older one stays in place until then. A record of
other settings or other files is refused, so the rows of two models never end up in one table."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import MAX_COUNT
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.folder_lock import lock_folder, remove_lock
from mnist_lit.system.regular_file import read_regular_file

ROWS, PROGRESS = "rows", "progress.json"  # files in the folder
MAX_PROGRESS = 1 << 20  # bytes
SAVE_SECONDS = 1.0  # between two saves; a kill costs at most that much work


class UnfinishedTable:
    """The table of one command: `files`, in order, read with `settings`, such as the model. Raises InputError if
    another command is writing it or has left it unfinished; OSError if it cannot be written."""

    def __init__(self, path: Path, files: Sequence[str], settings: Mapping[str, Any], header: str) -> None:
        self.path, self.folder = path, path.with_name(f"{path.name}.part")
        self.settings = dict(settings)
        self.done, self.counts = 0, Counter[str]()  # files whose rows were added, and rows by status
        self._names = hashlib.sha256()  # of the files that are done
        self._unsaved, self._next_save = list[str](), time.monotonic() + SAVE_SECONDS
        with report_write_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        lock = lock_folder(self.folder)
        if lock is None:
            raise InputError(f"another process is writing to {self.folder}; choose another --output")
        self._lock = lock
        try:
            length = self._restore(files)
            self._rows = self.folder.joinpath(ROWS).open("r+b" if length else "wb")
            self._rows.seek(length)
            self._rows.truncate()
        except (InputError, OSError):
            self._lock.release()
            raise
        if not length:
            self._unsaved.append(header)

    def _restore(self, files: Sequence[str]) -> int:
        """Take over what an earlier command saved; returns the length of its rows in bytes, 0 if there are none."""
        restart = "delete it to start again, or choose another --output"
        progress, rows = self.folder / PROGRESS, self.folder / ROWS
        try:
            # A link could send the rows into any of the user's files.
            if any(path.is_symlink() or (path.exists() and not path.is_file()) for path in (progress, rows)):
                raise ValueError
            if not (progress.exists() and rows.exists()):  # without rows, the table was finished
                progress.unlink(missing_ok=True)
                return 0
            record = self._record()
            settings, names, counts = dict(record["settings"]), record["names"], Counter[str]({**record["counts"]})
            done, length = numbers = record["done"], record["bytes"]
            if not all(type(number) is int and 0 <= number < MAX_COUNT for number in (*numbers, *counts.values())):
                raise ValueError
            if rows.stat().st_size < length or not "".join(counts).isprintable():
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{self.folder} is damaged; {restart}") from error
        self._count_done(files[:done])
        differing = [name for name in self.settings if settings.get(name) != self.settings[name]]
        differing += ["list of pictures"] if self._names.hexdigest() != names else []
        if differing:
            raise InputError(f"{self.folder} has unfinished rows of another {' and '.join(differing)}; {restart}")
        self.counts = counts
        return int(length)

    def saved(self) -> int:
        """How many files the same command would skip, by the record, since a signal may interrupt a save."""
        return int(self._record()["done"]) if self.folder.joinpath(PROGRESS).exists() else 0

    def _record(self) -> Any:
        return json.loads(read_regular_file(self.folder / PROGRESS, MAX_PROGRESS))

    def add(self, file: str, text: str, statuses: Iterable[str]) -> None:
        """Add the next file's rows, and save once in a while."""
        self._unsaved.append(text)
        self.counts.update(statuses)
        self._count_done([file])
        if time.monotonic() >= self._next_save:
            self._save()

    def finish(self) -> None:
        """Move the finished table to its final path."""
        self._save()
        self._rows.close()
        self.folder.joinpath(ROWS).replace(self.path)
        self.folder.joinpath(PROGRESS).unlink()  # only now: if the table cannot be replaced, no work is lost
        remove_lock(self._lock)  # only now, or the same command could start over with an empty table
        with suppress(OSError):  # unless another command has started
            self.folder.rmdir()

    def close(self) -> None:
        """Leave what was saved to the next command."""
        with suppress(OSError):  # on a full disk, closing tries to write once more; that error was raised already
            self._rows.close()
        self._lock.release()

    def _save(self) -> None:
        """Write what was added: rows before the record, so that the record never promises more than there is."""
        self._rows.write("".join(self._unsaved).encode())
        self._rows.flush()
        os.fsync(self._rows.fileno())
        record = {"settings": self.settings, "done": self.done, "names": self._names.hexdigest()}
        record |= {"counts": self.counts, "bytes": self._rows.tell()}
        write_atomic(self.folder / PROGRESS, json.dumps(record).encode())
        self._unsaved, self._next_save = [], time.monotonic() + SAVE_SECONDS

    def _count_done(self, files: Sequence[str]) -> None:
        self.done += len(files)
        for file in files:
            self._names.update(os.fsencode(file) + b"\0")
