"""Run the trainer for `fit`, `validate` and `test`: data first, exact resume, and refusals in one line."""

import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer import Trainer

from mnist_lit.callbacks.resume import BroadcastResume, ResumePath, RunFinished
from mnist_lit.cli.config import is_rank_zero
from mnist_lit.cli.finish import finish_run
from mnist_lit.cli.quiet import silence_expected_messages
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError, require
from mnist_lit.exact_resume import check_accumulation_schedules
from mnist_lit.metrics import monitored_names
from mnist_lit.module import MNISTModule
from mnist_lit.optim import steps_per_epoch
from mnist_lit.own_network import is_tutorial
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.resume import restore_run
from mnist_lit.runs.start import RunStart, discard_run
from mnist_lit.runs.weights import load_weights
from mnist_lit.system.atomic_file import remove_partial_files
from mnist_lit.system.distributed import is_peer_failure
from mnist_lit.system.error_messages import explain_error
from mnist_lit.system.malloc import keep_freed_memory
from mnist_lit.system.signals import die_with_parent

INSTALLED = {"site-packages", "dist-packages"}
REFUSALS = (MisconfigurationException, ValueError, TypeError, AttributeError, ModuleNotFoundError)


def prepare_process(args: Sequence[str]) -> None:
    """Set up a process that trains or evaluates: quiet, faster, and ending with the one that started it."""
    silence_expected_messages()
    keep_freed_memory()
    launched = os.environ.get("LOCAL_RANK", "0") != "0" or "TORCHELASTIC_RUN_ID" in os.environ
    if launched or {"--group", "--run"} & {*args}:
        die_with_parent()  # Lightning's launcher, torchrun, a group of seeds or a sweep


def check_devices(trainer: Trainer) -> None:
    """Raise InputError for a number of CPU processes that would exhaust the machine, and for a strategy that starts
    processes by spawn or fork: their results, such as scores, never reach this one."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError("trainer.strategy: expected one that neither spawns nor forks processes, such as ddp")
    limit = 8 * (os.cpu_count() or 1)  # each CPU device is a process
    if isinstance(trainer.accelerator, CPUAccelerator):
        expected = f"{limit} or fewer CPU processes here"
        require("trainer.devices", trainer.num_devices, expected, trainer.num_devices <= limit)


@contextmanager
def refusals(start: RunStart) -> Iterator[None]:
    """Treat what the trainer refuses before its first step as wrong input: one line, and no run folder left behind."""
    try:
        yield
    except BaseException as error:
        if is_peer_failure(error):
            raise ConnectionError("another process of this run has ended; --resume auto continues it") from error
        if start.has_trained:
            raise
        if is_rank_zero():
            discard_run(start)
        if isinstance(error, InputError) or not isinstance(error, REFUSALS) or _is_from_user_code(error):
            raise
        raise InputError(explain_error(str(error), [])) from error


def _is_from_user_code(error: BaseException) -> bool:
    """Whether the traceback passes through user code, such as a callback: its bugs need the traceback. If jsonargparse
    called it, a class refused its options."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = {frame.f_globals.get("__name__", "").partition(".")[0]: frame.f_code.co_filename for frame in frames}
    known = ("mnist_lit", *sys.stdlib_module_names)  # or installed, as Lightning and torch are
    own = [name for name, file in places.items() if name not in known and not INSTALLED & {*Path(file).parts}]
    return bool(own) and "jsonargparse" not in places


def check_callbacks(trainer: Trainer, model: MNISTModule, datamodule: MNISTDataModule, *, resumes: bool) -> None:
    """Raise InputError for callbacks that would be ignored, or would fail after the first epoch."""
    h = model.hparams
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    packages = ("lightning.", "mnist_lit.")
    known = all(type(one).__module__.startswith(packages) for one in callbacks)  # others may log further scores
    names = monitored_names(
        datamodule.num_classes, has_validation=bool(datamodule.val_size and trainer.limit_val_batches)
    )
    if "train/loss_step" in [getattr(one, "monitor", None) for one in callbacks] and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not 0 < every <= _steps_per_epoch(trainer, datamodule):
            names.remove("train/loss_step")  # not logged when callbacks first look for it
    check_accumulation_schedules(trainer, h)
    for callback in callbacks:
        name = type(callback).__name__
        monitor = getattr(callback, "monitor", None)
        valid = [*names, "epoch", "step"] if isinstance(callback, ModelCheckpoint) else names
        is_valid = not known or monitor is None or monitor in valid
        require(f"{name}: monitor", monitor, f"one of {', '.join(valid)}", is_valid)
        if isinstance(callback, ModelCheckpoint) and callback.save_last and callback.dirpath is None:
            raise InputError(f"{name}: save_last: last.ckpt is the run's own; leave it out, or set dirpath")
        if isinstance(callback, BatchSizeFinder):
            raise InputError(f"{name}: data.batch_size is part of the recipe; set it explicitly")
        if isinstance(callback, ModelPruning) and is_tutorial(model.network):
            reason = "cannot prune the tutorial's network, whose weights are stored channels last"
            raise InputError(f"{name}: {reason}; use a plain Trainer, see docs/own-module.md")
        if isinstance(callback, WeightAveraging | StochasticWeightAveraging) and model.ema is not None:
            raise InputError(f"{name}: the weights are averaged already; leave it out, or set model.ema_decay to 0")
        if isinstance(callback, LearningRateFinder):
            if resumes:
                reason = "a resumed run already has its learning rate"
                raise InputError(f"{name}: {reason}; leave the finder out, and set model.lr")
            needed = callback._num_training_steps
            require(f"{name}: num_training_steps", needed, "20 or more", needed >= 20)  # the first ten are ignored
            steps = steps_of_fit(trainer, datamodule)
            enough = f"a run of at least {needed} steps (num_training_steps)"
            require(name, steps, enough, steps >= needed)


