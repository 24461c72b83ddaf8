"""Benchmarks answer, and their table says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True).stdout


COMMANDS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_explains_itself_and_the_readme_names_it(name: str) -> None:
    assert f"python benchmarks/{name}" in " ".join(run(str(FOLDER / name), "--help").split())
    assert f"python benchmarks/{name}" in FOLDER.joinpath("README.md").read_text(encoding="utf-8")


def test_the_page_of_recipes_is_made_from_the_measured_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import ladder

    rungs = json.loads(ladder.RESULT.read_text(encoding="utf-8"))["rungs"]
    assert [*rungs] == [ladder.LOOP, ladder.MENDED, *(rung.name for rung in ladder.RUNGS)]
    assert ladder.PAGE.read_text(encoding="utf-8") == ladder.page(rungs)
    rungs[ladder.LOOP]["val"][0] += 0.01  # the control
    assert ladder.PAGE.read_text(encoding="utf-8") != ladder.page(rungs)


def test_a_process_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from contest import measured

    program = "import time; held = b'x' * (300 << 20); time.sleep(0.3); print(held.count(b'x') >> 20)"
    seconds, peak, said = measured([sys.executable, "-c", program])
    assert said == "300\n"
    assert 0.3 < seconds < 30
    assert 300 < peak < 400
    small = measured([sys.executable, "-c", "print(7)"])
    assert small[1] < 100


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
def test_the_contestants_train_and_are_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "throughput.py"), "--data_dir", mnist_dir, "--steps", "2", "--rounds", "1")
    for name in ("`mnist-lit fit`", "bare step loop", "the tutorial's loop", "plain Lightning"):
        assert out.count(f"| {name} |") == 2, name


@pytest.mark.slow
def test_memory_and_scaling_are_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "memory.py"), "--data_dir", mnist_dir, "--steps", "2", "--rounds", "1")
    assert "| `mnist-lit fit`, 128 |" in out
    out = run(
        str(FOLDER / "scaling.py"), "--data_dir", mnist_dir, "--steps", "2", "--rounds", "1", "--output", "s.json"
    )
    found = json.loads(Path("s.json").read_text())
    assert [*found["sizes"]] == ["1", "4", "16"]
    assert [*found["devices"]] == ["1", "2"]


@pytest.mark.slow
def test_a_recipes_time_to_its_accuracy_is_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "time_to_accuracy.py"), "--data_dir", mnist_dir, "--seeds", "1", "--steps", "2")
    assert "| images seen |" in out
    assert "| seeds that reach 99.34% |" in out
