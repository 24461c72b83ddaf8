"""`mnist-lit calibrate` calibrates a checkpoint after training, if needed like another run of the same recipe."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.calibration import THRESHOLD, load_calibrated
from mnist_lit.runs.checkpoint import load_checkpoint, save_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY, with_metadata

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_a_run_on_all_images_takes_temperature_and_coverage_from_another(
    cli: Cli, trained: Path, digits_data: MNISTDataModule
) -> None:
    fit = ("--data.dataset", "digits", "--data.val_size", "0", "--trainer.max_epochs", "1")
    assert cli("fit", *fit)[0] == 0
    code, _, err = cli("calibrate")
    assert code == 2
    assert "trained on all images" in err
    code, out, err = cli("calibrate", "--like", str(trained), "--output", "slim.ckpt")
    assert code == 0
    assert (
        f"calibrate: {trained}/checkpoints/best.ckpt has a different recipe, so its temperature may not suit: " in err
    )
    settings = load_checkpoint(trained / "checkpoints" / "best.ckpt")[METADATA_KEY]["calibration"]
    slim = load_checkpoint("slim.ckpt")
    assert f"temperature {float(settings['state']['temperature']):.3f}" in out
    state = slim[METADATA_KEY]["calibration"]["state"]
    assert torch.equal(state["temperature"], settings["state"]["temperature"])
    assert not torch.equal(state["offset"], settings["state"]["offset"])  # another detector has another scale
    images = digits_data.in_memory.train_images[digits_data.train_indices]
    rejected = [
        int((load_calibrated(path)[0](images)[1] > THRESHOLD).sum())
        for path in (trained / "checkpoints" / "best.ckpt", "slim.ckpt")
    ]
    assert abs(rejected[0] - rejected[1]) <= 1
    assert "optimizer_states" not in slim
    assert cli("test", "--ckpt_path", "slim.ckpt", "--data.dataset", "digits")[0] == 0


@pytest.mark.usefixtures("small_calibration")
def test_another_runs_calibration_is_taken_only_if_its_data_are_the_same(
    cli: Cli, error_line: Callable[..., str], tiny_run: Path, tiny_fit: tuple[str, ...]
) -> None:
    fit = (*tiny_fit, "--trainer.max_epochs", "1")
    assert cli(*fit, "--data.classes", "3,7")[0] == 0
    for model, like in (("version_0", "version_1"), ("version_1", "version_0")):
        line = error_line("calibrate", "--model", model, "--like", like)
        path = f"lightning_logs/{like}/checkpoints/best.ckpt"
        assert line == f"mnist-lit: --like: expected a checkpoint trained on the same images and classes, got {path}\n"
    assert "is the checkpoint to calibrate; name that first" in error_line("calibrate", "--like", "version_1")


@pytest.mark.parametrize(
    ("option", "metadata", "data", "reason"),
    [
        (
            "--model",
            {"data": "0" * 32},
            {},
            "changed.ckpt was trained on different data from that in data; pass the folder",
        ),
        (
            "--model",
            {},
            {"val_size": 0},
            "changed.ckpt was trained on all images, so none are left to calibrate on; train",
        ),
        (
            "--like",
            {"calibration": None},
            {},
            "--like: expected a calibrated checkpoint, got changed.ckpt, which is not",
        ),
        ("--like", {}, {"per_class": 1, "batch_size": 1}, "on at least 100 of the same images, got changed.ckpt"),
    ],
)
def test_a_checkpoint_that_is_of_no_use_is_refused_in_one_line(
    option: str,
    metadata: dict[str, Any],
    data: dict[str, Any],
    reason: str,
    error_line: Callable[..., str],
    trained: Path,
) -> None:
    original = trained / "checkpoints/best.ckpt"
    config = yaml.safe_load(load_checkpoint(original)[METADATA_KEY]["config"])
    config["data"] |= data
    changed = with_metadata(load_checkpoint(original), config=yaml.safe_dump(config), **metadata)
    save_checkpoint(changed, Path("changed.ckpt"))
    models = {"--model": str(original), option: "changed.ckpt"}
    line = error_line("calibrate", *chain(*models.items()), "--output", "new.ckpt")
    assert reason in line
    assert not Path("new.ckpt").exists()


def test_a_checkpoint_that_a_fit_replaces_meanwhile_is_left_alone(
    error_line: Callable[..., str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_run / "checkpoints/best.ckpt"
    content = load_checkpoint(path)
    monkeypatch.setattr(
        "mnist_lit.evaluation.calibration.calibrate", lambda *_, **__: save_checkpoint({**content, "epoch": 9}, path)
    )
    line = error_line("calibrate", str(tiny_run))
    assert line == f"mnist-lit: {path} was replaced while it was calibrated; repeat the command\n"
    assert load_checkpoint(path)["epoch"] == 9


def test_the_shipped_model_is_never_overwritten(cli: Cli) -> None:
    code, _, err = cli("calibrate", "--model", "pretrained")
    assert (code, err) == (2, "mnist-lit: the shipped model is never overwritten; add --output FILE\n")
