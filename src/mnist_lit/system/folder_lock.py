"""Locks on folders, so that one process at a time writes to them."""

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lit.errors import InputError

LOCK = ".lock"  # the file in the folder


def lock_folder(folder: Path) -> FileLock | None:
    """Lock a folder until this process ends, however it ends; None if another process has locked it. On a file system
    without locks, returns an unlocked lock. Raises InputError if the folder cannot be written."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    except (OSError, NotImplementedError):
        pass
    return lock


def remove_lock(lock: FileLock) -> None:
    """Remove a held lock's file, then release it: afterwards the file may be another process's lock. Windows cannot
    delete an open file; there, releasing the lock does."""
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
