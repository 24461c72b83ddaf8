"""A complete fit is marked as finished, and its best checkpoint calibrated once, on the images that were held out."""

import copy
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from mnist_lit.callbacks.stopping import StopOnSignal
from mnist_lit.cli import finish
from mnist_lit.cli.finish import calibrate_best, finish_run
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.model import TutorialCNN
from mnist_lit.runs.checkpoint import save_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY, Metadata
from mnist_lit.runs.start import RunStart


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `calibrate_checkpoint` was asked for."""
    asked: list[dict[str, Any]] = []

    def calibrate(source: Path, target: Path, data: Any, train: Any, val: Any, *, network: Any) -> None:
        asked.append({"paths": (source, target), "data": data, "train": train, "val": val, "network": network})

    monkeypatch.setattr(finish, "calibrate_checkpoint", calibrate)
    return asked


def save_run(name: str, data: MNISTDataModule, **calibration: Any) -> Path:
    """A run folder whose best and last checkpoints have this calibration, or none."""
    metadata = Metadata("{}", data.fingerprint, tuple("0123456789"), {}, {}, {}, calibration=calibration or None)
    content = {"state_dict": {}, "hyper_parameters": {"num_classes": 10}, "global_step": 3}
    content[METADATA_KEY] = metadata.to_dict()
    Path(name).mkdir()
    for file in ("best.ckpt", "last.ckpt"):
        save_checkpoint(content, Path(name, "checkpoints", file))
    return Path(name)


@pytest.fixture
def run(digits_data: MNISTDataModule) -> Path:
    """A run whose calibration was killed."""
    return save_run("run", digits_data)


def test_the_detector_is_trained_on_training_images_and_the_rest_fitted_to_validation_images(
    run: Path, calls: list[dict[str, Any]]
) -> None:
    data = MNISTDataModule(dataset="digits", val_size=180)
    calibrate_best(run, data, TutorialCNN())
    (call,) = calls
    assert call["paths"] == (run / "checkpoints/best.ckpt",) * 2
    assert call["data"] is data.in_memory
    assert (len(call["train"]), len(call["val"])) == (1257, 180)
    assert torch.equal(call["train"], data.train_indices)
    assert torch.equal(call["val"], data.val_indices)
    assert call["network"] is None  # the tutorial's


def test_a_network_of_your_own_is_passed_on(run: Path, calls: list[dict[str, Any]], digits_data: Any) -> None:
    network = nn.Linear(784, 10)
    calibrate_best(run, copy.copy(digits_data), network)
    assert calls[0]["network"] is network


def test_nothing_is_calibrated_twice_nor_without_validation_images_or_a_checkpoint(
    run: Path, calls: list[dict[str, Any]], digits_data: MNISTDataModule
) -> None:
    network = TutorialCNN()
    calibrate_best(save_run("calibrated", digits_data, threshold=0.5), digits_data, network)
    calibrate_best(run, MNISTDataModule(dataset="digits", val_size=0), network)
    calibrate_best(Path("empty"), digits_data, network)
    assert calls == []


def test_changed_data_are_refused(run: Path, calls: list[dict[str, Any]]) -> None:
    other = MNISTDataModule(dataset="digits", val_size=180, classes="0,1,2,3,4,5,6,7,8")
    with pytest.raises(InputError, match=r"run/checkpoints/best\.ckpt was trained on different data"):
        calibrate_best(run, other, TutorialCNN())
    assert calls == []


def test_a_signal_after_the_last_step_stops_once_the_run_is_marked(run: Path, calls: list[dict[str, Any]]) -> None:
    stop = StopOnSignal()
    stop._pending = signal.SIGTERM
    trainer: Any = SimpleNamespace(callbacks=[stop], num_training_batches=math.inf, limit_val_batches=0, global_step=3,
        overfit_batches=0, fit_loop=MagicMock(), datamodule=None, ckpt_path=None)  # fmt: skip
    with pytest.raises(StoppedBySignal, match="SIGTERM"):
        finish_run(RunStart(run, has_trained=True), trainer, MNISTDataModule(dataset="digits"), TutorialCNN())
    assert run.joinpath("finished").exists()
    assert calls == []


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_is_marked_once_and_what_does_not_train_says_so(
    capsys: pytest.CaptureFixture[str], *, finished: bool, trained: bool
) -> None:
    loop = SimpleNamespace(
        epoch_progress=SimpleNamespace(current=SimpleNamespace(started=2)),
        epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=5))),
    )
    trainer: Any = SimpleNamespace(num_training_batches=5, fit_loop=loop, limit_val_batches=1.0, overfit_batches=0,
        callbacks=[], datamodule=SimpleNamespace(val_indices=range(7)))  # fmt: skip
    Path("run").mkdir()
    if finished:
        Path("run/finished").write_text("1\n")
    start = RunStart(Path("run"), finished=finished, has_trained=trained)
    finish_run(start, trainer, MNISTDataModule(dataset="digits"), TutorialCNN())
    assert Path("run/finished").read_text() == ("1\n" if finished else "2\n7\n")
    said = "" if trained else "fit: run is finished; it has no checkpoint\n"
    assert capsys.readouterr().out == said
