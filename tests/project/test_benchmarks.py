"""The benchmarks run, and their tables show what was measured."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
COMMANDS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))

Cli = Callable[..., tuple[int, str, str]]
Script = Callable[..., str]

pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks import each other as top-level modules."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Run a benchmark in this process; returns what it printed."""

    def run(name: str, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *args])
        capsys.readouterr()
        code: Any = 0
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        assert not code
        return capsys.readouterr().out

    return run


def run(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_has_a_help_text_and_an_entry_in_the_readme(name: str, script: Script) -> None:
    assert f"python benchmarks/{name}" in script(name, "--help")
    assert f"python benchmarks/{name}" in FOLDER.joinpath("README.md").read_text(encoding="utf-8")


def test_the_recipes_page_is_generated_from_the_saved_ladder() -> None:
    import ladder

    rungs = json.loads(ladder.RESULT.read_text(encoding="utf-8"))["rungs"]
    assert [*rungs] == [ladder.LOOP, ladder.RESCORED, *(rung.name for rung in ladder.RUNGS)]
    assert ladder.PAGE.read_text(encoding="utf-8") == ladder.page(rungs)
    rungs[ladder.LOOP]["val"][0] += 0.01  # the control
    assert ladder.PAGE.read_text(encoding="utf-8") != ladder.page(rungs)


def test_a_command_is_measured_with_its_peak_memory_and_output() -> None:
    from measurement import measure_command

    program = "import time; held = b'x' * (300 << 20); time.sleep(0.3); print(held.count(b'x') >> 20)"
    seconds, peak_mib, output = measure_command([sys.executable, "-c", program])
    assert output == "300\n"
    assert 0.3 < seconds < 30
    assert 300 < peak_mib < 400
    _, small_mib, _ = measure_command([sys.executable, "-c", "print(7)"])
    assert small_mib < 100


def test_the_table_shows_medians_and_per_round_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import measurement

    rounds = {"ours": [2.0, 30.0, 4.0], "theirs": [1.0, 10.0, 4.0]}
    measurement.report("Speed", "images/s", rounds, "theirs", tmp_path / "out.json")
    assert "| ours | 4 | 2 – 30 | 2.0000 | 3 |" in capsys.readouterr().out
    written = json.loads(tmp_path.joinpath("out.json").read_text())
    assert written["rounds"] == rounds
    assert written["machine"]["torch"]


def test_every_kept_epoch_of_a_run_is_scored(cli: Cli, script: Script) -> None:
    recipe = ["--data.dataset", "digits", "--data.val_size", "0", "--trainer.limit_train_batches", "2"]
    assert cli("fit", *recipe, "--keep_epochs", "true", "--trainer.max_epochs", "2")[0] == 0
    out = script("epochs.py", "lightning_logs/version_0", "--output", "out.json")
    right = json.loads(Path("out.json").read_text())["right"]
    assert list(right) == ["1", "2"]
    assert f"| 2 | {right['2']} of 360 | {right['2'] / 360:.2%} |  |" in out
    code, last, _ = cli("test", "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt")
    assert code == 0
    assert f"correct       {right['2']}\n" in last


@pytest.mark.slow
def test_a_drawn_page_depends_on_its_seed_kind_and_number_alone(script: Script, mnist_dir: str) -> None:
    from reading import labeled_pictures

    def pages(kinds: str, *more: str) -> tuple[Any, dict[str, bytes]]:
        options = ("--data_dir", mnist_dir, "--save", "saved", "--output", "out.json", "--kinds", *kinds.split())
        out = script("pages.py", *options, *more)
        saved = {picture.path.name: picture.path.read_bytes() for picture in labeled_pictures([Path("saved")], "both")}
        results = json.loads(Path("out.json").read_text(encoding="utf-8"))["kinds"]
        assert f"| table-hand | {len(saved) // len(results)} | {results['table-hand']['digits']} |" in out
        return results, saved

    results, saved = pages("plain table-hand", "--pages", "2")
    assert [*saved] == ["plain_00.jpg", "plain_01.jpg", "table-hand_00.jpg", "table-hand_01.jpg"]
    assert len(set(saved.values())) == 4
    assert 0.8 < results["plain"]["recall"] <= 1
    again, alone = pages("table-hand", "--pages", "2")
    assert again == {"table-hand": results["table-hand"]}
    assert alone == {name: content for name, content in saved.items() if name.startswith("table-hand")}
    _, other = pages("table-hand", "--pages", "1", "--seed", "1")  # the control
    assert other["table-hand_00.jpg"] != saved["table-hand_00.jpg"]
    one, _ = pages("plain table-hand", "--pages", "3", "--one")
    assert one["plain"]["digits"] == one["table-hand"]["digits"] == 3
    assert one["plain"]["recall"] > 0.5


@pytest.mark.slow
def test_every_variant_trains_and_is_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "throughput.py"), "--data_dir", mnist_dir, "--steps", "2", "--rounds", "1")
    for name in ("`mnist-lit fit`", "bare step loop", "the tutorial's loop", "plain Lightning"):
        assert out.count(f"| {name} |") == 2, name


@pytest.mark.slow
def test_memory_and_scaling_are_measured(mnist_dir: str) -> None:
    small = ["--data_dir", mnist_dir, "--steps", "2", "--rounds", "1"]
    assert "| `mnist-lit fit`, 128 |" in run(str(FOLDER / "memory.py"), *small)
    run(str(FOLDER / "scaling.py"), *small, "--output", "scaling.json")
    results = json.loads(Path("scaling.json").read_text())
    assert [*results["sizes"]] == ["1", "4", "16"]
    assert [*results["devices"]] == ["1", "2"]


@pytest.mark.slow
def test_a_recipes_time_to_accuracy_is_measured(mnist_dir: str) -> None:
    out = run(str(FOLDER / "time_to_accuracy.py"), "--data_dir", mnist_dir, "--seeds", "1", "--steps", "2")
    assert "| images seen |" in out
    assert "| seeds that reach 99.34% |" in out


@pytest.mark.slow
def test_ema_muon_and_sam_are_measured_in_the_steps_asked_for(script: Script, mnist_dir: str) -> None:
    script("optimizers.py", "--data_dir", mnist_dir, "--steps", "15", "--output", "results.json")
    results = json.loads(Path("results.json").read_text(encoding="utf-8"))
    assert results["averaging"]["step"] == [15]
    assert results["averaging"]["weights"] != results["averaging"]["average"]
    momentum, update = (results["singular_values"][name] for name in ("momentum", "update"))
    assert len(momentum) == len(update) == 128
    assert momentum[0] / momentum[64] > 2 > update[0] / update[64]
    assert results["sharpness"]["with"] != results["sharpness"]["without"]
