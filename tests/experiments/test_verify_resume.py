"""verify-resume compares to the bit, and finds a difference that is there."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.experiments.verify_resume import KillableFit, _kill, curve_difference, state_difference
from mnist_lit.runs.checkpoint import METADATA_KEY

Cli = Callable[..., tuple[int, str, str]]
FIT = ["--data.dataset", "digits", "--data.val_size", "1277", "--data.batch_size", "32", "--trainer.max_epochs", "2"]
FIT += ["--checkpoint_every_n_steps", "1", "--trainer.log_every_n_steps", "1"]  # 5 steps an epoch

UNKEYED = """
import torch
from lightning.pytorch.callbacks import Callback

class Unkeyed(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            pl_module.network.fc2.bias.add_(torch.rand(10) * {size})
"""


def verify(*args: str) -> tuple[int, str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path]), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "mnist_lit", "verify-resume", *args]
    run = subprocess.run(program, env=env, capture_output=True, text=True, check=False, timeout=600)
    return run.returncode, run.stdout + run.stderr


def test_a_planted_difference_is_found_with_its_tensor_and_step() -> None:
    # torch's generator starts anew with the process; nothing saves where it stood
    Path("planted.py").write_text(UNKEYED.format(size=1e-6))
    code, out = verify(*FIT, "--trainer.callbacks+", "planted.Unkeyed", "--kills", "2")
    assert code == 1, out
    assert "different: last.ckpt: first at state_dict.network." in out
    assert "different: curves: first at step " in out


@pytest.mark.slow
def test_the_same_without_it_is_equal() -> None:
    Path("planted.py").write_text(UNKEYED.format(size=0))
    code, out = verify(*FIT, "--trainer.callbacks+", "planted.Unkeyed", "--kills", "5", "--folder", "kept")
    assert code == 0, out
    assert "equal: " in out
    assert "killed: 5 times (1 while training, 1 during a save, 1 during a validation, 1 in the first second" in out
    assert {path.name for path in Path("kept").iterdir()} == {"undisturbed", "killed"}


def test_a_fit_that_ended_before_is_set_back_and_killed_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_wrong_input_is_the_fits_own_line(cli: Cli) -> None:
    assert cli("verify-resume", "--kills=-1") == (2, "", "mnist-lit: --kills: expected 0 or more, got -1\n")
    code, out, err = cli("verify-resume", *FIT, "--model.lrr", "1")
    assert (code, out) == (2, "")
    assert err == "mnist-lit: the fit failed: unknown option model.lrr; did you mean model.lr?\n"


def test_states_are_compared_to_the_bit() -> None:
    def content(value: float) -> dict[str, object]:
        weights = torch.tensor([0.0, value])
        return {"state_dict": {"a": torch.zeros(3), "b": weights}, "global_step": 3, METADATA_KEY: {"scores": {}}}

    assert state_difference(content(1), content(1)) is None
    least = torch.tensor(1.0).nextafter(torch.tensor(2.0)).item()
    assert state_difference(content(1), content(least)) == "state_dict.b, element 1 of 2"
    assert state_difference(content(1), {**content(1), "global_step": 4}) == "global_step: 3 and 4"
    assert state_difference(content(1), {**content(1), "epoch": 1}) == "epoch: None and 1"
    shorter = {**content(1), "state_dict": {"a": torch.zeros(3)}}
    assert state_difference(content(1), shorter) == "state_dict.b, which only one has"


def test_missing_and_doubled_points_of_curves_are_found(cli: Cli) -> None:
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
