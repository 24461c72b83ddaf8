"""Which checkpoints a fit writes, when, and what they contain."""

import itertools
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import StochasticWeightAveraging

from few_digits import FEW_DIGITS
from mnist_lit.callbacks.checkpoints import (
    SaveBestAndLast,
    TrackBest,
    full_validation_size,
    is_optimizer_step,
    validation_may_follow,
)
from mnist_lit.callbacks.stopping import StopOnSignal
from mnist_lit.runs import checkpoint, versions
from mnist_lit.runs.checkpoint import STOPS, WITHIN_STEP
from mnist_lit.runs.metadata import METADATA_KEY, Metadata
from mnist_lit.runs.results import Validation
from mnist_lit.runs.sharing import strip_for_sharing
from mnist_lit.runs.start import RunStart
from mnist_lit.system.atomic_file import write_atomic

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def load(number: int, name: str = "last") -> dict[str, Any]:
    """A checkpoint of lightning_logs/version_N."""
    content: dict[str, Any] = torch.load(f"lightning_logs/version_{number}/checkpoints/{name}.ckpt")
    return content


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(weights.equal(other["state_dict"][name]) for name, weights in one["state_dict"].items())


def test_a_checkpoint_describes_itself(tiny_run: Path) -> None:
    content = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
    metadata = content["mnist_lit"]
    assert yaml.safe_load(metadata["config"]) == yaml.safe_load(tiny_run.joinpath("config.yaml").read_text())
    assert 0 <= metadata["scores"]["val/acc"] <= 1
    assert len(metadata["data"]) == 32
    assert metadata["versions"] == versions.run_versions()
    assert "earlier" not in metadata
    assert content["hyper_parameters"]["lr"] == 0.03
    assert not [name for name in content["hyper_parameters"] if name.startswith("_")]


