import os
from pathlib import Path

import pytest
import yaml

from mnist_lit.errors import InputError
from mnist_lit.system.yaml_file import (
    MAX_BITS,
    MAX_BYTES,
    MAX_DEPTH,
    load_yaml,
    read_written_yaml,
    read_yaml,
)

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"no aliases, got \*a0"),
        ("a: &a [*a]", "no aliases"),
        ("[" * 20_000, f"at most {MAX_DEPTH} sections|maximum nesting depth"),  # libyaml 0.2.6 has a limit too
        ("\n".join(" " * n + "a:" for n in range(200)), f"at most {MAX_DEPTH} sections"),
        ("a: " + "9" * 5000, "at most 100 digits"),
        ("a: 0x" + "f" * 20_000, "at most 100 digits"),
        ("a: 1" + ":1" * 30_000, "at most 100 digits"),
        ("a: 1" + ":1" * 30_000 + ".5", "at most 100 digits"),
        (f"a: [{2**MAX_BITS}]", "whole numbers below 2\\^63"),
        ("a: 2026-02-31", "expected a valid timestamp, got 2026-02-31"),
        ("a: !!int ''", "expected a valid int"),
        ("a: !!bool b", "expected a valid bool, got b"),
        ("a: !!timestamp b", "expected a valid timestamp, got b"),
        ("a: !!set {b}", "could not determine a constructor"),
        ("a: !!pairs [b: c]", "could not determine a constructor"),
        ("a: " + "x" * MAX_BYTES, "at most 64 KiB"),
        ("a: [", "expected"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
    ids=range(18),
)
def test_what_could_take_forever_or_run_code_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(yaml.YAMLError, match=message):
        load_yaml(text)
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(path)


def test_a_config_is_read() -> None:
    assert load_yaml("model: {lr: 1}\ndata:\n  classes: '3,7'\n") == {"model": {"lr": 1}, "data": {"classes": "3,7"}}
    assert load_yaml(f"[{2**MAX_BITS - 1}, -0x10, 1.5, 1e400]") == [2**MAX_BITS - 1, -16, 1.5, "1e400"]
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert str(load_yaml(deep)) == deep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n\tlr: 1\n", "line 2: a tab; indent with spaces"),
        ("model:\n  lr: 1\n\tmomentum: 0\n", "line 3: a tab; indent with spaces"),
        ("model: {\n  lr: @x}", "line 2: found character"),
        (LAUGHS, "expected no aliases"),
    ],
    ids=["tab", "second tab", "character", "aliases"],
)
def test_an_error_in_a_written_file_names_its_line(text: str, message: str) -> None:
    Path("mine.yaml").write_text(text)
    with pytest.raises(InputError, match=f"^mine.yaml cannot be read as YAML: {message}"):
        read_written_yaml(Path("mine.yaml"))


def test_a_file_that_cannot_be_read_is_a_yaml_error() -> None:
    os.mkfifo("pipe.yaml")
    Path("latin.yaml").write_bytes(b"\xff")
    for name in ("pipe.yaml", "latin.yaml", "missing.yaml", "."):
        with pytest.raises(yaml.YAMLError):
            read_yaml(Path(name))
