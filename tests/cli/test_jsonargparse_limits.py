"""Configs are limited; data that jsonargparse reads for a class is not."""

import io
import os
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import _paths
from jsonargparse.typing import Path_fr

from mnist_lit.cli.jsonargparse_limits import limit_jsonargparse
from mnist_lit.system.yaml_file import MAX_BYTES


def test_jsonargparse_reads_small_configs_but_data_of_any_size_and_from_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(2):
        limit_jsonargparse()
    monkeypatch.setattr(sys, "stdin", io.StringIO("from standard input"))
    Path("big.txt").write_text("x" * (MAX_BYTES + 1))
    assert len(Path_fr("big.txt").read_text()) == MAX_BYTES + 1
    assert _paths.Path("-").read_text() == "from standard input"
    Path("small.yaml").write_bytes("é".encode())
    assert _paths.Path("small.yaml").read_text() == "é"
    os.mkfifo("pipe.yaml")
    with pytest.raises(yaml.YAMLError):
        _paths.Path("pipe.yaml").read_text()
