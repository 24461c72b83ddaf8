"""Run folders and their files have names, and the newest is found."""

from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import (
    all_runs,
    best_checkpoint,
    find_run,
    finished_epochs,
    finished_members,
    group_members,
    mark_finished,
    newest_checkpoint,
    recorded_validation_size,
    report_name,
    run_name,
    run_of_checkpoint,
)
from mnist_lit.runs.new_folder import create_run


def save(run: Path, name: str) -> Path:
    path = run / "checkpoints" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_the_newest_run_is_the_highest_number_with_a_checkpoint(tmp_path: Path) -> None:
    for empty in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="nothing was trained"):
            newest_checkpoint(empty)
    made = [create_run(tmp_path) for _ in range(12)]
    save(made[2], "best.ckpt")
    best = save(made[10], "best.ckpt")
    assert newest_checkpoint(tmp_path) == best  # not version_2, not the empty version_11


@pytest.mark.parametrize("name", ["baseline", "sweep_fast/trial_1"])
def test_a_renamed_run_and_a_trial_are_not_the_newest_run_but_suggested(tmp_path: Path, name: str) -> None:
    create_run(tmp_path)
    tmp_path.joinpath("sweep_fast/trial_0").mkdir(parents=True)
    tmp_path.joinpath(name).mkdir(exist_ok=True)
    save(tmp_path / name, "last.ckpt")
    message = f"^no version_N in {tmp_path} has a checkpoint; name a run, such as {tmp_path / name}$"
    with pytest.raises(InputError, match=message):
        newest_checkpoint(tmp_path)


def test_a_run_without_a_checkpoint_and_a_sweep_cannot_be_reported_on() -> None:
    run, trial = Path("lightning_logs/version_1"), Path("lightning_logs/sweep_fast/trial_0")
    for folder in (run, trial):
        folder.mkdir(parents=True)
        folder.joinpath("config.yaml").touch()
    with pytest.raises(InputError, match=f"^{run} has no checkpoint$"):
        find_run("version_1")
    with pytest.raises(InputError, match=f"^{trial.parent} is a sweep; name one of its trials, such as {trial}$"):
        find_run("sweep_fast")


def test_without_a_best_checkpoint_the_last_is_used(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    assert save(run, "previous.ckpt") == best_checkpoint(run)
    last = save(run, "last.ckpt")
    assert best_checkpoint(run) == last
    assert save(run, "best.ckpt") == best_checkpoint(run)


def test_a_checkpoint_outside_a_run_belongs_to_its_own_folder(tmp_path: Path) -> None:
    assert run_of_checkpoint(Path("logs/version_3/checkpoints/best.ckpt")) == Path("logs/version_3")
    assert run_of_checkpoint(tmp_path / "model.ckpt") == tmp_path
    assert run_of_checkpoint(Path("model.ckpt")) == Path.cwd()


def test_epochs_are_stored_exactly(tmp_path: Path) -> None:
    for epochs in (16, 0.5, 12345, 1_234_567, 1234.125):
        mark_finished(tmp_path, epochs, 180)
        assert (finished_epochs(tmp_path), recorded_validation_size(tmp_path)) == (epochs, 180)


def test_the_report_of_another_checkpoint_has_its_name(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    paths = [save(run, f"{name}.ckpt") for name in ("last", "epoch_1", "best")]
    names = ["report_last.html", "report_epoch_1.html", "report.html"]
    assert [report_name(path) for path in paths] == names
    assert (report_name(None), report_name(tmp_path / "mine.ckpt")) == ("report.html", "report_mine.html")


def test_a_groups_runs_are_listed_by_seed() -> None:
    logs = Path("lightning_logs")
    for name in ("version_10", "version_9/seed_10", "version_9/seed_2", "version_9/seed_x"):
        logs.joinpath(name).mkdir(parents=True)
    assert group_members(logs / "version_10") == []
    runs = all_runs(logs)
    assert [run_name(run) for run in runs] == ["version_9/seed_2", "version_9/seed_10", "version_10"]
    with pytest.raises(InputError, match=r"seed_2 is unfinished; .* --resume auto"):
        finished_members(logs / "version_9")
    for run in runs:
        run.joinpath("finished").touch()
        save(run, "best.ckpt")
    assert finished_members(logs / "version_9") == runs[:2] == group_members(find_run("version_9"))
    with pytest.raises(InputError, match=r"at version_90; did you mean version_9"):
        find_run("version_90")


def test_a_finished_mark_of_numbers_that_no_run_has_says_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "finished"
    mark.write_text("16\n180\n")
    assert (finished_epochs(tmp_path), recorded_validation_size(tmp_path)) == (16, 180)
    for number in ("9" * 400, "1" + "0" * 20, "-1", "0"):
        mark.write_text(f"{number}\n{number}\n")
        assert (finished_epochs(tmp_path), recorded_validation_size(tmp_path)) == (None, None)
