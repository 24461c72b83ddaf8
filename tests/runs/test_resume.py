"""`--resume auto` continues a killed run from any checkpoint to the same weights, bit for bit, and the same curves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from few_digits import FEW_DIGITS
from mnist_lit.callbacks.checkpoints import SaveBestAndLast
from mnist_lit.errors import InputError
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT, all_runs, best_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.resume import begin_run, check_same_recipe, find_resumable, newest_readable, restore_run
from mnist_lit.runs.start import RunStart
from mnist_lit.system.folder_lock import lock_folder

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")
LIMITS = ("--trainer.max_epochs", "3", "--trainer.limit_val_batches", "2", "--trainer.log_every_n_steps", "1")
FIT = ("fit", *FEW_DIGITS, "--data.degrees", "10", *LIMITS)
SHORT_FIT = (*FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")

pytestmark = pytest.mark.usefixtures("small_calibration")


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / name)


def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the run folder after each save: what a kill at that moment would leave."""
    taken: list[Path] = []
    save = SaveBestAndLast.save

    def save_and_copy(self: SaveBestAndLast, trainer: Any, name: str = LAST_CKPT) -> None:
        save(self, trainer, name)
        taken.append(Path(f"snapshot_{len(taken)}_{name}_at_{trainer.global_step}"))
        shutil.copytree("lightning_logs", taken[-1])

    monkeypatch.setattr(SaveBestAndLast, "save", save_and_copy)
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
def test_a_run_resumes_from_every_checkpoint_to_the_same_bits_and_curves(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    fit = (*FIT, *options, "--checkpoint_every_n_steps", "1")
    with monkeypatch.context() as patch:
        taken = snapshots(patch)
        assert cli(*fit)[0] == 0
    shutil.move("lightning_logs", "uninterrupted")
    assert len(taken) >= 9
    # every third where the test is to be quick
    for folder in taken if request.node.get_closest_marker("slow") else taken[::3]:
        shutil.copytree(folder, "lightning_logs")
        code, _, err = cli(*fit, "--resume", "auto")
        assert (code, err) == (0, ""), folder
        assert list(Path("lightning_logs").iterdir()) == [RUN]
        assert state_difference(state(Path("uninterrupted/version_0")), state(RUN)) is None, folder
        assert curve_difference(Path("uninterrupted/version_0"), RUN) is None, folder
        assert RUN.joinpath(FINISHED_MARK).exists()
        shutil.rmtree("lightning_logs")


def test_an_unreadable_checkpoint_is_reported_and_the_one_before_it_is_used(cli: Cli) -> None:
    fit = (*FIT, "--trainer.max_epochs", "2", "--checkpoint_every_n_steps", "2")
    assert cli(*fit)[0] == 0
    uninterrupted = state(RUN)
    RUN.joinpath(FINISHED_MARK).unlink()
    last, partial = RUN / "checkpoints/last.ckpt", RUN / "checkpoints/.last.ckpt.1234.part"
    last.write_bytes(last.read_bytes()[:-100])
    partial.write_bytes(b"left by a kill during a save")
    RUN.joinpath("predictions_last.csv").write_text("of the weights at the interruption")
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err.count("\n")) == (0, 1)
    assert f"{last} " in err
    assert f"fit: {RUN}, resuming at step 8" in out
    assert not partial.exists()
    assert not RUN.joinpath("predictions_last.csv").exists()
    assert state_difference(state(RUN), uninterrupted) is None


def test_resuming_a_finished_run_changes_nothing(cli: Cli) -> None:
    assert cli(*SHORT_FIT, "--resume", "auto")[0] == 0  # nothing to resume: a new run
    paths = [path for path in Path("lightning_logs").rglob("*") if path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in paths}
    finished = (0, f"fit: {RUN} is finished; its best checkpoint is {RUN}/checkpoints/best.ckpt\n", "")
    assert cli(*SHORT_FIT, "--resume", "auto") == finished
    assert before == {path: path.stat().st_mtime_ns for path in paths}
    mark = RUN.joinpath(FINISHED_MARK).read_bytes()
    RUN.joinpath(FINISHED_MARK).unlink()  # as if killed between the last save and the mark
    assert cli(*SHORT_FIT, "--resume", "auto") == finished
    assert RUN.joinpath(FINISHED_MARK).read_bytes() == mark


