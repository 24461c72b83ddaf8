"""`--resume auto`: the newest checkpoint of the same recipe, in a run that nobody else holds. Or a fresh start.

The first process looks; the others are told when they can be, which is after the trainer has started. Trains nothing.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback

from mnist_lit import checkpoint, curves, runs
from mnist_lit.errors import InputError
from mnist_lit.files import sweep
from mnist_lit.recipes import options
from mnist_lit.runs import Start

__all__ = ["Agree", "Finished", "Found", "find", "hold", "join", "newest", "restore"]

UNREADABLE = (OSError, LookupError, AttributeError, TypeError, RecursionError, ValueError, yaml.YAMLError)
TOLD = 3  # differences between two recipes, at most
NEWEST_FIRST = (runs.LAST, runs.PREVIOUS, "best.ckpt")


class Finished(Exception):
    """The run that would go on is at its end; raised on every process."""


def hold(run: Path) -> FileLock | None:
    """Keep a run for this process until it ends, however it ends; None where another one has it.

    Where the file system has no locks nothing is kept. Raises InputError where the folder cannot be written.
    """
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"cannot write to {run}: {error.strerror}") from error
    except (OSError, NotImplementedError):
        pass
    return lock


def find(among: Sequence[Path], config: str) -> tuple[Start, FileLock] | None:
    """Where a fit of this configuration, as YAML, goes on among runs, the oldest first; None where it starts afresh.

    A run that was killed before its first checkpoint is begun again in its own folder.
    """
    recipe = _recipe(config)
    begun: tuple[Start, FileLock] | None = None
    for run in reversed(among):
        if _recipe_of(run) != recipe:
            continue
        lock = hold(run)
        if lock is None:
            print(f"resume: {run} is held by another process; passed over", file=sys.stderr)
            continue
        if run.joinpath(runs.FINISHED).exists():
            return Start(run, finished=True), lock
        if path := newest(run):
            return Start(run, path, continues=True), lock
        if begun is None and not any(run.glob("checkpoints/*.ckpt")):
            begun = Start(run, continues=True), lock
        else:
            lock.release()
    if begun is None:
        _tell_difference(among, recipe)
    return begun


def join(members: Sequence[Path], config: str) -> None:
    """Raise InputError where a group's runs have another recipe than this configuration, as YAML; seeds may differ."""
    recipe = _recipe(config) | {"seed_everything": None}
    for run in members:
        theirs = _recipe_of(run)
        if theirs is not None and theirs | {"seed_everything": None} != recipe:
            raise InputError(f"{run} is of another recipe; a group's runs differ in their seeds alone")


def newest(run: Path) -> Path | None:
    """The newest checkpoint that can be read; what cannot is named."""
    for name in NEWEST_FIRST:
        path = run / "checkpoints" / name
        if path.exists():
            try:
                content = checkpoint.load(path)
                if missing := [part for part in ("loops", "best", "train_scores") if part not in content]:
                    raise InputError(f"{path} has no {missing[0]}")
            except InputError as error:
                print(f"resume: {error}; passed over", file=sys.stderr)
            else:
                return path
    return None


def restore(start: Start, fingerprint: str) -> None:
    """Bring a run's folder to where its checkpoint stands. Raises InputError if that was trained on other data."""
    assert start.run
    content = checkpoint.load(start.checkpoint)[checkpoint.KEY] if start.checkpoint else {"curves": {}}
    if content.get("data", fingerprint) != fingerprint:
        raise InputError(f"{start.checkpoint} was trained on other data than data.data_dir has; leave out --resume")
    for folder in (start.run, start.run / "checkpoints"):
        sweep(folder)
    if start.checkpoint and start.checkpoint.name == runs.PREVIOUS:  # the next save would put the damaged in its place
        start.run.joinpath("checkpoints", runs.LAST).unlink(missing_ok=True)
    curves.cut(start.run, content["curves"])


class Found(os.PathLike[str]):
    """The checkpoint of a Start for Lightning, which asks for it after the processes have agreed, if there is one."""

    def __init__(self, start: Start) -> None:
        self.start, self.agreed = start, False

    def __bool__(self) -> bool:
        return not self.agreed or self.start.checkpoint is not None

    def __fspath__(self) -> str:
        return str(self.start.checkpoint)


class Agree(Callback):
    """Tells every process what the first one found; stands before all other callbacks."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.found = Found(start)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take over what the first process knows."""
        vars(self.start).update(trainer.strategy.broadcast(vars(self.start)))
        self.found.agreed = True
        if self.start.finished:
            raise Finished


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """The recipe of a run; None where its configuration is missing or damaged."""
    with contextlib.suppress(*UNREADABLE):
        return _recipe(run.joinpath("config.yaml").read_text(encoding="utf-8"))
    return None


def _recipe(config: str) -> dict[str, Any]:
    """What a configuration, as YAML, makes of a run."""
    return options(yaml.safe_load(config))


def _tell_difference(among: Sequence[Path], recipe: dict[str, Any]) -> None:
    """Say why the newest run is not gone on with, if that is for its recipe: a fresh start may come as a surprise."""
    for run in reversed(among):
        theirs = _recipe_of(run)
        if theirs is None:
            continue
        pairs = {name: (theirs.get(name), recipe.get(name)) for name in sorted({*theirs, *recipe}, key=str)}
        told = [f"{name} {before}, not {now}" for name, (before, now) in pairs.items() if before != now]
        if told:
            more = f" and {len(told) - TOLD} others" if len(told) > TOLD else ""
            print(f"resume: {run} has {'; '.join(told[:TOLD])}{more}; starting afresh", file=sys.stderr)
        return
