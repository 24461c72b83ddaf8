"""What is killed goes on as if nothing had been: from every checkpoint, to the same bits and the same curves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit import checkpoint, runs
from mnist_lit.callbacks import BestAndLast
from mnist_lit.verify import different_curve, different_state

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")
SMALL = ("--data.dataset", "digits", "--data.val_size", "1277", "--data.batch_size", "32")  # 5 steps an epoch
FIT = ("fit", *SMALL, "--data.degrees", "10", "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1")


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return checkpoint.load(run / "checkpoints" / name)


def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run folder as it is after each save, which is what a kill leaves if it comes then."""
    taken: list[Path] = []
    save = BestAndLast.save

    def watched(self: BestAndLast, trainer: Any, name: str = runs.LAST) -> None:
        save(self, trainer, name)
        taken.append(Path(f"snapshot_{len(taken)}_{name}_at_{trainer.global_step}"))
        shutil.copytree("lightning_logs", taken[-1])

    monkeypatch.setattr(BestAndLast, "save", watched)
    return taken


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--trainer.max_epochs", "2", "--model.ema_decay", "0.9"), id="sgd_and_ema"),
        pytest.param(
            ("--model.ema_decay", "0.9", "--model.dropout", "0.2"), id="dropout_three_epochs", marks=pytest.mark.slow
        ),
        pytest.param(
            ("--model.optimizer", "muon", "--model.schedule", "cosine", "--trainer.val_check_interval", "2"),
            id="muon_validation_within_an_epoch",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--model.optimizer", "adamw", "--model.schedule", "step", "--model.step_size", "1", "--data.val_size", "0")
            + ("--trainer.limit_train_batches", "5", "--trainer.accumulate_grad_batches", "2"),
            id="adamw_no_validation_accumulated_batches",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_goes_on_from_every_checkpoint_to_the_same_bits_and_curves(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    fit = (*FIT, *options, "--checkpoint_every_n_steps", "1")
    with monkeypatch.context() as patch:
        taken = snapshots(patch)
        assert cli(*fit)[0] == 0
    shutil.move("lightning_logs", "whole")
    assert len(taken) >= 9
    for folder in taken:
        shutil.copytree(folder, "lightning_logs")
        code, _, err = cli(*fit, "--resume", "auto")
        assert (code, err) == (0, ""), folder
        assert list(Path("lightning_logs").iterdir()) == [RUN]
        assert different_state(state(Path("whole/version_0")), state(RUN)) is None, folder
        assert different_curve(Path("whole/version_0"), RUN) is None, folder
        assert RUN.joinpath(runs.FINISHED).exists()
        shutil.rmtree("lightning_logs")