def test_a_changed_recipe_starts_a_new_run_and_a_changed_machine_setting_does_not(cli: Cli) -> None:
    assert cli(*SHORT_FIT)[0] == 0
    elsewhere = ("--data.data_dir", "b", "--trainer.accelerator", "cpu")
    assert "is finished" in cli(*SHORT_FIT, "--resume", "auto", *elsewhere)[1]
    code, _, err = cli(*SHORT_FIT, "--resume", "auto", "--model.lr", "0.01")
    assert (code, err.count("\n")) == (0, 1)
    assert f"{RUN} has a different recipe: model.lr 0.05, not 0.01" in err
    assert len(all_runs(Path("lightning_logs"))) == 2


def test_a_run_held_by_another_process_is_skipped(cli: Cli) -> None:
    assert cli(*SHORT_FIT)[0] == 0
    lock = lock_folder(RUN)
    assert lock
    assert lock_folder(RUN) is None
    code, _, err = cli(*SHORT_FIT, "--resume", "auto")
    lock.release()
    assert (code, err.count("\n")) == (0, 1)
    assert str(RUN) in err
    assert "another process" in err
    assert len(all_runs(Path("lightning_logs"))) == 2


def test_a_run_killed_before_its_first_checkpoint_starts_again_in_its_folder(cli: Cli) -> None:
    assert cli(*SHORT_FIT)[0] == 0
    shutil.copytree(RUN, "uninterrupted")
    shutil.rmtree(RUN / "checkpoints")
    RUN.joinpath(FINISHED_MARK).unlink()
    code, out, err = cli(*SHORT_FIT, "--resume", "auto")
    assert (code, err) == (0, "")
    assert f"fit: {RUN}\n" in out
    assert curve_difference(Path("uninterrupted"), RUN) is None
    assert state_difference(state(Path("uninterrupted")), state(RUN)) is None


def test_a_run_trained_on_other_data_is_not_resumed(cli: Cli, error_line: Callable[..., str]) -> None:
    assert cli(*SHORT_FIT)[0] == 0
    RUN.joinpath(FINISHED_MARK).unlink()
    content = torch.load(RUN / "checkpoints/last.ckpt")
    content[METADATA_KEY]["data"] = "0" * 32
    torch.save(content, RUN / "checkpoints/last.ckpt")
    assert "trained on different data" in error_line(*SHORT_FIT, "--resume", "auto")
    assert RUN.joinpath("metrics.csv").exists()


def test_resume_and_ckpt_path_exclude_each_other(cli: Cli, error_line: Callable[..., str], tiny_run: Path) -> None:
    line = error_line(*FIT, "--resume", "auto", "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"))
    assert "leave" in line
    assert "--ckpt_path" in line


CONFIG = "seed_everything: 0\nmodel: {lr: 0.1}\ndata: {val_size: 5}\ntrainer: {max_epochs: 2}\n"


def make_run(number: int, *names: str, config: str = CONFIG, missing: str = "", **more: Any) -> Path:
    """A run folder with these checkpoints. missing: what these lack. more: what else they hold."""
    run = Path(f"version_{number}")
    run.joinpath("checkpoints").mkdir(parents=True)
    run.joinpath("config.yaml").write_text(config)
    metadata = {"config": config, "data": "f00", "classes": ["0", "1"], "scores": {}}
    metadata |= {"curves": {"metrics.csv": 1}, "versions": {}}
    content: dict[str, Any] = {"state_dict": {}, "hyper_parameters": {"num_classes": 2}, METADATA_KEY: metadata}
    content |= {"global_step": 3, "loops": {}, "best": None, "train_scores": [], **more}
    for name in names:
        torch.save({key: value for key, value in content.items() if key != missing}, run / "checkpoints" / name)
    return run


def found(*runs: Path, config: str = CONFIG) -> tuple[Path, Path | None, bool] | None:
    """What `find_resumable` finds; its lock is the only one that is held afterwards."""
    if (resumable := find_resumable(runs, config)) is None:
        return None
    start, lock = resumable
    assert start.run
    assert start.finished != start.continues
    for other in runs:
        again = lock_folder(other)
        assert (again is None) == (other == start.run)
        if again:
            again.release()
    lock.release()
    return start.run, start.checkpoint, start.finished


def test_the_newest_run_of_the_recipe_is_resumed_from_its_last_checkpoint() -> None:
    runs = [make_run(n, "best.ckpt", "last.ckpt", "previous.ckpt") for n in (0, 1)]
    runs.append(make_run(2, "last.ckpt", config=CONFIG.replace("0.1", "0.2")))
    assert found(*runs) == (runs[1], runs[1] / "checkpoints/last.ckpt", False)
    assert found(*runs, config=CONFIG.replace("0.1", "0.2")) == (runs[2], runs[2] / "checkpoints/last.ckpt", False)
    assert found(*runs, config=CONFIG.replace("0.1", "0.3")) is None
    runs[1].joinpath(FINISHED_MARK).touch()
    assert found(*runs) == (runs[1], None, True)


