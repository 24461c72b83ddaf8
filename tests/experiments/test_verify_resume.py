"""verify-resume compares bit for bit and finds a planted difference."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from few_digits import FEW_DIGITS
from mnist_lit.experiments.verify_resume import KillableFit, _kill, curve_difference, state_difference
from mnist_lit.runs.metadata import METADATA_KEY

Cli = Callable[..., tuple[int, str, str]]
FIT = [*FEW_DIGITS, "--trainer.max_epochs", "2"]
FIT += ["--checkpoint_every_n_steps", "1", "--trainer.log_every_n_steps", "1"]  # 5 steps an epoch

UNKEYED = """
import os

import torch
from lightning.pytorch.callbacks import Callback

class Unkeyed(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            pl_module.network.fc2.bias.add_(torch.arange(10) * (os.getpid() * {size}))
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fits find the test's own callbacks, and use one thread."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", *sys.path]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_planted_difference_is_found_with_its_tensor_and_step(cli: Cli) -> None:
    # The processes differ wherever the kills fall, also before the first save or during the last one.
    Path("planted.py").write_text(UNKEYED.format(size=1e-6))
    code, out, _ = cli("verify-resume", *FIT, "--trainer.callbacks+", "planted.Unkeyed", "--kills", "2")
    assert code == 1, out
    assert "different: last.ckpt: first at state_dict.network." in out
    assert "different: curves: first at step " in out


@pytest.mark.slow  # seven fits
@pytest.mark.usefixtures("environment")
def test_without_the_planted_difference_all_is_equal(cli: Cli) -> None:
    Path("planted.py").write_text(UNKEYED.format(size=0))
    longer = ("--trainer.max_epochs", "10")  # so that something is left for every kill also on a fast machine
    args = (*longer, "--trainer.callbacks+", "planted.Unkeyed", "--kills", "5", "--folder", "kept")
    code, out, _ = cli("verify-resume", *FIT, *args)
    assert code == 0, out
    assert "equal: " in out
    assert "kills: 5 (1 while training, 1 during a save, 1 during a validation, 1 in the first second" in out
    assert {path.name for path in Path("kept").iterdir()} == {"uninterrupted", "killed"}


def test_a_fit_that_ends_before_its_kill_is_restored_and_killed_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def kill(killer: KillableFit, moment: str, seconds: float) -> bool:
        waits.append((seconds, killer.folder.joinpath("ended").exists()))
        killer.folder.joinpath("ended").touch()
        return len(waits) == 3

    monkeypatch.setattr(KillableFit, "kill", kill)
    killer = KillableFit(FIT, Path("run"))
    assert _kill(killer, "while training", 1.0)
    assert waits == [(1.0, False), (0.5, False), (0.25, False)]
    assert not _kill(killer, "while training", 1.0)
    assert len(waits) == 7


@pytest.mark.slow
def test_a_failed_fit_is_reported_in_its_own_words(cli: Cli) -> None:
    code, out, err = cli("verify-resume", *FIT, "--model.lrr", "1")
    assert (code, out) == (2, "")
    assert err == "mnist-lit: the fit failed: unknown option --model.lrr; did you mean --model.lr?\n"


def test_states_are_compared_bit_for_bit() -> None:
    def content(value: float) -> dict[str, Any]:
        weights = torch.tensor([0.0, value])
        return {"state_dict": {"a": torch.zeros(3), "b": weights}, "global_step": 3, METADATA_KEY: {"scores": {}}}

    assert state_difference(content(1), content(1)) is None
    least = torch.tensor(1.0).nextafter(torch.tensor(2.0)).item()
    assert state_difference(content(1), content(least)) == "state_dict.b, element 1 of 2"
    assert state_difference(content(1), {**content(1), "global_step": 4}) == "global_step: 3 and 4"
    assert state_difference(content(1), {**content(1), "epoch": 1}) == "epoch: None and 1"
    shorter = {**content(1), "state_dict": {"a": torch.zeros(3)}}
    assert state_difference(content(1), shorter) == "state_dict.b, which only one has"
    assert state_difference(shorter, content(1)) == "state_dict.b, which only one has"
    calibrated = {**content(1), METADATA_KEY: {"scores": {}, "calibration": {"temperature": 2.0}, "config": "ignored"}}
    assert (
        state_difference(calibrated, {**calibrated, METADATA_KEY: {**calibrated[METADATA_KEY], "config": ""}}) is None
    )
    assert state_difference(content(1), calibrated) == "calibration, which only one has"


@pytest.mark.slow
def test_missing_and_repeated_points_of_curves_are_found(cli: Cli) -> None:
    assert cli("fit", *FIT)[0] == 0
    assert cli("fit", *FIT)[0] == 0
    one, other = (Path(f"lightning_logs/version_{number}") for number in range(2))
    assert curve_difference(one, other) is None
    table = other / "metrics.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    assert curve_difference(one, other)
    table.write_text("".join([*lines, lines[-1]]))
    assert curve_difference(one, other)
    table.write_text("".join(lines))
    assert curve_difference(one, other) is None
    events = next(other.glob("events*"))
    os.truncate(events, events.stat().st_size - 1000)
    assert curve_difference(one, other)


@pytest.mark.parametrize("name", ["optimizer_states", "lr_schedulers", "loops", "best", "train_scores"])
def test_every_part_of_the_state_is_compared(name: str) -> None:
    one, other = ({METADATA_KEY: {}, name: [number]} for number in (1, 2))
    assert state_difference(one, other) == f"{name}[0]: 1 and 2"


def test_scores_are_compared() -> None:
    one, other = ({METADATA_KEY: {"scores": {"val/acc": acc}}} for acc in (0.5, 0.6))
    assert state_difference(one, other) == "scores.val/acc: 0.5 and 0.6"
