"""The callbacks of `mnist-lit fit` and `test`, in the order in which they run."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.callbacks import Callback

from mnist_lit.callbacks.calibration import CalibrateBest
from mnist_lit.callbacks.checkpoints import SaveBestAndLast, TrackBest
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.predictions import WritePredictions
from mnist_lit.callbacks.resume import BroadcastResume, RankOrderedGradients
from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.callbacks.tables import FitTable, ScoreTable
from mnist_lit.callbacks.tensorboard import TensorBoardHParams, TensorBoardTestScores
from mnist_lit.runs.folders import run_of_checkpoint
from mnist_lit.runs.locate import is_pretrained, published_score
from mnist_lit.runs.start import RunStart

__all__ = ["FitOptions", "fit_callbacks", "test_callbacks"]


class FitOptions(NamedTuple):
    """What the callbacks of a fit need to know beside where it begins."""

    logs: Path  # the folder of all runs
    config: str  # the run's whole configuration as YAML
    settings: Mapping[str, int | float | str]  # for TensorBoard's table of runs
    saves: bool = True  # write checkpoints
    logs_curves: bool = True  # write to TensorBoard
    figures: bool = True
    every_n_steps: int = 0  # also save within epochs
    keep_epochs: bool = False


def fit_callbacks(start: RunStart, options: FitOptions) -> list[Callback]:
    """The callbacks of a fit. `BroadcastResume` comes first: the others rely on what it tells every process.

    `FitTable` comes behind those whose work its clock excludes. Lightning moves `SaveBestAndLast` to the end, so a
    checkpoint holds what all others have done. `CalibrateBest` works in `teardown`, after `FitTable` has printed.
    """
    tracker = TrackBest(start)
    callbacks: list[Callback] = [BroadcastResume(start), RankOrderedGradients(), tracker, StopOnDivergence(start)]
    if start.run and options.logs_curves:
        callbacks.append(TensorBoardHParams(start, options.settings))
        if options.figures:
            callbacks.append(TensorBoardFigures(start))
    saver = None
    if start.run and options.saves:
        saver = SaveBestAndLast(
            start, options.config, tracker, every_n_steps=options.every_n_steps, keep_epochs=options.keep_epochs
        )
    callbacks += [FitTable(start, options.logs, tracker, saves=options.saves), StopOnSignal(saver)]
    return [*callbacks, CalibrateBest(start), *([saver] if saver else [])]


def test_callbacks(checkpoint: Path, step: int) -> list[Callback]:
    """The callbacks of a test of all images. checkpoint: what is tested; step: how far it was trained."""
    shipped = is_pretrained(checkpoint)
    run = Path() if shipped else run_of_checkpoint(checkpoint)
    predictions = run / "predictions.csv"
    table = ScoreTable(predictions, published_score() if shipped else None)
    in_run = [TensorBoardTestScores(run, step)] if run.joinpath("config.yaml").exists() else []
    return [table, WritePredictions(predictions), *in_run]
