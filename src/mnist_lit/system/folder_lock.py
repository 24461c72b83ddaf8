"""Folders that one process at a time writes to."""

from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lit.errors import InputError

LOCK = ".lock"  # the file in the folder


def lock_folder(folder: Path) -> FileLock | None:
    """Hold a folder until this process ends, however it ends; None if another process holds it. On a file system
    without locks, nothing is held. Raises InputError if the folder cannot be written."""
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
