"""The callbacks of `mnist-lit fit` and `test`, in the order in which they run."""

import json
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from mnist_lit.callbacks.checkpoints import SaveBestAndLast, TrackBest
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.predictions import WritePredictions
from mnist_lit.callbacks.resume import BroadcastResume, RankOrderedGradients
from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.callbacks.tables import FitTable, ScoreTable
from mnist_lit.callbacks.tensorboard import TensorBoardOverview, TensorBoardTestScores
from mnist_lit.runs.folders import CONFIG_YAML, predictions_name, run_of_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR, is_pretrained
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import percent


def fit_callbacks(
    start: RunStart,
    logs: Path,
    config: str,
    settings: Mapping[str, int | float | str | None],
    *,
    saves: bool,
    logs_curves: bool,
    figures: bool,
    every_n_steps: int,
    keep_epochs: bool,
) -> list[Callback]:
    """The callbacks for a fit. `BroadcastResume` comes first: the others rely on what it tells every process.

    `FitTable` follows the callbacks whose time its clock excludes. Lightning moves `SaveBestAndLast` to the end, so a
    checkpoint includes the work of all others.

    logs: the folder of all runs. config: the run's whole configuration as YAML. settings: for TensorBoard's table of
    runs. saves: write checkpoints, see `SaveBestAndLast` for `every_n_steps` and `keep_epochs`.
    """
    tracker = TrackBest(start)
    callbacks: list[Callback] = [BroadcastResume(start), RankOrderedGradients(), tracker, StopOnDivergence(start)]
    if start.run and logs_curves:
        callbacks.append(TensorBoardOverview(start, config, settings))
        if figures:
            callbacks.append(TensorBoardFigures(start))
    saver = None
    if start.run and saves:
        saver = SaveBestAndLast(tracker, config, every_n_steps=every_n_steps, keep_epochs=keep_epochs)
    callbacks += [FitTable(start, logs, tracker, saves=saves), StopOnSignal(saver)]
    return [*callbacks, *([saver] if saver else [])]


def test_callbacks(checkpoint: Path, step: int, temperature: float | None, other_dataset: str | None) -> list[Callback]:
    """The callbacks for a test on all images. checkpoint: the file to test; step: how far it was trained; temperature:
    its calibration's. other_dataset: the dataset to test on if it is not the checkpoint's own; the run then keeps the
    results of its own test."""
    shipped = is_pretrained(checkpoint)
    run = Path() if shipped else run_of_checkpoint(checkpoint)
    predictions = run / predictions_name(None if shipped else checkpoint, other_dataset)
    table = ScoreTable(predictions, _published_score() if shipped and not other_dataset else None, temperature)
    in_run = [TensorBoardTestScores(run, step)] if run.joinpath(CONFIG_YAML).exists() and not other_dataset else []
    return [table, WritePredictions(predictions, checkpoint, step), *in_run]


def _published_score() -> str:
    """The shipped model's test accuracy and its spread over seeds, in one line."""
    score = json.loads(PRETRAINED_DIR.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    mean, sd = 100 * score["mean"], 100 * score["sd"]
    return f"{percent(score['accuracy'])} (mean of n = {score['n']} seeds {mean:.3f} ± {sd:.3f} %)"
