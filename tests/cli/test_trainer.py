"""Callbacks and loggers of one's own add to ours and replace only their counterpart."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnist_lit.cli.trainer import callbacks_of_fit, trainer_arguments
from mnist_lit.runs.start import RunStart

Cli = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("small_calibration")
RUN = Path("lightning_logs/version_0")


def fit(cli: Cli, tiny_fit: tuple[str, ...], *options: str) -> str:
    code, out, err = cli(*tiny_fit, "--trainer.max_epochs", "2", *options)
    assert code == 0, err
    return out


def test_another_logger_leaves_ours_in_place(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    fit(cli, tiny_fit, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs")
    assert RUN.joinpath("metrics.csv").exists()
    assert list(RUN.glob("events.out.tfevents.*"))
    mine = next(Path("logs").rglob("metrics.csv")).read_text()
    assert "val/acc" in mine
    assert "version_0" in cli("runs")[1]


def test_a_model_checkpoint_is_added_and_its_files_lie_in_no_folder_of_their_own(
    cli: Cli, tiny_fit: tuple[str, ...]
) -> None:
    Path("more.yaml").write_text(
        "trainer: {callbacks: [{class_path: ModelCheckpoint, init_args: {monitor: val/loss, save_top_k: 2, "
        "filename: '{epoch}-{val/loss:.3f}'}}]}"
    )
    fit(cli, tiny_fit, "--config", "more.yaml")
    files = {path.name for path in RUN.joinpath("checkpoints").iterdir()}
    assert {"best.ckpt", "last.ckpt"} < files
    assert sum(name.startswith("epoch=") and "val_loss=" in name for name in files) == 2
    assert cli("test", str(next(RUN.glob("checkpoints/epoch=0*"))))[0] == 0
    fit(cli, tiny_fit, "--config", str(RUN / "config.yaml"))  # the run's own config can be run again


def test_lightnings_timer_can_be_used_and_its_run_repeated(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    timer = ("--trainer.callbacks", "Timer", "--trainer.callbacks.duration", "00:01:00:00")
    fit(cli, tiny_fit, *timer, "--trainer.max_steps", "1")
    assert "interval: step" in (RUN / "config.yaml").read_text()  # an enumeration's member in the configuration
    fit(cli, tiny_fit, "--config", str(RUN / "config.yaml"))


@pytest.mark.slow
def test_stochastic_weight_averaging_reaches_last_ckpt_and_its_rate_matters(
    cli: Cli, tiny_fit: tuple[str, ...]
) -> None:
    weights, epochs = [], ("--trainer.max_epochs", "4")
    for rate in ("0.01", "0.5"):
        swa = ("--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_epoch_start", "1")
        fit(
            cli,
            tiny_fit,
            *swa,
            "--trainer.callbacks.swa_lrs",
            rate,
            "--trainer.callbacks.annealing_epochs",
            "1",
            *epochs,
        )
        run = sorted(Path("lightning_logs").iterdir())[-1]
        weights.append(torch.load(run / "checkpoints/last.ckpt")["state_dict"]["network.fc1.weight"])
        fit(cli, tiny_fit, "--config", str(run / "config.yaml"), *epochs)
        run = sorted(Path("lightning_logs").iterdir())[-1]
        assert torch.load(run / "checkpoints/last.ckpt")["state_dict"]["network.fc1.weight"].equal(weights[-1])
    assert not weights[0].equal(weights[1])


@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar"])
def test_another_progress_bar_replaces_ours(cli: Cli, tiny_fit: tuple[str, ...], name: str) -> None:
    assert "images/s  0:" not in fit(cli, tiny_fit, "--trainer.callbacks", name)


def test_logger_and_progress_can_be_turned_off(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    out = fit(cli, tiny_fit, "--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
    assert "images/s  0:" not in out
    assert "curves" not in out
    assert not RUN.joinpath("metrics.csv").exists()


@pytest.mark.slow
def test_a_profiler_prints_its_table(tiny_fit: tuple[str, ...]) -> None:
    options = ("--trainer.max_epochs", "1", "--trainer.profiler", "simple", "--data.val_size", "0")
    done = subprocess.run([sys.executable, "-m", "mnist_lit", *tiny_fit, *options], capture_output=True, text=True)
    assert done.returncode == 0
    assert "FIT Profiler Report" in done.stdout + done.stderr


def test_early_stopping_ends_a_run_and_a_learning_rate_monitor_logs_the_schedule(
    cli: Cli, tiny_fit: tuple[str, ...]
) -> None:
    Path("more.yaml").write_text(
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 1, min_delta: 9}},"
        "{class_path: LearningRateMonitor, init_args: {logging_interval: step}}], log_every_n_steps: 1}"
    )
    out = fit(cli, tiny_fit, "--config", "more.yaml", "--trainer.max_epochs", "9")
    assert "(4 steps)" in out
    header, *rows = RUN.joinpath("metrics.csv").read_text().splitlines()
    monitored, ours = header.split(",").index("lr-SGD"), header.split(",").index("lr")
    rates = [[float(row.split(",")[column]) for row in rows if row.split(",")[column]] for column in (monitored, ours)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 4


def test_every_option_reaches_the_callbacks_in_their_order_and_plugins_are_added_to_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_lit.cli.trainer.tensorboard_settings", lambda _: {})
    plugin = object()
    given: dict[str, Any] = {"fast_dev_run": False, "enable_checkpointing": True, "logger": None, "callbacks": None}
    given |= {"default_root_dir": None, "enable_progress_bar": False, "plugins": [plugin], "strategy": "auto"}

    def names(*, figures: bool = True, **changed: object) -> tuple[list[str], list[Any]]:
        config: Any = SimpleNamespace(figures=figures, checkpoint_every_n_steps=7, keep_epochs=True)
        trainer: Any = SimpleNamespace(**given | changed)
        callbacks = callbacks_of_fit(config, trainer, RunStart(Path("run")), "")
        return [type(callback).__name__ for callback in callbacks], callbacks

    every, callbacks = names()
    at_start, at_end = "BroadcastResume RankOrderedGradients TrackBest", "FitTable StopOnSignal SaveBestAndLast"
    assert every == f"{at_start} StopOnDivergence TensorBoardOverview TensorBoardFigures {at_end}".split()
    saver: Any = callbacks[-1]
    assert (saver.every_n_steps, saver.keep_epochs) == (7, True)
    assert {*every} - {*names(figures=False)[0]} == {"TensorBoardFigures"}
    assert {*every} - {*names(logger=False)[0]} == {"TensorBoardOverview", "TensorBoardFigures"}
    assert {*every} - {*names(enable_checkpointing=False)[0]} == {"SaveBestAndLast"}
    trainer: Any = SimpleNamespace(**given | {"logger": False})
    assert plugin in trainer_arguments(trainer, [], RunStart())["plugins"]
