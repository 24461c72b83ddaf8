"""Build the Trainer's arguments: the run folder, and our loggers, callbacks and plugins in addition to the user's."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.strategies import Strategy

from mnist_lit.callbacks.checkpoints import SaveBestAndLast, TrackBest, is_unlimited
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.predictions import WritePredictions
from mnist_lit.callbacks.progress import progress_display
from mnist_lit.callbacks.resume import BroadcastResume, RankOrderedGradients
from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.callbacks.tables import FitTable, ScoreTable
from mnist_lit.callbacks.tensorboard import TensorBoardOverview, TensorBoardTestScores
from mnist_lit.cli.config import as_list, is_rank_zero, tensorboard_settings
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.runs.checkpoint import AtomicCheckpointIO
from mnist_lit.runs.folders import CONFIG_YAML, logs_folder, predictions_name, run_of_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR, is_pretrained
from mnist_lit.runs.loggers import create_loggers
from mnist_lit.runs.metadata import Metadata, config_of
from mnist_lit.runs.resume import begin_run
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import percent

METRIC = re.compile(r"\{([\w/]+)(:[^}]*)?\}")  # in a ModelCheckpoint's file name


def begin_fit(config: Namespace, trainer: Namespace, yaml_text: str, command: str) -> tuple[RunStart, FileLock | None]:
    """The run to resume, or a new one; nothing for a dry run, which leaves no files.

    trainer: its options, instantiated. yaml_text: the whole configuration. command: as it was typed.
    """
    if trainer.fast_dev_run:
        return RunStart(), None
    logs = logs_folder(trainer.default_root_dir)
    if not is_rank_zero():
        return RunStart(logs / "of_rank_0"), None  # until rank 0 broadcasts its own; never written to
    group, run = (given and Path(given) for given in (config.group, config.run))
    seed, resume = config.seed_everything, bool(config.resume)
    return begin_run(logs, yaml_text, command, seed=seed, group=group, run=run, resume=resume)


def callbacks_of_fit(config: Namespace, trainer: Namespace, start: RunStart, yaml_text: str) -> list[Callback]:
    """Our callbacks for a fit. `BroadcastResume` comes first: the others rely on what it tells every process.

    `FitTable` follows the callbacks whose time its clock excludes. Lightning moves `SaveBestAndLast` to the end, so a
    checkpoint includes the work of all others.
    """
    logs = logs_folder(trainer.default_root_dir)
    saves = not trainer.fast_dev_run and trainer.enable_checkpointing is not False
    tracker = TrackBest(start)
    callbacks: list[Callback] = [BroadcastResume(start), RankOrderedGradients(), tracker, StopOnDivergence(start)]
    if start.run and trainer.logger is not False:
        callbacks.append(TensorBoardOverview(start, yaml_text, tensorboard_settings(config)))
        if config.figures:
            callbacks.append(TensorBoardFigures(start))
    saver = None
    if start.run and saves:
        every_n_steps, keep_epochs = config.checkpoint_every_n_steps, config.keep_epochs
        saver = SaveBestAndLast(tracker, yaml_text, every_n_steps=every_n_steps, keep_epochs=keep_epochs)
    callbacks += [FitTable(start, logs, tracker, saves=saves), StopOnSignal(saver)]
    return [*callbacks, *([saver] if saver else [])]


def callbacks_of_evaluation(
    command: str, config: Namespace, trainer: Namespace, datamodule: MNISTDataModule, checkpoint: Mapping[str, Any]
) -> list[Callback]:
    """Our callbacks for `validate` and `test`. A complete test writes predictions; the run keeps the results of a test
    on its own dataset."""
    metadata = Metadata.of(checkpoint)
    nowhere = BroadcastResume(RunStart())
    if command != "test" or trainer.fast_dev_run or not is_unlimited(trainer.limit_test_batches):
        return [nowhere, ScoreTable(temperature=metadata.temperature)]
    dataset, saved = config.data.dataset, config_of(checkpoint)["data"]
    names = ("dataset", "split", "classes")
    is_own = all(str(config.data[name]) == str(saved.get(name, config.data[name])) for name in names)
    if is_own and dataset == "folder":  # another folder counts as the run's own if it has the same pictures
        before, now = (Path(data.get("data_dir", "")).resolve() for data in (saved, config.data))
        if before != now:
            datamodule.setup("test")
            is_own = datamodule.fingerprint == metadata.data
    path, step = Path(config.ckpt_path), checkpoint["global_step"]
    shipped = is_pretrained(path)
    run = Path() if shipped else run_of_checkpoint(path)
    predictions = run / predictions_name(None if shipped else path, None if is_own else dataset)
    table = ScoreTable(predictions, _published_score() if shipped and is_own else None, metadata.temperature)
    in_run = [TensorBoardTestScores(run, step)] if run.joinpath(CONFIG_YAML).exists() and is_own else []
    return [nowhere, table, WritePredictions(predictions, path, step), *in_run]


def trainer_arguments(trainer: Namespace, ours: Sequence[Callback], start: RunStart) -> dict[str, Any]:
    """The Trainer's loggers, callbacks and plugins: ours and the user's, which replace only our progress bar."""
    theirs = [_with_flat_file_names(callback) for callback in as_list(trainer.callbacks)]
    run = None if start.finished or trainer.logger is False else start.run
    loggers = create_loggers(run) if run else []
    loggers += [] if isinstance(trainer.logger, bool) else as_list(trainer.logger)
    bar, progress = progress_display(trainer.enable_progress_bar, theirs)
    callbacks = [*progress, *theirs, *ours]
    return {
        "logger": loggers or False,
        "callbacks": callbacks,
        "enable_progress_bar": bar,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "plugins": [*_environment(trainer), *as_list(trainer.plugins), AtomicCheckpointIO()],
    }


def _environment(trainer: Namespace) -> list[ClusterEnvironment]:
    """SLURM's environment where Lightning would choose it, without its requeueing: on SIGUSR1 that saves in the middle
    of a step, where no `--resume auto` looks. `StopOnSignal` saves after the step instead."""
    given = any(isinstance(plugin, ClusterEnvironment) for plugin in as_list(trainer.plugins))
    if given or isinstance(trainer.strategy, Strategy) or TorchElasticEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _with_flat_file_names(callback: Callback) -> Callback:
    """A ModelCheckpoint whose file names have no slash: `{val/loss:.2f}` would otherwise create a folder `val`."""
    if isinstance(callback, ModelCheckpoint) and callback.filename and callback.auto_insert_metric_name:
        callback.filename = METRIC.sub(lambda found: f"{found[1].replace('/', '_')}={found[0]}", callback.filename)
        callback.auto_insert_metric_name = False
    return callback


def _published_score() -> str:
    """The shipped model's test accuracy and its spread over seeds, in one line."""
    score = json.loads(PRETRAINED_DIR.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    mean, sd = 100 * score["mean"], 100 * score["sd"]
    return f"{percent(score['accuracy'])} (mean of n = {score['n']} seeds {mean:.3f} ± {sd:.3f} %)"
