"""Create the folder of a new run or group, locked by this process from the start."""

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import CONFIG_YAML, all_runs, run_number
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.folder_lock import lock_folder


def new_folder(root: Path) -> tuple[Path, FileLock]:
    """A new `version_N` under `root` and the lock that holds it, or the newest existing one if a kill left it empty.
    Raises InputError if it cannot be created."""
    newest = next(reversed(all_runs(root)), None)
    if newest and newest.parent == root and _is_empty(newest) and (lock := lock_folder(newest)):
        if lock.is_locked and _is_empty(newest):  # without locks, its process may still be running
            return newest, lock
        lock.release()
    while True:
        run = create_run(root)
        if lock := lock_folder(run):  # otherwise another process has mistaken it for one that a kill left empty
            return run, lock


def create_run(root: Path) -> Path:
    """Create and return the next `version_N` under `root`, a new one for each process. Raises InputError on failure."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        numbers = count(max(map(run_number, root.iterdir()), default=-1) + 1)
        while True:
            with suppress(FileExistsError):
                run = root / f"version_{next(numbers)}"
                run.mkdir()
                return run
    except OSError as error:
        raise InputError(f"cannot create a run folder in {root}: {error.strerror}") from error


def create_named_run(run: Path) -> Path:
    """Create and return this run folder, or reuse one that a kill left empty. Raises InputError if it holds a run."""
    if run.joinpath(CONFIG_YAML).exists():
        raise InputError(f"{run} already exists; --resume auto continues it, unless another process is using it")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create a run folder in {run.parent}: {error.strerror}") from error
    return run


def write_first_file(path: Path, text: str) -> None:
    """Write the file that makes a new folder a run or a group. Raises InputError if it cannot be written, and then
    leaves no empty folder."""
    try:
        with report_write_errors(path):
            write_atomic(path, text.encode())
    except InputError:
        if _is_empty(path.parent):
            shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _is_empty(run: Path) -> bool:
    """Whether a folder has nothing but locks and partial files."""
    return all(path.name.startswith(".") for path in run.iterdir())
