"""A file appears complete or not at all."""

import errno
import os
from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.system.atomic_file import remove_partial_files, report_write_errors, write_atomic


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"one", b"two"):
        write_atomic(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_keeps_the_old_file_and_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"full: '{file}'"):
        write_atomic(file, b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", ["file/new", "x" * 255])
def test_a_failure_names_the_file_and_not_the_partial_one(name: str, tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(OSError, match=rf": '{tmp_path}/{name}'$"):
        write_atomic(tmp_path / name, b"")


def test_the_old_file_can_be_kept_under_another_name(tmp_path: Path) -> None:
    for data in (b"one", b"two", b"three"):
        write_atomic(tmp_path / "last", data, previous=tmp_path / "previous")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"last": b"three", "previous": b"two"}


def test_a_killed_processes_partial_files_are_removed(tmp_path: Path) -> None:
    for name in (".model.ckpt.17.part", ".lock", "model.ckpt"):
        tmp_path.joinpath(name).touch()
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "model.ckpt"}


def test_a_write_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "file"
    with pytest.raises(InputError, match=f"cannot write {path}: No such file or directory"), report_write_errors(path):
        write_atomic(path, b"")
