"""Benchmarks answer, and their table says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["throughput.py", "figures.py", "world_size.py"])
def test_a_benchmark_explains_itself(name: str) -> None:
    assert f"python benchmarks/{name}" in " ".join(run(str(FOLDER / name), "--help").split())


def test_the_table_gives_medians_and_ratios_round_by_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import contest

    rounds = {"ours": [2.0, 30.0, 4.0], "theirs": [1.0, 10.0, 4.0]}
    contest.report("Speed", "images/s", rounds, "theirs", tmp_path / "out.json")
    out = capsys.readouterr().out
    assert "| ours | 4 | 2 – 30 | 2.0000 | 3 |" in out
    written = json.loads(tmp_path.joinpath("out.json").read_text())
    assert written["rounds"] == rounds
    assert written["machine"]["torch"]


@pytest.mark.slow
def test_the_epochs_of_a_run_are_scored() -> None:
    recipe = ["--data.dataset", "digits", "--data.val_size", "96", "--trainer.limit_train_batches", "2"]
    fit = ["-m", "mnist_lit", "fit", *recipe, "--keep_epochs", "true", "--trainer.max_epochs", "2"]
    run(*fit)
    out = run(str(FOLDER / "epochs.py"), "lightning_logs/version_0", "--output", "out.json")
    right = json.loads(Path("out.json").read_text())["right"]
    assert list(right) == ["1", "2"]
    assert f"| 2 | {right['2']} of 360 | {right['2'] / 360:.2%} |  |" in out
    last = run("-m", "mnist_lit", "test", "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt")
    assert f"right         {right['2']}\n" in last


@pytest.mark.slow
def test_fit_and_the_tutorials_loop_are_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "throughput.py"), "--data_dir", mnist_dir, "--steps", "2", "--rounds", "1")
    assert "| mnist-lit fit |" in out
    assert "| the tutorial's loop |" in out
