"""What is killed goes on as if nothing had been: from every checkpoint, to the same bits and the same curves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.callbacks.checkpoints import SaveBestAndLast
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.runs.checkpoint import METADATA_KEY, load_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT, all_runs
from mnist_lit.runs.resume import lock_run

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")
SMALL = ("--data.dataset", "digits", "--data.val_size", "1277", "--data.batch_size", "32")  # 5 steps an epoch
FIT = ("fit", *SMALL, "--data.degrees", "10", "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1")


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / name)


def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run folder as it is after each save, which is what a kill leaves if it comes then."""
    taken: list[Path] = []
    save = SaveBestAndLast.save

    def watched(self: SaveBestAndLast, trainer: Any, name: str = LAST_CKPT) -> None:
        save(self, trainer, name)
        taken.append(Path(f"snapshot_{len(taken)}_{name}_at_{trainer.global_step}"))
        shutil.copytree("lightning_logs", taken[-1])

    monkeypatch.setattr(SaveBestAndLast, "save", watched)
    return taken


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--trainer.max_epochs", "2", "--model.ema_decay", "0.9"), id="sgd_and_ema"),
        pytest.param(
            (
                *("--model.ema_decay", "0.9", "--model.dropout", "0.2"),
                *("--model.sam_rho", "0.1", "--data.degrees", "15", "--data.anneal", "0.2"),
            ),
            id="dropout_sam_and_annealing_three_epochs",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--model.optimizer", "muon", "--model.schedule", "cosine", "--trainer.val_check_interval", "2"),
            id="muon_validation_within_an_epoch",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (
                *("--model.optimizer", "adamw", "--model.schedule", "step", "--model.step_size", "1"),
                *("--data.val_size", "0", "--trainer.limit_train_batches", "5"),
                *("--trainer.accumulate_grad_batches", "2"),
            ),
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
        assert state_difference(state(Path("whole/version_0")), state(RUN)) is None, folder
        assert curve_difference(Path("whole/version_0"), RUN) is None, folder
        assert RUN.joinpath(FINISHED_MARK).exists()
        shutil.rmtree("lightning_logs")


def test_the_newest_checkpoint_that_can_be_read_counts_and_the_others_are_named(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "2", "--checkpoint_every_n_steps", "2")
    assert cli(*fit)[0] == 0
    whole = state(RUN)
    RUN.joinpath(FINISHED_MARK).unlink()
    last = RUN / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err.count("\n")) == (0, 1)
    assert "checkpoints/last.ckpt is no checkpoint" in err
    assert "passed over" in err
    assert f"fit: {RUN}, from step 8 on" in out
    assert state_difference(state(RUN), whole) is None


def test_a_finished_run_says_so_and_changes_nothing(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    assert cli(*fit, "--resume", "auto")[0] == 0  # nothing to resume: a fresh start
    before = {path: path.stat().st_mtime_ns for path in Path("lightning_logs").rglob("*") if path.name != ".lock"}
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    assert out == f"fit: {RUN} is finished; its best is {RUN}/checkpoints/best.ckpt\n"
    assert before == {
        path: path.stat().st_mtime_ns for path in Path("lightning_logs").rglob("*") if path.name != ".lock"
    }
    # also where it was killed between its last save and the mark
    RUN.joinpath(FINISHED_MARK).unlink()
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    assert "is finished" in out
    assert RUN.joinpath(FINISHED_MARK).exists()


def test_another_recipe_starts_afresh_and_other_places_do_not(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    assert cli(*fit)[0] == 0
    assert "is finished" in cli(*fit, "--resume", "auto", "--data.data_dir", "b", "--trainer.accelerator", "cpu")[1]
    code, _, err = cli(*fit, "--resume", "auto", "--model.lr", "0.01")
    assert (code, err) == (0, f"resume: {RUN} has model.lr 0.05, not 0.01; starting afresh\n")
    assert len(all_runs(Path("lightning_logs"))) == 2


def test_a_run_that_is_held_is_passed_over(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    assert cli(*fit)[0] == 0
    lock = lock_run(RUN)
    assert lock
    assert lock_run(RUN) is None
    code, _, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, f"resume: {RUN} is held by another process; passed over\n")
    lock.release()
    assert len(all_runs(Path("lightning_logs"))) == 2


def test_a_run_killed_before_its_first_checkpoint_is_begun_again_in_its_folder(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    assert cli(*fit)[0] == 0
    shutil.copytree(RUN, "whole")
    shutil.rmtree(RUN / "checkpoints")
    RUN.joinpath(FINISHED_MARK).unlink()
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    assert f"fit: {RUN}\n" in out
    assert curve_difference(Path("whole"), RUN) is None
    assert state_difference(state(Path("whole")), state(RUN)) is None


def test_other_data_are_refused(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    assert cli(*fit)[0] == 0
    RUN.joinpath(FINISHED_MARK).unlink()
    content = torch.load(RUN / "checkpoints/last.ckpt")
    content[METADATA_KEY]["data"] = "0" * 32
    torch.save(content, RUN / "checkpoints/last.ckpt")
    code, _, err = cli(*fit, "--resume", "auto")
    assert (code, err.count("\n")) == (2, 1)
    assert "trained on other data" in err
    assert RUN.joinpath("metrics.csv").exists()


def test_resume_and_a_checkpoint_of_ones_own_are_one_too_many(cli: Cli) -> None:
    assert cli(*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")[0] == 0
    code, _, err = cli(*FIT, "--resume", "auto", "--ckpt_path", str(RUN / "checkpoints/last.ckpt"))
    assert (code, err.count("\n")) == (2, 1)
    assert "leave --ckpt_path out" in err
