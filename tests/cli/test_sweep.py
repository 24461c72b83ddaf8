"""The sweep's own options: one line where something is wrong."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
SWEEP = ("sweep", "--config", "quickstart", "--space", "space.yaml")


def test_without_optuna_one_line_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mnist_lit.experiments.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = cli(*SWEEP)
    assert (code, "pip install 'mnist-lit[sweep]'" in err, err.count("\n")) == (2, True, 1)


def test_a_launcher_cannot_start_a_sweep(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli(*SWEEP)
    assert (code, "starts its own processes" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "tutorial"], "--config: expected exactly one"),
        (["--trials", "-1"], "--trials and --seed: expected 0 or more"),
        (["--storage", "studies.db"], "--storage: expected a database URL"),
        (["--study", "a/b"], "--study: expected a name"),
        (["--trails", "5"], "unknown option --trails; did you mean --trials?"),
        ([], "--space: no file space.yaml"),
        (["--data.data_dir", "a\nb"], "--data.data_dir: expected no line breaks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_one_line(cli: Cli, options: list[str], message: str) -> None:
    code, _, err = cli(*SWEEP, *options)
    assert (code, err.count("\n"), message in err) == (2, 1, True), err
    assert not Path("lightning_logs").exists()
