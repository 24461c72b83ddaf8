"""A file appears whole or not at all."""

import os
from pathlib import Path

import pytest

from mnist_lit.system.atomic_file import write_atomic


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"one", b"two"):
        write_atomic(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_atomic(file, b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
