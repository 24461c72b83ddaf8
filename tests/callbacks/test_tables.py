"""The table at the end of a fit, and the speed that it and TensorBoard report."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.tables import ScoreTable
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import load_checkpoint, save_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.metadata import METADATA_KEY, with_metadata

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def test_a_fit_ends_with_a_table_and_the_next_command(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    code, out, err = cli(*tiny_fit, "--trainer.max_epochs", "2")
    assert (code, err) == (0, "")
    printed = [line for line in out.splitlines() if line.strip()]
    assert printed[:2] == [
        "fit: lightning_logs/version_0",
        "fit: no --config given; options that are not set use their defaults",
    ]
    assert [line.split()[:2] for line in printed[2:4]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    *table, last = printed[4:]
    assert last == "fit: calibrating lightning_logs/version_0/checkpoints/best.ckpt; this may take a minute or two"
    lines = {line.split()[0]: line for line in table}
    assert list(lines) == ["epochs", "time", "best", "checkpoint", "next", "curves"]
    assert "2  (4 steps)" in lines["epochs"]
    printed_accuracy = re.search(r"val/acc (\d+ %)", printed[3])  # one of 64 images is more than a percent
    assert printed_accuracy
    assert re.fullmatch(r" +best val/acc +\d+ %  \(epoch [12]\)", lines["best"])
    assert "images/s" in lines["time"]
    assert Path(lines["checkpoint"].split()[1]).is_file()
    assert lines["next"].split(maxsplit=1)[1] == "mnist-lit test"


def test_the_next_command_names_a_resumed_run_that_is_not_the_newest(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    first, checkpoint = (*tiny_fit, "--trainer.max_epochs", "2"), "lightning_logs/version_0/checkpoints/best.ckpt"
    cli(*first)
    cli(*tiny_fit, "--trainer.max_epochs", "1")
    run = Path("lightning_logs/version_0")
    run.joinpath("finished").unlink()  # as if it had been killed in its last epoch
    run.joinpath("checkpoints/previous.ckpt").replace(run / "checkpoints/last.ckpt")
    code, out, _ = cli(*first, "--resume", "auto")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.strip().startswith("next "))
    assert line.split(maxsplit=1)[1] == f"mnist-lit test {checkpoint}"


def test_a_fit_that_holds_out_no_images_says_that_its_model_rejects_nothing(
    cli: Cli, tiny_fit: tuple[str, ...]
) -> None:
    code, out, _ = cli(*tiny_fit, "--data.val_size", "0", "--trainer.max_steps", "1")
    assert code == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines() if line.strip()}
    assert lines["epochs"] == "0.5  (1 step)"
    assert lines["calibration"].startswith("none, so no image is rejected; ")
    assert "again with --data.val_size 143, then" in lines["calibration"]  # of 1,437 images
    assert lines["calibration"].endswith("`mnist-lit calibrate lightning_logs/version_0 --like THAT_RUN`")
    assert Path("lightning_logs/version_0/finished").read_text() == "0.5\n"
    (row,) = (line for line in cli("runs")[1].splitlines() if line.startswith("version_0"))
    assert "  0.5  " in row
    tested = cli("test")[1]
    assert "(expected calibration error)" in tested  # no temperature is mentioned without one
    assert "temperature" not in tested


def test_fit_runs_and_the_mark_round_epochs_alike(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    out = cli(*tiny_fit, "--trainer.limit_train_batches", "7", "--trainer.max_steps", "2", "--data.val_size", "180")[1]
    assert re.search(r"epochs +0\.2857  \(2 steps\)", out)
    assert Path("lightning_logs/version_0/finished").read_text() == "0.2857\n180\n"
    (row,) = (line for line in cli("runs")[1].splitlines() if line.startswith("version_0"))
    assert "  0.2857  " in row


def test_epochs_are_counted_whatever_their_numbers_of_steps(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    accumulate = ("--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 1, 1: 4}")
    out = cli(*tiny_fit, *accumulate, "--model.schedule", "constant", "--trainer.max_epochs", "2")[1]
    assert re.search(r"epochs +2  \(3 steps\)", out)
    resumed = ("--ckpt_path", "last", "--trainer.max_epochs", "3", "--trainer.limit_train_batches", "1")
    assert re.search(r"epochs +3  \(4 steps\)", cli("fit", *resumed)[1])


def test_digits_say_how_many_images_a_score_has(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    out = cli(*tiny_fit, "--data.val_size", "180", "--trainer.max_epochs", "1")[1]
    (line, best) = re.findall(r"val/acc +(\d+\.\d %)  ", out)
    (row,) = (line for line in cli("runs")[1].splitlines() if line.startswith("version_0"))
    assert line == best
    assert f"  {best} (1)  " in row
    tested = cli("test")[1]
    assert re.search(r"test/acc +\d+\.\d %  \(95 % interval \d+\.\d % – \d+\.\d %\)", tested)
    assert all(re.match(r" +\d +\d+ %", line) for line in tested.splitlines()[-10:])  # of about 36 images each


def test_a_test_of_a_calibrated_checkpoint_names_its_temperature(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert "calibration" not in cli(*tiny_fit)[1]
    tested = cli("test")[1]
    temperature = load_calibrated("lightning_logs/version_0/checkpoints/best.ckpt").network.temperature
    assert f"(expected calibration error, before dividing by the temperature {float(temperature):.3f})" in tested


def test_images_per_second_leave_out_validation_and_figures(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("mnist_lit.callbacks.progress.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def takes(owner: type, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            clock[0] += seconds
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, timed)

    takes(MNISTModule, "training_step", 2)
    takes(MNISTModule, "validation_step", 50)
    takes(TensorBoardFigures, "on_validation_end", 70)
    code, out, _ = cli(*tiny_fit, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1")
    assert code == 0
    assert "(4 images/s while training)" in out
    events = EventAccumulator("lightning_logs/version_0").Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/images_per_second")] == [(n, 4) for n in range(4)]


def test_outputs_that_are_not_numbers_are_one_line_and_leave_no_predictions(cli: Cli) -> None:
    content = load_checkpoint(PRETRAINED_DIR / "model.ckpt")
    weights = {name: torch.full_like(tensor, 3e38) for name, tensor in content["state_dict"].items()}
    config = yaml.safe_load(content[METADATA_KEY]["config"]) | {"data": {"dataset": "digits", "val_size": 100}}
    save_checkpoint(with_metadata(content | {"state_dict": weights}, config=yaml.safe_dump(config)), Path("a.ckpt"))
    for command in ("test", "validate"):
        code, _, err = cli(command, "a.ckpt")
        assert (code, err.count("\n")) == (2, 1)
        assert "the network's outputs contain NaN" in err
    assert not any(Path().glob("*.csv"))


def test_a_class_without_images_has_no_recall(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"test/loss": 0.1, "test/ece": 0.1}
    trainer: Any = SimpleNamespace(is_global_zero=True, callback_metrics=scores, datamodule=None)
    ScoreTable().teardown(trainer, SimpleNamespace(confusion=torch.tensor([[1, 1], [0, 0]])), "test")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[-2:] == [["0", "50", "%", "1", "×1"], ["1", "–"]]


def test_names_with_spaces_stay_in_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    scores, data = {"test/loss": 0.1, "test/ece": 0.1}, SimpleNamespace(classes=("low boot", "T-shirt / top"))
    trainer: Any = SimpleNamespace(is_global_zero=True, callback_metrics=scores, datamodule=data)
    ScoreTable().teardown(trainer, SimpleNamespace(confusion=torch.tensor([[1, 1], [9, 0]])), "test")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "           true  recall  most often confused with",
        "       low boot    50 %  T-shirt / top ×1",
        "  T-shirt / top     0 %  low boot ×9",
    ]


def test_confusions_are_listed_by_count_and_then_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(
        is_global_zero=True, callback_metrics={"test/loss": 0, "test/ece": 0}, datamodule=None
    )
    confusion = torch.tensor([[1, 2, 2, 3], *[[0, 0, 0, 0]] * 3])
    ScoreTable().teardown(trainer, SimpleNamespace(confusion=confusion), "test")
    assert "3 ×3  1 ×2  2 ×2" in capsys.readouterr().out
