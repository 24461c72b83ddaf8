"""Collect a report's numbers: load a run or a group of seeds, test it if its newest test is missing, score it. Every
number of the test comes from the run's `predictions.csv`, which `mnist-lit test` writes. Trains nothing."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mnist_lit import __version__
from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import CalibratedNetwork, load_calibrated, predict_batches
from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint, require_same_data
from mnist_lit.evaluation.report import provenance, robustness, scores
from mnist_lit.runs.folders import best_checkpoint, group_members, predictions_name, run_name, run_of_checkpoint
from mnist_lit.runs.results import Predictions, read_predictions
from mnist_lit.system.console import say
from mnist_lit.system.subprocesses import run_command

TOLERANCE = 1e-3  # how far a stored probability may be from the checkpoint's, on whatever device either was computed


class Report(NamedTuple):
    """A report's numbers, see `mnist-lit report --help`, and what the page is drawn from."""

    numbers: dict[str, Any]
    images: Tensor  # the test images, uint8 (N, 28, 28)
    network: nn.Module  # the first run's


def build_report(
    folder: Path,
    members: Sequence[Path],
    robustness_images: int,
    *,
    network: nn.Module | None = None,
    test_options: Sequence[str] = (),
    data_dir: str | None = None,
) -> Report:
    """The report of a run, a group and its members, or a checkpoint in its folder. Raises InputError if the data or a
    test is not available.

    network: one of your own, if the runs trained it; test_options: the options of `mnist-lit test` that name it.
    """
    checkpoints = [run if run.is_file() else best_checkpoint(run) or run for run in members]
    models = [load_calibrated(path, network) for path in checkpoints]
    test_options = [*test_options, *(["--data.data_dir", data_dir] if data_dir else [])]
    with contextlib.redirect_stdout(sys.stderr):  # download progress must not mix with the JSON
        data = datamodule_from_checkpoint(models[0].content, data_dir)
    loader, device = data.test_dataloader(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = loader.images.to(device), loader.labels.to(device)
    say(f"report: measuring {run_name(folder.resolve())}, up to a minute per run", file=sys.stderr, flush=True)
    tested = []
    for path, model in zip(checkpoints, models, strict=True):
        require_same_data(model.content, data, path)
        tested.append(_tested(path, model.network.to(device), images, labels, test_options))
    first, named = models[0], folder.resolve()
    names = [run_name(run.resolve()) for run in members]
    temperatures = [float(model.network.temperature) if model.threshold < 1 else None for model in models]
    tests = [test for test, _ in tested]
    rejected = (tested[0][1] > first.threshold).numpy() if temperatures[0] else None
    numbers = {
        "mnist_lit": __version__,
        "name": run_name(named),
        "run": names[0],
        "classes": tests[0].classes,
        "files": data.in_memory.files,
        "test": scores.run_scores(tests[0], temperatures[0], rejected),
        "group": scores.group_scores(names, tests, temperatures) if group_members(folder) else None,
        "curves": scores.training_curves(folder if members[0].is_file() else members[0]),
        "robustness": robustness.measure_robustness(first.network, images, labels, robustness_images),
        "origin": provenance.provenance(named, members, first.content, data),
    }
    return Report(numbers, images, first.network.network)


def _tested(
    checkpoint: Path, calibrated: CalibratedNetwork, images: Tensor, labels: Tensor, test_options: Sequence[str]
) -> tuple[Predictions, Tensor]:
    """A checkpoint's test predictions and outlier scores (N,). Tests it first unless its run's newest test fits it."""
    run, name = run_of_checkpoint(checkpoint), predictions_name(checkpoint, None)
    # Computed again, because a file's date proves nothing, and the outlier scores need it anyway.
    log_probs, features = predict_batches(calibrated, images)
    with torch.inference_mode():
        probs, outlier_scores = log_probs.exp().cpu().numpy(), calibrated.outlier_scores(features).cpu()
    for retry in (False, True):
        if retry:
            say(f"report: testing {run} first", file=sys.stderr, flush=True)
            args = ["--ckpt_path", str(checkpoint), *test_options]
            if run_command("test", args, stdout=subprocess.DEVNULL):
                raise InputError(f"{run} could not be tested")
        test = read_predictions(run, name)
        same_images = test and test.labels == labels.tolist() and np.shape(test.probs) == probs.shape
        if test and same_images and np.abs(np.array(test.probs) - probs).max() <= TOLERANCE:
            return test, outlier_scores
    raise InputError(f"{run / name} does not hold the predictions of {checkpoint} for these images")
