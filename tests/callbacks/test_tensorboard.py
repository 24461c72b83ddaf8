"""TensorBoard holds the same scalars as metrics.csv, and compares runs by settings and scores."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def test_tensorboard_and_metrics_csv_hold_the_same_scalars(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert cli(*tiny_fit, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1")[0] == 0
    curves = EventAccumulator("lightning_logs/version_0").Reload()
    with Path("lightning_logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    every_step, every_epoch = ("train/loss_step", "lr"), ("train/acc", "train/loss", "val/acc", "val/loss")
    panels = {"lr": "train/lr"}
    for name, count in {**dict.fromkeys(every_step, 4), **dict.fromkeys(every_epoch, 2)}.items():
        in_csv = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        in_events = [(event.step, event.value) for event in curves.Scalars(panels.get(name, name))]
        assert len(in_csv) == count
        assert in_events == [(step, pytest.approx(value)) for step, value in in_csv]


def test_the_hparams_table_compares_runs_by_settings_and_scores(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    events = EventAccumulator(str(tiny_run)).Reload()
    assert "hp_metric" not in events.Tags()["scalars"]
    assert tiny_run.joinpath("hparams.yaml").read_text() == "{}\n"  # Lightning makes it; config.yaml holds more
    contents = events.summary_metadata
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"].plugin_data.content)
    assert start.session_start_info.hparams["    lr"].number_value == 0.03
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


def test_test_scores_that_cannot_be_written_do_not_cost_the_table(cli: Cli, tiny_run: Path) -> None:
    tiny_run.joinpath("test").touch()
    code, out, err = cli("test")
    assert (code, err) == (2, f"mnist-lit: cannot write {tiny_run}/test: File exists\n")
    assert "test/acc" in out
    assert tiny_run.joinpath("predictions.csv").exists()


def test_every_run_has_the_same_columns_and_the_table_begins_with_what_people_change(
    cli: Cli, tiny_fit: tuple[str, ...]
) -> None:
    assert cli(*tiny_fit, "--trainer.max_steps", "1")[0] == 0
    assert cli(*tiny_fit, "--model.optimizer", "adamw", "--trainer.max_epochs", "1")[0] == 0
    runs = [EventAccumulator(f"lightning_logs/version_{n}").Reload().summary_metadata for n in range(2)]
    contents = [HParamsPluginData.FromString(run["_hparams_/experiment"].plugin_data.content) for run in runs]
    first, second = ({one.name: one.display_name for one in each.experiment.hparam_infos} for each in contents)
    assert first == second  # TensorBoard takes the columns from one run
    shown = [first[name] for name in sorted(first)]  # and sorts them so
    assert shown[:5] == ["optimizer", "lr", "batch_size", "max_epochs", "seed"]
    assert not {"compile", "cuda_graph", "data_dir"} & {*shown}
    scores = [metric.display_name for metric in contents[0].experiment.metric_infos]
    assert scores == ["best val/acc", "test/acc", "val/loss", "train/acc", "images/s"]
    starts = [HParamsPluginData.FromString(run["_hparams_/session_start_info"].plugin_data.content) for run in runs]
    (one, two) = (start.session_start_info.hparams for start in starts)
    assert [each["     optimizer"].string_value for each in (one, two)] == ["sgd", "adamw"]
    assert "init_from" not in one  # an empty cell
    assert {*one, *two} <= {*first}


def test_the_recipe_is_a_text(tiny_run: Path) -> None:
    events = EventAccumulator(str(tiny_run)).Reload()
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("recipe/text_summary"))
    command, seed, _ = text.split("\n\n", 2)
    saved = tiny_run.joinpath("config.yaml").read_text()
    assert f"# {command.strip('`')}\n" == saved.splitlines(keepends=True)[0]
    assert seed == "Seed 0"
    options = yaml.safe_load(text.partition("```yaml\n")[2].removesuffix("\n```"))
    for section in ("model", "data", "trainer"):
        expected = {name: value for name, value in yaml.safe_load(saved)[section].items() if value is not None}
        assert options[section] == expected


def test_custom_scalars_show_validation_first_and_each_chart_has_a_curve(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert cli(*tiny_fit, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1")[0] == 0
    events = EventAccumulator("lightning_logs/version_0").Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    groups = [category.title for category in layout.category]
    assert groups == ["val", "train", "val and train", "learning rate and speed"]
    curves = events.Tags()["scalars"]
    charts = {(group.title, chart.title): chart.multiline.tag[0] for group in layout.category for chart in group.chart}
    shown = {title: [name for name in curves if re.match(pattern, name)] for title, pattern in charts.items()}
    assert all(shown.values())
    assert len(shown["val", "accuracy per class"]) == 10
    assert {*shown["val and train", "loss"]} == {"train/loss", "val/loss"}
    assert shown["train", "loss"] == ["train/loss"]
    panels = {name.partition("/")[0] for name in curves}
    assert panels == {"best", "train", "val"}  # none of the learning rate's or the epoch's own