def test_a_run_without_a_checkpoint_is_resumed_if_no_older_one_has_any() -> None:
    runs = [make_run(0), make_run(1), make_run(2, "last.ckpt", missing="loops")]
    assert found(*runs) == (runs[1], None, False)  # the last one's checkpoint cannot be resumed from
    older = make_run(3, "previous.ckpt")
    assert found(older, *runs) == (older, older / "checkpoints/previous.ckpt", False)


def test_a_run_that_was_to_continue_a_checkpoint_does_not_start_from_random_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(0, config=f"# mnist-lit fit --ckpt_path last --trainer.max_epochs 9\n{CONFIG}")
    assert found(run) is None
    assert "resume: skipping version_0, which was to continue a checkpoint but saved none\n" in capsys.readouterr().err
    older = make_run(1)
    assert found(older, run) == (older, None, False)
    last = make_run(2, "last.ckpt", config=run.joinpath("config.yaml").read_text())
    assert found(run, last) == (last, last / "checkpoints/last.ckpt", False)


def test_a_held_run_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(n, "last.ckpt") for n in (0, 1)]
    lock = lock_folder(runs[1])
    assert lock
    resumable = find_resumable(runs, CONFIG)
    assert resumable
    assert resumable[0].run == runs[0]
    assert capsys.readouterr().err == "resume: skipping version_1, which another process is using\n"


def test_the_next_newest_readable_checkpoint_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(0, "last.ckpt", "previous.ckpt", "best.ckpt")
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        assert newest_readable(run) == run / "checkpoints" / name
        assert capsys.readouterr().err.count("\n") == ["last.ckpt", "previous.ckpt", "best.ckpt"].index(name)
        run.joinpath("checkpoints", name).write_bytes(b"damaged")
    assert newest_readable(run) is None


@pytest.mark.parametrize("name", ["previous.ckpt", "best.ckpt", "epoch_1.ckpt"])
def test_a_damaged_last_checkpoint_never_becomes_the_previous_one(name: str) -> None:
    run = make_run(0, "last.ckpt", name)
    last = run / "checkpoints/last.ckpt"
    last.write_bytes(b"damaged")
    newest = newest_readable(run)
    assert newest == run / "checkpoints" / name
    restore_run(run, newest, "f00")
    assert load_checkpoint(last)
    previous = last.with_name("previous.ckpt")
    assert not previous.exists() or load_checkpoint(previous)


def test_a_damaged_best_checkpoint_beside_an_intact_last_one_is_forgotten() -> None:
    run, best = make_run(0, "last.ckpt", "best.ckpt"), [0.5, 1.0, 1]
    torch.save(state(run) | {"best": best}, run / "checkpoints/last.ckpt")
    run.joinpath("checkpoints/best.ckpt").write_bytes(b"damaged")
    restore_run(run, newest_readable(run), "f00")
    assert not run.joinpath("checkpoints/best.ckpt").exists()
    assert state(run)["best"] is None


def test_a_checkpoint_that_cannot_be_read_now_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(f"cannot read {path}: Input/output error")

    run = make_run(0, "last.ckpt", "previous.ckpt")
    monkeypatch.setattr("mnist_lit.runs.resume.load_checkpoint", fail)
    with pytest.raises(OSError, match=r"cannot read .*last\.ckpt: Input/output error; to resume from an older"):
        newest_readable(run)


