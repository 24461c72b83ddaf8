"""Create the folder of a new run or group, locked by this process from the start."""

import shutil
from pathlib import Path

from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import all_runs, create_run
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.folder_lock import lock_folder


def new_folder(root: Path) -> tuple[Path, FileLock]:
    """A new `version_N` under `root` and the lock that holds it, or the newest existing one if a kill left it empty.
    Raises InputError if it cannot be made."""
    newest = next(reversed(all_runs(root)), None)
    if newest and newest.parent == root and _is_empty(newest) and (lock := lock_folder(newest)):
        if lock.is_locked and _is_empty(newest):  # without locks nobody knows whether its process has ended
            return newest, lock
        lock.release()
    while True:
        run = create_run(root)
        if lock := lock_folder(run):  # otherwise another process took it for one that a kill left empty
            return run, lock


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
