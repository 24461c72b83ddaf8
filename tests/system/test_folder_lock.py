from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.errors import InputError
from mnist_lit.system.folder_lock import lock_folder, remove_lock


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    assert lock
    assert lock_folder(tmp_path) is None
    lock.release()
    assert lock_folder(tmp_path)


def failing(error: Exception) -> Callable[..., None]:
    def acquire(self: object, timeout: float) -> None:
        raise error

    return acquire


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", failing(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match=r"cannot write to .*: Permission denied"):
        lock_folder(tmp_path)


@pytest.mark.parametrize("error", [OSError("no locks here"), NotImplementedError()])
def test_without_locks_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", failing(error))
    assert lock_folder(tmp_path)
    assert lock_folder(tmp_path)


def test_a_locks_file_is_removed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = lock_folder(tmp_path)
    assert lock
    release, after = lock.release, []

    def release_and_lose(*args: Any) -> None:
        release(*args)
        after.append(lock_folder(tmp_path))  # another process has waited for it

    monkeypatch.setattr(lock, "release", release_and_lose)
    remove_lock(lock)
    assert after[0]
    assert lock_folder(tmp_path) is None
    after[0].release()