def test_after_all_others_the_newest_epochs_checkpoint_is_taken_and_a_second_kill_loses_no_best(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = (*FIT, "--trainer.max_epochs", "4", "--keep_epochs", "true")
    assert cli(*fit)[0] == 0
    uninterrupted = state(RUN)
    RUN.joinpath(FINISHED_MARK).unlink()
    for name in ("last", "previous", "best", "epoch_4", "epoch_3"):
        RUN.joinpath("checkpoints", f"{name}.ckpt").write_bytes(b"damaged")
    names = ("predictions.csv", "predictions_last.csv")
    for name in names:
        RUN.joinpath(name).write_text("of a damaged checkpoint")
    restored = restore_run(RUN, newest_readable(RUN), state(RUN, "epoch_2.ckpt")[METADATA_KEY]["data"])  # and killed
    assert (restored, state(RUN)["best"]) == (RUN / "checkpoints/last.ckpt", None)
    assert not any(RUN.joinpath(name).exists() for name in names)
    assert capsys.readouterr().err.count("resume: skipping a checkpoint") == 5
    code, out, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    assert f"fit: {RUN}, resuming at step" in out
    assert load_checkpoint(RUN / "checkpoints/best.ckpt")["best"][2] > 2  # not the damaged one
    assert state_difference(state(RUN) | {"best": None}, uninterrupted | {"best": None}) is None


@pytest.mark.parametrize(
    "options",
    [
        (
            "--trainer.callbacks+=EarlyStopping",
            "--trainer.callbacks.monitor=val/loss",
        ),  # which looks at the epoch's end
        ("--trainer.max_steps", "5"),  # then no step and no epoch's end are left
    ],
)
def test_a_kill_between_the_last_validation_and_the_last_save_loses_no_score_and_no_file(
    options: tuple[str, ...], cli: Cli
) -> None:
    fit = (*FIT, "--trainer.max_epochs", "1", *options)
    assert cli(*fit)[0] == 0
    uninterrupted = state(RUN)
    for name in (FINISHED_MARK, "checkpoints/last.ckpt"):
        RUN.joinpath(name).unlink()
    code, _, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    resumed = state(RUN)
    scores, again = (one[METADATA_KEY]["scores"] for one in (uninterrupted, resumed))
    assert all(again[name] == score for name, score in scores.items() if name.startswith("val/"))
    assert all(weights.equal(resumed["state_dict"][name]) for name, weights in uninterrupted["state_dict"].items())
    if "--trainer.max_steps" not in options:  # then an epoch's end has counted the epoch
        assert state_difference(resumed, uninterrupted) is None
    assert RUN.joinpath(FINISHED_MARK).exists()


def test_a_run_at_its_end_is_finished_from_its_last_epochs_checkpoint() -> None:
    run = make_run(0, *(f"epoch_{number}.ckpt" for number in (2, 9, 10)))
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt", "epoch_x.ckpt"):
        run.joinpath("checkpoints", name).write_bytes(b"damaged")
    assert newest_readable(run) == run / "checkpoints/epoch_10.ckpt"
    restore_run(run, run / "checkpoints/epoch_10.ckpt", "f00")
    assert best_checkpoint(run) == run / "checkpoints/last.ckpt"
    assert newest_readable(run) == run / "checkpoints/last.ckpt"


@pytest.mark.parametrize("step", [9, 10, 11])
def test_an_epochs_checkpoint_that_is_newer_than_the_best_is_taken_and_both_are_kept(step: int) -> None:
    run, best = make_run(0, "best.ckpt", "epoch_1.ckpt", "epoch_2.ckpt"), [0.5, 1.0, 1]
    for name, steps in (("best.ckpt", step), ("epoch_2.ckpt", 10)):
        torch.save(state(run, name) | {"global_step": steps, "best": best}, run / "checkpoints" / name)
    newest = newest_readable(run)
    assert newest == run / "checkpoints" / ("epoch_2.ckpt" if step <= 10 else "best.ckpt")
    assert restore_run(run, newest, "f00") == run / "checkpoints/last.ckpt"
    assert (state(run, "best.ckpt")["global_step"], state(run)["global_step"]) == (step, max(step, 10))
    assert state(run)["best"] == best


def test_a_score_whose_file_is_gone_is_forgotten() -> None:
    run = make_run(0, "last.ckpt")
    last = run / "checkpoints/last.ckpt"
    torch.save(state(run) | {"best": [0.5, 1.0, 1]}, last)
    assert restore_run(run, last, "f00") == last
    assert state(run)["best"] is None


def test_a_run_without_a_readable_checkpoint_is_skipped_and_the_new_start_announced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(0, "last.ckpt", missing="loops")
    assert found(run) is None
    _, skipped, fresh = capsys.readouterr().err.splitlines()
    assert (skipped, fresh) == (f"resume: skipping {run}, which has no checkpoint to resume from",
                                "resume: starting from scratch")  # fmt: skip
    older = make_run(1, "last.ckpt")
    assert found(older, run) == (older, older / "checkpoints/last.ckpt", False)
    assert "from scratch" not in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["loops", "best", "train_scores"])
