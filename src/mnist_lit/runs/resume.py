"""`--resume auto`: the newest checkpoint of the same recipe, in a run that nobody else holds. Or a fresh start.

The first process looks; the others are told when they can be, which is after the trainer has started. Trains nothing.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import METADATA_KEY, load_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.loggers import truncate_logs
from mnist_lit.runs.recipes import recipe_options
from mnist_lit.runs.start import RunStart
from mnist_lit.system.atomic_file import remove_partial_files

__all__ = ["check_same_recipe", "find_resumable", "lock_run", "newest_readable", "restore_run"]

UNREADABLE = (OSError, LookupError, AttributeError, TypeError, RecursionError, ValueError, yaml.YAMLError)
TOLD = 3  # differences between two recipes, at most
NEWEST_FIRST = (LAST_CKPT, PREVIOUS_CKPT, "best.ckpt")


def lock_run(run: Path) -> FileLock | None:
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


def find_resumable(among: Sequence[Path], config: str) -> tuple[RunStart, FileLock] | None:
    """Where a fit of this configuration, as YAML, goes on among runs, the oldest first; None where it starts afresh.

    A run that was killed before its first checkpoint is begun again in its own folder.
    """
    recipe = _recipe(config)
    begun: tuple[RunStart, FileLock] | None = None
    for run in reversed(among):
        if _recipe_of(run) != recipe:
            continue
        lock = lock_run(run)
        if lock is None:
            print(f"resume: {run} is held by another process; passed over", file=sys.stderr)
            continue
        if run.joinpath(FINISHED_MARK).exists():
            return RunStart(run, finished=True), lock
        if path := newest_readable(run):
            return RunStart(run, path, continues=True), lock
        if begun is None and not any(run.glob("checkpoints/*.ckpt")):
            begun = RunStart(run, continues=True), lock
        else:
            lock.release()
    if begun is None:
        _tell_difference(among, recipe)
    return begun


def check_same_recipe(members: Sequence[Path], config: str) -> None:
    """Raise InputError where a group's runs have another recipe than this configuration, as YAML; seeds may differ."""
    recipe = _recipe(config) | {"seed_everything": None}
    for run in members:
        theirs = _recipe_of(run)
        if theirs is not None and theirs | {"seed_everything": None} != recipe:
            raise InputError(f"{run} is of another recipe; a group's runs differ in their seeds alone")


def newest_readable(run: Path) -> Path | None:
    """The newest checkpoint that can be read; what cannot is named."""
    for name in NEWEST_FIRST:
        path = run / "checkpoints" / name
        if path.exists():
            try:
                content = load_checkpoint(path)
                if missing := [part for part in ("loops", "best", "train_scores") if part not in content]:
                    raise InputError(f"{path} has no {missing[0]}")
            except InputError as error:
                print(f"resume: {error}; passed over", file=sys.stderr)
            else:
                return path
    return None


def restore_run(start: RunStart, fingerprint: str) -> None:
    """Bring a run's folder to where its checkpoint stands. Raises InputError if that was trained on other data."""
    assert start.run
    content = load_checkpoint(start.checkpoint)[METADATA_KEY] if start.checkpoint else {"curves": {}}
    if content.get("data", fingerprint) != fingerprint:
        raise InputError(f"{start.checkpoint} was trained on other data than data.data_dir has; leave out --resume")
    for folder in (start.run, start.run / "checkpoints"):
        remove_partial_files(folder)
    if start.checkpoint and start.checkpoint.name == PREVIOUS_CKPT:  # the next save would put the damaged in its place
        start.run.joinpath("checkpoints", LAST_CKPT).unlink(missing_ok=True)
    truncate_logs(start.run, content["curves"])


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """The recipe of a run; None where its configuration is missing or damaged."""
    with contextlib.suppress(*UNREADABLE):
        return _recipe(run.joinpath("config.yaml").read_text(encoding="utf-8"))
    return None


def _recipe(config: str) -> dict[str, Any]:
    """What a configuration, as YAML, makes of a run."""
    return recipe_options(yaml.safe_load(config))


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