def steps_of_fit(trainer: Trainer, datamodule: MNISTDataModule) -> float:
    """The number of a fit's optimizer steps, before the trainer knows it."""
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs or 0
    steps = _steps_per_epoch(trainer, datamodule) * epochs
    return min(steps, trainer.max_steps) if trainer.max_steps >= 0 else steps


def _steps_per_epoch(trainer: Trainer, datamodule: MNISTDataModule) -> float:
    batches = len(datamodule.train_dataloader())
    return steps_per_epoch(batches, trainer.accumulate_grad_batches, trainer.limit_train_batches)


def run_fit(
    trainer: Trainer,
    model: MNISTModule,
    datamodule: MNISTDataModule,
    start: RunStart,
    lock: FileLock | None,
    *,
    ckpt_path: str | None,
) -> None:
    """Train from where `start` says, holding the lock on the run folder until the end.

    ckpt_path: a checkpoint to resume from in a new folder, instead of one that rank 0 may have found in `start.run`.
    Raises InputError if the trainer refuses its options, or there is nothing to train.
    """
    with refusals(start):
        if not start.finished:  # before other processes start, or they would wait for one whose data was refused
            datamodule.prepare_data()
            datamodule.setup()
            check_callbacks(trainer, model, datamodule, resumes=bool(start.checkpoint or ckpt_path))
        if start.run and is_rank_zero():
            remove_partial_files(start.run)
            if start.continues:
                start.checkpoint = restore_run(start.run, start.checkpoint, datamodule.fingerprint)
        path: Any = ckpt_path or _resume_path(trainer)
        try:
            if not (start.finished and _is_only_process(trainer)):  # other processes learn only in `fit` that it is
                with _explained_resume(start, ckpt_path):
                    trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
            if not (start.has_trained or start.continues or start.finished):
                limit = "max_steps" if 0 <= trainer.max_steps <= trainer.global_step else "max_epochs"
                raise InputError(
                    f"nothing to train: the run is complete, or its limits allow no steps; set trainer.{limit} higher"
                )
            if is_rank_zero():
                finish_run(start, trainer, datamodule, model.network)
        finally:
            if lock:
                lock.release()


@contextmanager
def _explained_resume(start: RunStart, ckpt_path: str | None) -> Iterator[None]:
    """Raise InputError if a checkpoint does not fit; end quietly if the run turns out to be finished."""
    try:
        yield
    except RunFinished:
        pass
    except InputError:
        raise
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        used = start.checkpoint or ckpt_path
        if start.has_trained or not used or is_peer_failure(error) or _is_from_user_code(error):
            raise
        if "loading state_dict" in str(error):
            reason = "its weights do not fit the network that the options describe"
            raise InputError(f"cannot resume from {used}: {reason}") from error
        reason = " ".join(str(error).split())[:100]
        reason += ", saved with another learning-rate schedule" if "lr_lambdas" in reason else ""
        raise InputError(f"cannot resume from {used} ({type(error).__name__}: {reason})") from error


def run_evaluation(
    trainer: Trainer, command: str, model: MNISTModule, datamodule: MNISTDataModule, checkpoint: Mapping[str, Any]
) -> None:
    """Score a checkpoint with `trainer.validate` or `trainer.test`. Raises InputError if its classes do not match."""
    with refusals(RunStart()):
        datamodule.prepare_data()
        datamodule.setup(command)
        classes = Metadata.of(checkpoint).classes
        if classes != datamodule.classes:
            missing = ", ".join(name for name in classes if name not in datamodule.classes)
            only_test = datamodule.dataset == "folder" and not Path(datamodule.data_dir, "train").is_dir()
            addable = only_test and {*datamodule.classes} < {*classes}
            hint = f"; add empty folders for the missing classes: {missing}" if addable else ""
            names = (", ".join(map(str, given)) for given in (classes, datamodule.classes))
            raise InputError("the checkpoint was trained on the classes {}, but the data has {}{}".format(*names, hint))
        load_weights(model, checkpoint)
        getattr(trainer, command)(model, datamodule=datamodule, ckpt_path=_resume_path(trainer), verbose=False)
    if model.confusion is None:
        raise InputError(f"no images to {command}: data.val_size is 0, or the trainer's limits allow none")


def _resume_path(trainer: Trainer) -> ResumePath:
    """The path object through which `BroadcastResume` says where to resume, if anywhere. With None, Lightning would
    load the newest `hpc_ckpt_N.ckpt` in a SLURM job's working directory, whichever run it belongs to."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next(callback for callback in callbacks if isinstance(callback, BroadcastResume)).path


def _is_only_process(trainer: Trainer) -> bool:
    """Whether this is still the only process."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    external = environment is not None and environment.creates_processes_externally
    return trainer.world_size == 1 or (trainer.num_nodes == 1 and not external)