def test_a_checkpoint_without_the_state_of_its_fit_is_skipped(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(0, "last.ckpt", missing=missing)
    assert newest_readable(run) is None
    expected = f"resume: skipping a checkpoint: {run}/checkpoints/last.ckpt has no {missing}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("count", "differences"),
    [
        (0, ""),
        (1, "model.a0 1, not 2"),
        (3, "model.a0 1, not 2; model.a1 1, not 2; model.a2 1, not 2"),
        (5, "model.a0 1, not 2; model.a1 1, not 2; model.a2 1, not 2 and 2 more"),
    ],
)
def test_the_newest_runs_differences_are_printed(
    count: int, differences: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (f"model: {{{', '.join(f'a{n}: {value}' for n in range(count))}}}\n" for value in (1, 2))
    runs = [make_run(0, config="model: {b: 7}"), make_run(1, config=first), make_run(2, config="{")]
    assert found(*(runs if count else runs[2:]), config=second) is None
    line = f"resume: version_1 has a different recipe: {differences}; starting from scratch\n" if count else ""
    assert capsys.readouterr().err == line


def test_a_checkpoint_from_between_two_batches_of_a_step_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """The gradients of the first batch are lost."""
    assert newest_readable(make_run(0, "best.ckpt", within_step=True)) is None
    assert "version_0/checkpoints/best.ckpt was saved between two batches of one step" in capsys.readouterr().err
    assert newest_readable(make_run(1, "best.ckpt", within_step=False))
    run = make_run(2, "best.ckpt", within_step=True)
    assert found(run) == (run, None, False)  # it starts again in its folder


def test_the_runs_of_a_group_may_differ_in_their_seeds_only() -> None:
    runs = [make_run(0), make_run(1, config=CONFIG.replace("everything: 0", "everything: 1")), make_run(2, config="[")]
    check_same_recipe(runs, CONFIG)
    with pytest.raises(InputError, match="version_3 has a different recipe"):
        check_same_recipe([*runs, make_run(3, config=CONFIG.replace("0.1", "0.2"))], CONFIG)


@pytest.mark.parametrize("name", ["last.ckpt", "previous.ckpt", "best.ckpt"])
def test_a_run_folder_is_brought_back_to_its_checkpoint(name: str) -> None:
    run = make_run(0, "last.ckpt", "previous.ckpt", "best.ckpt")
    run.joinpath("metrics.csv").write_text("step\n0\n1\n2\n")
    restore_run(run, run / "checkpoints" / name, "f00")
    assert run.joinpath("metrics.csv").read_text() == "step\n0\n"
    assert run.joinpath("checkpoints/last.ckpt").exists()  # a complete run may not save again
    restore_run(run, None, "another")
    assert not run.joinpath("metrics.csv").exists()


def test_a_checkpoint_of_other_data_restores_nothing() -> None:
    run = make_run(0, "last.ckpt")
    run.joinpath("metrics.csv").write_text("step\n0\n1\n")
    with pytest.raises(InputError, match="was trained on different data"):
        restore_run(run, run / "checkpoints/last.ckpt", "f01")
    assert run.joinpath("metrics.csv").read_text() == "step\n0\n1\n"


def test_a_named_folder_in_which_another_process_begins_a_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "seed_0"
    run.mkdir()
    lock = lock_folder(run)
    assert lock

    def begin() -> Path | None:
        return begin_run(tmp_path, "model: {}", "mnist-lit fit", seed=0, group=tmp_path, run=None, resume=False)[0].run

    with pytest.raises(InputError, match=r"another process is beginning a run in .*seed_0"):
        begin()
    assert not run.joinpath("config.yaml").exists()
    lock.release()
    assert begin() == run


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"names": ["last.ckpt"], "missing": "loops"}, "has no checkpoint to resume from"),
        ({"config": CONFIG.replace("0.1", "0.2")}, "has a different recipe: model.lr 0.2, not 0.1"),
        ({"config": "{"}, "has a damaged config.yaml"),
        ({"held": True}, "another process is using"),
    ],
)
def test_a_named_run_that_cannot_be_resumed_is_one_error(
    made: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names, held = made.pop("names", []), made.pop("held", False)
    run = make_run(0, *names, **made)
    lock = lock_folder(run) if held else None

    def begin() -> RunStart:
        return begin_run(Path(), CONFIG, "mnist-lit fit", seed=0, group=None, run=run, resume=True)[0]

    with pytest.raises(InputError) as refused:
        begin()
    again = "to start it again, remove the folder while no process uses it"
    assert str(refused.value) == f"cannot resume version_0, which {reason}; {again}"
    assert "scratch" not in capsys.readouterr().err
    if lock:
        lock.release()
    shutil.rmtree(run)
    assert begin() == RunStart(run)
