"""TensorBoard holds the same scalars as metrics.csv, and compares runs by settings and scores."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def test_tensorboard_and_metrics_csv_hold_the_same_scalars(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert cli(*tiny_fit, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1")[0] == 0
    curves = EventAccumulator("lightning_logs/version_0").Reload()
    with Path("lightning_logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    every_step, every_epoch = ("train/loss_step", "lr"), ("train/acc", "train/loss", "val/acc", "val/loss")
    for name, count in {**dict.fromkeys(every_step, 4), **dict.fromkeys(every_epoch, 2)}.items():
        in_csv = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        in_events = [(event.step, event.value) for event in curves.Scalars(name)]
        assert len(in_csv) == count
        assert in_events == [(step, pytest.approx(value)) for step, value in in_csv]


def test_the_hparams_table_compares_runs_by_settings_and_scores(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    events = EventAccumulator(str(tiny_run)).Reload()
    contents = events.summary_metadata
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"].plugin_data.content)
    assert start.session_start_info.hparams["lr"].number_value == 0.03
    assert start.session_start_info.hparams["dataset"].string_value == "digits"
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"].plugin_data.content).experiment
    metrics = {(metric.name.group, metric.name.tag) for metric in experiment.metric_infos}
    assert {("", "best/val_acc"), ("", "train/images_per_second"), ("test", "test/acc")} <= metrics
    scores = torch.load(tiny_run / "checkpoints/best.ckpt")["mnist_lit"]["scores"]
    assert events.Scalars("best/val_acc")[-1].value == pytest.approx(scores["val/acc"])
    tested = EventAccumulator(str(tiny_run / "test")).Reload()
    with tiny_run.joinpath("predictions.csv").open() as file:
        right = sum(row["label"] == row["predicted"] for row in csv.DictReader(file))
    assert [(event.step, event.value) for event in tested.Scalars("test/acc")] == [(2, pytest.approx(right / 360))]