def test_a_run_that_is_resumed_on_another_machine_names_both(
    cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = load(0)["mnist_lit"]["versions"]
    fit = ("fit", "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2")
    code, out, _ = cli(*fit)
    assert (code, "trained so far with" in out) == (0, False)
    assert load(1)["mnist_lit"]["versions"] == here
    assert "earlier" not in load(1)["mnist_lit"]
    monkeypatch.setattr(versions, "cpu_name", lambda: "2 × abacus")
    for number in (2, 3):  # the second one resumes on the same machine as the first
        code, out, _ = cli(*fit)
        assert code == 0
        assert (f"fit: trained so far with cpu {here['cpu']}, not 2 × abacus; results" in out) == (number == 2)
        metadata = load(number)["mnist_lit"]
        assert (metadata["versions"], metadata["earlier"]) == ({**here, "cpu": "2 × abacus"}, [here])
        fit = ("fit", "--ckpt_path", "lightning_logs/version_2/checkpoints/last.ckpt", "--trainer.max_epochs", "3")
    slim = strip_for_sharing(load(3))
    assert Metadata.of(slim).earlier == (here,)
    assert cli("report", "version_3", "--images", "20")[0] == 0
    page = Path("lightning_logs/version_3/report.html").read_text(encoding="utf-8")
    assert f"Resumed: earlier steps were trained with cpu {here['cpu']}." in page
    assert "2 × abacus" in page


def test_keep_epochs_keeps_every_epoch_also_after_a_resume(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert cli(*tiny_fit, "--trainer.max_epochs", "2", "--keep_epochs", "true")[0] == 0
    names = {path.stem for path in Path("lightning_logs/version_0/checkpoints").iterdir()}
    assert names == {"best", "last", "previous", "epoch_1", "epoch_2"}
    assert (load(0, "epoch_1")["global_step"], load(0, "epoch_2")["global_step"]) == (2, 4)
    assert same_weights(load(0, "epoch_2"), load(0))
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert cli("fit", "--ckpt_path", last, "--trainer.max_epochs", "3")[0] == 0
    assert load(1, "epoch_3")["global_step"] == 6


@pytest.mark.parametrize(
    "failing", [pytest.param(number, marks=pytest.mark.slow) if number != 3 else number for number in range(1, 7)]
)
def test_a_run_that_stops_at_any_save_ends_with_every_epochs_file(
    cli: Cli, tiny_fit: tuple[str, ...], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = (*tiny_fit, "--trainer.max_epochs", "2", "--keep_epochs", "true")
    saves = 0

    def write(path: Path, *args: Any) -> None:
        nonlocal saves
        saves += path.suffix == ".ckpt"
        if saves == failing and path.suffix == ".ckpt":
            raise OSError(28, "No space left on device")
        write_atomic(path, *args)

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    stopped = cli(*fit)[0]
    assert bool(stopped) == (failing <= saves)
    assert cli(*fit, "--resume", "auto")[0] == 0
    assert cli(*fit)[0] == 0
    names = [sorted(path.name for path in Path(f"lightning_logs/version_{n}/checkpoints").iterdir()) for n in (0, 1)]
    assert names[0] == names[1]
    for name in names[1]:
        assert same_weights(load(0, name.removesuffix(".ckpt")), load(1, name.removesuffix(".ckpt"))), name


def test_a_run_stopped_in_mid_epoch_resumes_at_that_step(cli: Cli) -> None:
    fit = ["fit", *FEW_DIGITS]  # 5 steps an epoch
    fit += ["--model.schedule", "constant", "--data.degrees", "15", "--trainer.max_epochs", "3"]
    fit += ["--trainer.limit_val_batches", "2"]
    assert cli(*fit)[0] == 0
    assert cli(*fit, "--trainer.max_steps", "7")[0] == 0
    last = "lightning_logs/version_1/checkpoints/last.ckpt"
    code, out, _ = cli(*fit, "--ckpt_path", last, "--trainer.max_steps", "-1")
    assert code == 0
    assert "3  (15 steps)" in out
    uninterrupted, stopped, resumed = (load(number) for number in range(3))
    assert resumed["global_step"] == 15
    assert same_weights(uninterrupted, resumed)
    assert not same_weights(uninterrupted, stopped)


def test_best_and_last_of_the_same_epoch_resume_to_the_same_weights(cli: Cli, tiny_run: Path) -> None:
    for name in ("best", "last"):  # saved before the epoch's end, and at it
        path = str(tiny_run / f"checkpoints/{name}.ckpt")
        code, _, err = cli("fit", "--ckpt_path", path, "--trainer.max_epochs", "2")
        assert (code, err) == (0, "")
    assert load(1)["global_step"] == load(2)["global_step"] == 4
    assert same_weights(load(1), load(2))


def test_a_resumed_run_that_never_beats_the_old_best_has_a_best_of_its_own(cli: Cli, tiny_run: Path) -> None:
    content = load(0)
    content["best"] = [1.0, 0.0, 1]
    torch.save(content, tiny_run / "checkpoints/last.ckpt")
    code, out, _ = cli("fit", "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"), "--trainer.max_epochs", "2")
    assert code == 0
    best = Path(out.partition("checkpoint ")[2].split()[0])
    assert best.name == "best.ckpt"
    assert best.is_file()


class FakeLoop(SimpleNamespace):
    """Where a trainer's loop is: the batches over all epochs, and whether the epoch's batches are used up."""

    def __init__(self, total_batch_idx: int = 0, *, is_last_batch: bool = False) -> None:
        progress = SimpleNamespace(is_last_batch=is_last_batch)
        super().__init__(
            total_batch_idx=total_batch_idx, batch_idx=4, epoch_loop=SimpleNamespace(batch_progress=progress)
        )


class FakeTrainer(SimpleNamespace):
    """What the callbacks ask of a trainer, in the second epoch of five batches; `saved` collects the files."""

    def __init__(self, **changes: Any) -> None:
        self.saved: list[str] = []
        defaults: dict[str, Any] = {"sanity_checking": False, "current_epoch": 1, "global_step": 0, "max_steps": -1,
            "should_stop": False, "num_training_batches": 5, "accumulate_grad_batches": 1, "is_global_zero": True,
            "callback_metrics": {}, "datamodule": None, "check_val_every_n_epoch": 1, "val_check_batch": 5,
            "callbacks": [], "loggers": [], "limit_val_batches": 1.0, "overfit_batches": 0.0,
            "min_epochs": None, "min_steps": None, "enable_validation": True, "val_dataloaders": None,
            "num_val_batches": [], "fit_loop": FakeLoop()}  # fmt: skip
        super().__init__(**{**defaults, **changes})

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(path.name)


def validated(tracker: TrackBest, acc: float, loss: float, **changes: Any) -> dict[str, Any]:
    """Validate once; what was logged, and at which step."""
    logged: dict[str, Any] = {}
    module = SimpleNamespace(log_now=lambda scores, step: logged.update(scores, step=step))
    trainer = FakeTrainer(callback_metrics={"val/acc": torch.tensor(acc), "val/loss": torch.tensor(loss)}, **changes)
    tracker.on_validation_end(trainer, module)  # type: ignore[arg-type]
    return logged


def test_the_best_validation_so_far_is_logged_after_each() -> None:
    tracker = TrackBest()
    assert validated(tracker, 0.5, 1.0, current_epoch=0, global_step=0) == {"best/val_acc": 0.5, "step": 0}
    assert (tracker.improved, tracker.best) == (True, (0.5, 1.0, 1))
    assert validated(tracker, 0.25, 0.5, current_epoch=1, global_step=10) == {"best/val_acc": 0.5, "step": 9}
    assert (tracker.improved, tracker.best) == (False, (0.5, 1.0, 1))
    validated(tracker, 0.5, 0.75, current_epoch=2)
    assert (tracker.improved, tracker.best) == (True, (0.5, 0.75, 3))
    assert validated(tracker, 1.0, 0.1, sanity_checking=True) == {}
    assert tracker.best == (0.5, 0.75, 3)


def test_only_a_run_that_continues_in_its_folder_keeps_the_best_score() -> None:
    content: dict[str, Any] = {}
    tracker = TrackBest()
    tracker.on_save_checkpoint(None, None, content)  # type: ignore[arg-type]
    assert content == {"best": None}
    validated(tracker, 0.5, 1.0)
    tracker.on_save_checkpoint(None, None, content)  # type: ignore[arg-type]
    assert content == {"best": [0.5, 1.0, 2]}
    for continues, kept in ((True, Validation(0.5, 1.0, 2)), (False, None)):
        other = TrackBest(RunStart(Path(), Path("last.ckpt"), continues=continues))
        other.on_load_checkpoint(None, None, {"best": None})  # type: ignore[arg-type]
        assert other.best is None
        other.on_load_checkpoint(None, None, content)  # type: ignore[arg-type]
        assert other.best == kept


def saver(**options: Any) -> SaveBestAndLast:
    return SaveBestAndLast(TrackBest(RunStart(Path("run"))), **options)


def epoch(callback: SaveBestAndLast, *, validation_after: int = 5, **changes: Any) -> list[tuple[int, str]]:
    """Train five batches and validate; the batches done at each save, and the saved files."""
    trainer, found = FakeTrainer(**changes), []
    for batch_idx in range(5):
        trainer.fit_loop = FakeLoop(is_last_batch=batch_idx == 4)
        trainer.global_step += (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or batch_idx == 4
        callback.on_train_batch_end(trainer, None, None, None, batch_idx)  # type: ignore[arg-type]
        met = trainer.current_epoch >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
        stops = trainer.should_stop and met  # then Lightning validates at once
        if stops or (batch_idx + 1) % validation_after == 0:
            callback.on_validation_end(trainer)  # type: ignore[arg-type]
        if batch_idx == 4:
            callback.on_train_epoch_end(trainer)  # type: ignore[arg-type]
        found += [(batch_idx + 1, name) for name in trainer.saved]
        trainer.saved.clear()
        if stops:
            break
    return found


LAST = "last.ckpt"


def test_the_save_at_the_last_step_waits_for_a_validation_and_comes_at_the_fits_end_at_the_latest() -> None:
    """A run that was killed in the validation would otherwise resume after it."""
    ends: tuple[dict[str, Any], ...] = ({"max_steps": 3, "val_check_batch": 3}, {"should_stop": True})
    for end, validates in itertools.product(ends, (True, False)):
        callback, trainer = saver(), FakeTrainer(global_step=3, **end)
        callback.on_train_batch_end(trainer, None, None, None, 2)  # type: ignore[arg-type]
        assert trainer.saved == []
        if validates:
            callback.on_validation_end(trainer)  # type: ignore[arg-type]
            assert trainer.saved == [LAST]
        callback.on_train_end(trainer, None)  # type: ignore[arg-type]
        assert trainer.saved == [LAST]


def test_a_signal_waits_for_the_validation_after_a_stop_from_within_accumulated_batches() -> None:
    callback = saver()
    trainer, module = FakeTrainer(accumulate_grad_batches=2, should_stop=True, world_size=1), torch.nn.Linear(1, 1)
    callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert not trainer.should_stop  # until the step is complete
    stop = StopOnSignal(callback)
    stop._signals.signum = signal.SIGTERM
    setattr(module, "device", torch.device("cpu"))  # noqa: B010
    stop.on_train_batch_end(trainer, module, None, None, 1)  # type: ignore[arg-type]
    assert (callback.due, trainer.saved) == (True, [])


@pytest.mark.parametrize(("batch_idx", "within"), [(0, True), (1, False), (4, False)])
def test_a_checkpoint_says_whether_batches_are_accumulated_and_the_fit_is_to_stop(batch_idx: int, within: bool) -> None:
    """The epoch's last batch, the fifth, completes a step."""
    module = SimpleNamespace(trained_with=(), finish_logging=lambda: None)
    Path("run").mkdir()
    callback, trainer = saver(config="model: {}"), FakeTrainer(accumulate_grad_batches=2, should_stop=True)
    trainer.datamodule = SimpleNamespace(fingerprint="f00", classes=("a", "b"))
    trainer.fit_loop.batch_idx = batch_idx
    content: dict[str, Any] = {"hyper_parameters": {"num_classes": 2}}
    callback.on_save_checkpoint(trainer, module, content)  # type: ignore[arg-type]
    assert (content[WITHIN_STEP], content[STOPS]) == (within, True)
    for continues in (True, False):
        again = SaveBestAndLast(TrackBest(RunStart(Path("run"), continues=continues)), "model: {}")
        again.on_load_checkpoint(None, None, content)  # type: ignore[arg-type]
        resumed = FakeTrainer()
        again.on_fit_start(resumed)  # type: ignore[arg-type]
        assert resumed.should_stop == continues


@pytest.mark.parametrize(
    ("options", "changes", "saves"),
    [
        ({}, {}, [(5, LAST)]),
        ({"keep_epochs": True}, {}, [(5, "epoch_2.ckpt"), (5, LAST)]),
        ({"every_n_steps": 2}, {}, [(2, LAST), (4, LAST), (5, LAST)]),
        ({"every_n_steps": 2}, {"global_step": 5}, [(1, LAST), (3, LAST), (5, LAST)]),
        ({"every_n_steps": 1}, {"accumulate_grad_batches": 2}, [(2, LAST), (4, LAST), (5, LAST)]),
        # a validation may follow the third batch, so the save waits until after that
        ({"every_n_steps": 3}, {"val_check_batch": 3, "validation_after": 3}, [(3, LAST), (5, LAST)]),
        ({"every_n_steps": 3}, {"val_check_batch": 3, "validation_after": 4}, [(4, LAST), (5, LAST)]),
        ({}, {"max_steps": 3}, [(3, LAST), (5, LAST)]),
        ({}, {"max_steps": 5}, [(5, LAST)]),
        # a loader without a length
        ({}, {"num_training_batches": math.inf}, [(5, LAST)]),
        (
            {"every_n_steps": 1},
            {"num_training_batches": math.inf, "accumulate_grad_batches": 3},
            [(3, LAST), (5, LAST)],
        ),
        ({}, {"should_stop": True}, [(1, LAST)]),
        ({}, {"should_stop": True, "min_epochs": 1}, [(1, LAST)]),  # which is over
        # Lightning goes on until both minima are reached
        ({}, {"should_stop": True, "min_epochs": 2}, [(5, LAST)]),
        ({}, {"should_stop": True, "min_steps": 3}, [(3, LAST)]),
        ({}, {"should_stop": True, "min_steps": 3, "validation_after": 2}, [(3, LAST)]),
        ({}, {"should_stop": True, "accumulate_grad_batches": 2}, [(2, LAST)]),
        ({}, {"should_stop": True, "val_check_batch": 1}, [(1, LAST)]),
    ],
)
def test_saves_lie_between_optimizer_steps(
    options: dict[str, Any], changes: dict[str, Any], saves: list[tuple[int, str]]
) -> None:
    callback = saver(**options)
    callback.tracker.improved = False
    assert epoch(callback, **changes) == saves


def test_a_run_that_resumes_after_an_epochs_last_step_saves_at_its_end() -> None:
    trainer = FakeTrainer()
    saver().on_train_epoch_end(trainer)  # type: ignore[arg-type]
    assert trainer.saved == [LAST]
    assert TrackBest().start == RunStart()


def test_the_best_is_saved_after_a_validation_that_improved_and_a_due_save_waits_for_it() -> None:
    callback, trainer = saver(), FakeTrainer()
    for improved, due, saved in (
        (True, False, ["best.ckpt"]),
        (False, True, [LAST]),
        (True, True, ["best.ckpt", LAST]),
    ):
        callback.tracker.improved, callback.due = improved, due
        callback.on_validation_end(trainer)  # type: ignore[arg-type]
        assert (trainer.saved, callback.due) == (saved, False)
        trainer.saved.clear()
    callback.on_validation_end(FakeTrainer(sanity_checking=True, save_checkpoint=None))  # type: ignore[arg-type]


def test_a_validation_within_an_epoch_that_ends_training_saves_the_last_step() -> None:
    for at_epoch_end, saved in ((False, [LAST]), (True, [])):  # at its end, `on_train_epoch_end` saves it
        callback, trainer = saver(), FakeTrainer(should_stop=True)
        callback._at_epoch_end, callback.tracker.improved = at_epoch_end, False
        callback.on_validation_end(trainer)  # type: ignore[arg-type]
        assert trainer.saved == saved


@pytest.mark.parametrize(("accumulated", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (7, [5])])
def test_the_optimizer_steps_after_the_accumulated_batches_and_at_the_end(accumulated: int, steps: list[int]) -> None:
    trainer: Any = FakeTrainer(accumulate_grad_batches=accumulated)
    assert [batch_idx + 1 for batch_idx in range(5) if is_optimizer_step(trainer, batch_idx)] == steps


@pytest.mark.parametrize(
    ("changes", "followed"),
    [
        ({}, [5]),
        ({"val_check_batch": 2}, [2, 4]),
        ({"val_check_batch": 3, "check_val_every_n_epoch": None}, [1, 4]),  # 6 and 9 batches in all
        ({"val_check_batch": 3, "check_val_every_n_epoch": None, "num_training_batches": math.inf}, [1, 4]),
        ({"val_check_batch": None}, []),  # a clock decides
        ({"val_check_batch": 2, "datamodule": SimpleNamespace(val_size=0)}, []),
        ({"val_check_batch": 2, "datamodule": SimpleNamespace(val_size=1)}, [2, 4]),
        ({"val_check_batch": 2, "val_dataloaders": [], "num_val_batches": []}, []),  # as of a data module without any
        ({"val_check_batch": 2, "val_dataloaders": [1], "num_val_batches": [3]}, [2, 4]),
        ({"should_stop": True, "val_dataloaders": [], "num_val_batches": []}, []),
        ({"val_check_batch": 2, "enable_validation": False}, []),  # as with `limit_val_batches` 0
        ({"val_check_batch": 2, "check_val_every_n_epoch": 2}, [2, 4]),  # this is the second epoch
        ({"val_check_batch": 2, "check_val_every_n_epoch": 3}, []),
    ],
)
def test_where_a_validation_may_follow(changes: dict[str, Any], followed: list[int]) -> None:
    loops = (FakeLoop(total_batch_idx=5 + batch_idx) for batch_idx in range(5))
    trainers: list[Any] = [FakeTrainer(**changes, fit_loop=loop) for loop in loops]
    may_follow = [validation_may_follow(trainer, batch_idx) for batch_idx, trainer in enumerate(trainers)]
    assert [batch_idx + 1 for batch_idx, may in enumerate(may_follow) if may] == followed


def test_the_end_saves_an_average_of_weights() -> None:
    for callbacks, saved in (([], []), ([StochasticWeightAveraging(0.1)], [LAST])):
        trainer = FakeTrainer(callbacks=callbacks)
        saver().on_train_end(trainer, None)  # type: ignore[arg-type]
        assert trainer.saved == saved


@pytest.mark.parametrize("is_global_zero", [True, False])
def test_one_process_marks_a_run_as_finished_once_its_logs_are_written(
    monkeypatch: pytest.MonkeyPatch, *, is_global_zero: bool
) -> None:
    events: list[str] = []
    for name in ("flush_loggers", "mark_complete"):
        monkeypatch.setattr(f"mnist_lit.callbacks.checkpoints.{name}", lambda *_, name=name: events.append(name))
    module = SimpleNamespace(finish_logging=lambda: events.append("finish_logging"))
    saver(config="model: {}").on_train_end(FakeTrainer(is_global_zero=is_global_zero), module)  # type: ignore[arg-type]
    assert events == ["finish_logging", "flush_loggers", "mark_complete"] * is_global_zero


def test_a_kill_before_the_last_save_leaves_the_run_unfinished(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise OSError("killed")

    monkeypatch.setattr(SaveBestAndLast, "on_train_end", killed)
    assert cli(*tiny_fit, "--trainer.max_epochs", "1")[0] == 1
    assert not Path("lightning_logs/version_0/finished").exists()


@pytest.mark.parametrize(
    ("changes", "images"),
    [({}, 7), ({"limit_val_batches": 1}, None), ({"limit_val_batches": 0.5}, None), ({"overfit_batches": 2}, None),
     ({"datamodule": SimpleNamespace(val_indices=[])}, None), ({"datamodule": None}, None)],
)  # fmt: skip
def test_the_number_of_validated_images_is_known_if_none_was_left_out(changes: dict[str, Any], images: object) -> None:
    trainer: Any = FakeTrainer(**{"datamodule": SimpleNamespace(val_indices=range(7)), **changes})
    assert full_validation_size(trainer) == images


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    ("existing", "saved", "removed"),
    [
        ("best.ckpt", "best.ckpt", {"predictions.csv", "predictions_kmnist.csv"}),
        ("best.ckpt", "last.ckpt", {"predictions_last.csv", "predictions_last_kmnist.csv", "predictions_previous.csv"}),
        ("best.ckpt", "epoch_1.ckpt", {"predictions_epoch_1.csv", "predictions_epoch_1_kmnist.csv"}),
        (
            "last.ckpt",
            "last.ckpt",
            {"predictions.csv", "predictions_kmnist.csv", "predictions_last.csv", "predictions_last_kmnist.csv"}
            | {"predictions_previous.csv"},
        ),
        ("last.ckpt", "best.ckpt", {"predictions.csv", "predictions_kmnist.csv"}),
    ],
)
def test_predictions_go_with_the_checkpoint_that_was_tested(existing: str, saved: str, removed: set[str]) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    for name in (existing, "last.ckpt", "previous.ckpt", "epoch_1.ckpt", "epoch_10.ckpt"):
        Path("run/checkpoints", name).touch()
    files = {"predictions.csv", "predictions_last.csv", "predictions_last_kmnist.csv", "predictions_epoch_1.csv"}
    files |= {"predictions_epoch_10.csv", "predictions_kmnist.csv", "predictions_previous.csv"}
    files |= {"predictions_epoch_1_kmnist.csv"}
    files |= {"predictions-by-hand.csv", "predictionsX.csv"}  # one's own
    for name in (*files, "metrics.csv"):
        Path("run", name).touch()
    saver().save(FakeTrainer(is_global_zero=False), saved)  # type: ignore[arg-type]
    assert {path.name for path in Path("run").glob("predictions*")} == files
    saver().save(FakeTrainer(), saved)  # type: ignore[arg-type]
    assert {path.name for path in Path("run").glob("predictions*")} == files - removed
    assert Path("run/metrics.csv").exists()


def test_a_resumed_run_keeps_scores_that_it_has_not_logged_again() -> None:
    Path("run").mkdir()
    Path("run/metrics.csv").write_text("step\n0\n1\n")
    flushed: list[str] = []
    logger = SimpleNamespace(save=lambda: flushed.append("logger"))
    module = SimpleNamespace(trained_with=(), finish_logging=lambda: flushed.append("module"))
    changes: dict[str, Any] = {
        "datamodule": SimpleNamespace(fingerprint="f00", classes=("a", "b")),
        "loggers": [logger],
    }
    content: dict[str, Any] = {}
    callback = saver()
    callback.on_save_checkpoint(FakeTrainer(**changes), module, content)  # type: ignore[arg-type]
    assert content == {}  # without a configuration the module describes itself
    callback = saver(config="model: {}")
    first = {"val/acc": torch.tensor(0.5), "train/loss": torch.tensor(2.0)}
    callback.on_save_checkpoint(FakeTrainer(callback_metrics=first, **changes), module, content)  # type: ignore[arg-type]
    stored = content[METADATA_KEY]
    assert flushed == ["module", "logger"]
    assert (stored["config"], stored["data"], stored["classes"]) == ("model: {}", "f00", ["a", "b"])
    assert (stored["scores"], stored["curves"]) == ({"val/acc": 0.5, "train/loss": 2.0}, {"metrics.csv": 2})
    content["hyper_parameters"] = {"num_classes": 2}
    for continues, scores in ((True, {"val/acc": 0.5, "train/loss": 1.0}), (False, {"train/loss": 1.0})):
        resumed = SaveBestAndLast(TrackBest(RunStart(Path("run"), continues=continues)), "model: {}")
        resumed.on_load_checkpoint(None, None, content)  # type: ignore[arg-type]
        trainer = FakeTrainer(callback_metrics={}, is_global_zero=False, **changes)
        resumed.on_fit_start(trainer)  # type: ignore[arg-type]
        trainer.callback_metrics["train/loss"] = torch.tensor(1.0)
        again: dict[str, Any] = {}
        resumed.on_save_checkpoint(trainer, module, again)  # type: ignore[arg-type]
        assert (again[METADATA_KEY]["scores"], again[METADATA_KEY]["curves"]) == (scores, {})
        fresh = FakeTrainer(callback_metrics={}, **changes)
        resumed.on_fit_start(fresh)  # type: ignore[arg-type]
        assert fresh.callback_metrics == {}  # the next fit's
