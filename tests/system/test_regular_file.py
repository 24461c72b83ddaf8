"""A pipe or a device is an error at once, where `open` would wait or never end."""

import os
from pathlib import Path

import pytest

from mnist_lit.system.regular_file import read_regular_file


def test_a_file_is_read_whole_or_up_to_a_number_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_regular_file(path) == b"abc"
    assert read_regular_file(path, 2) == b"ab"
    assert read_regular_file(path, start=1) == b"bc"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    tmp_path.joinpath("link").symlink_to("pipe")
    for name in ("pipe", "link", os.devnull):
        with pytest.raises(OSError, match="a pipe or a device"):
            read_regular_file(tmp_path / name)
