"""In a SLURM job, Lightning loads nothing by itself and leaves SIGUSR1 to the fit."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.callbacks.stopping import StopOnSignal
from mnist_lit.runs.checkpoint import load_checkpoint, save_checkpoint

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration", "job")
JOB = {"JOB_ID": "77", "JOB_NAME": "train", "JOB_NODELIST": "localhost", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
JOB |= {"NNODES": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a task that `srun` has started."""
    for name, value in JOB.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_a_fit_starts_from_scratch_and_a_test_scores_its_own_file_beside_lightnings_checkpoint(
    cli: Cli, tiny_run: Path, tiny_fit: tuple[str, ...]
) -> None:
    last = tiny_run / "checkpoints/last.ckpt"
    _, expected, _ = cli("test", str(last))
    content = load_checkpoint(last)
    save_checkpoint({**content, "state_dict": {k: v * 0 for k, v in content["state_dict"].items()}}, Path("other.ckpt"))
    shutil.move("other.ckpt", "hpc_ckpt_1.ckpt")
    assert cli("test", str(last))[1] == expected
    code, _, err = cli(*tiny_fit, "--trainer.max_epochs", "1", "--model.lr", "0.03")
    assert (code, err) == (0, "")
    again = load_checkpoint(Path("lightning_logs/version_1/checkpoints/last.ckpt"))
    assert again["global_step"] == content["global_step"]
    assert all(torch.equal(again["state_dict"][name], value) for name, value in content["state_dict"].items())


def test_sigusr1_saves_and_resume_auto_continues(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = (*tiny_fit, "--trainer.max_epochs", "1", "--resume", "auto")
    handle = StopOnSignal.on_train_batch_end

    def interrupted(self: StopOnSignal, *args: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)
        handle(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_train_batch_end", interrupted)
        code, _, err = cli(*fit)
    assert code == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1 at step 1; saved lightning_logs/version_0/checkpoints/last.ckpt" in err
    assert not list(Path.cwd().glob("hpc_ckpt_*"))
    assert cli(*fit)[0] == 0
    assert load_checkpoint(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["global_step"] == 2
