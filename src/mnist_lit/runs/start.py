"""Where a fit begins: in a new run folder, or in the one that `--resume auto` finds.

A run is resumed only if its recipe, the configuration without machine-specific settings, equals the new one exactly,
and no other process holds it. Only rank 0 searches; `callbacks.resume` tells the other processes.
"""

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs import folders
from mnist_lit.runs.recipes import recipe_options, without_removed_options
from mnist_lit.runs.resume import lock_run, newest_readable
from mnist_lit.system.atomic_file import write_atomic

MAX_DIFFERENCES = 3  # printed between two recipes


@dataclass
class RunStart:
    """Where a fit begins. Rank 0 decides; the other processes learn it once they can communicate."""

    run: Path | None = None  # the run folder; None: nothing is kept
    checkpoint: Path | None = None  # to resume from; None: from the start
    continues: bool = False  # in an existing folder, with `--resume auto`
    finished: bool = False  # nothing is left to do
    has_trained: bool = False  # whether this process has taken a step


def begin_run(
    logs: Path, config: str, command: str, *, seed: int, group: Path | None, run: Path | None, resume: bool
) -> tuple[RunStart, FileLock | None]:
    """The run to resume, or a new run folder containing config.yaml; and the lock that keeps it for this process.

    config: the run's whole configuration as YAML. command: what was typed. group, run: the folder that a group of seeds
    or a sweep has chosen. Raises InputError if the folder cannot be made or belongs to another recipe.
    """
    ungrouped = [found for found in folders.all_runs(logs) if found.parent == logs]
    candidates = [run] if run else folders.group_members(group) if group else ungrouped
    if group:
        _check_same_recipe(candidates, config)
    if resume and (found := _find_resumable(candidates, config)):
        return found
    named = run or (group and group / f"seed_{seed}")
    folder = folders.create_named_run(named) if named else folders.create_run(logs)
    lock = lock_run(folder)
    write_atomic(folder / folders.CONFIG_YAML, f"# {command}\n{config}".encode())
    return RunStart(folder), lock


def discard_run(start: RunStart) -> None:
    """Remove the run folder of a fit that was refused, if it was made for this fit and no step was taken in it."""
    if start.run and not (start.continues or start.finished or start.has_trained):
        shutil.rmtree(start.run, ignore_errors=True)
        with suppress(OSError):
            start.run.parent.rmdir()  # if it is empty


def _find_resumable(runs: Sequence[Path], config: str) -> tuple[RunStart, FileLock] | None:
    """The newest of the runs, oldest first, that has this configuration and can be resumed; None if none has.

    A run that was killed before its first checkpoint starts again in its folder, unless an older one has a checkpoint.
    """
    recipe = _recipe(config)
    without_checkpoint = None
    for run in reversed(runs):
        if _recipe_of(run) != recipe:
            continue
        lock = lock_run(run)
        if lock is None:
            print(f"resume: skipping {run}, which another process holds", file=sys.stderr)
        elif run.joinpath(folders.FINISHED_MARK).exists():
            return RunStart(run, finished=True), lock
        elif checkpoint := newest_readable(run):
            return RunStart(run, checkpoint, continues=True), lock
        elif without_checkpoint is None and not any(run.glob(f"{folders.CHECKPOINTS}/*.ckpt")):
            without_checkpoint = RunStart(run, continues=True), lock
        else:
            lock.release()
    if without_checkpoint is None:
        _print_differences(runs, recipe)
    return without_checkpoint


def _check_same_recipe(members: Sequence[Path], config: str) -> None:
    """Raise InputError if a group's runs have another recipe than this configuration; seeds may differ."""
    recipe = _recipe(config) | {"seed_everything": None}
    for run in members:
        theirs = _recipe_of(run)
        if theirs is not None and theirs | {"seed_everything": None} != recipe:
            raise InputError(f"{run} has another recipe; the runs of a group may differ only in their seeds")


def _print_differences(runs: Sequence[Path], recipe: dict[str, Any]) -> None:
    """Say why the newest run is not resumed if its recipe differs: starting from scratch may come as a surprise."""
    readable = ((run, theirs) for run in reversed(runs) if (theirs := _recipe_of(run)) is not None)
    run, theirs = next(readable, (None, recipe))  # without one there is nothing to compare
    pairs = {name: (theirs.get(name), recipe.get(name)) for name in sorted({*theirs, *recipe}, key=str)}
    differences = [f"{name} {before}, not {now}" for name, (before, now) in pairs.items() if before != now]
    if differences:
        more = f" and {len(differences) - MAX_DIFFERENCES} others" if len(differences) > MAX_DIFFERENCES else ""
        shown = "; ".join(differences[:MAX_DIFFERENCES])
        print(f"resume: {run} has {shown}{more}; starting from scratch", file=sys.stderr)


def _recipe(config: str) -> dict[str, Any]:
    return recipe_options(without_removed_options(yaml.safe_load(config)))


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """A run's recipe; None if its configuration is missing or damaged."""
    with suppress(OSError, LookupError, AttributeError, TypeError, RecursionError, ValueError, yaml.YAMLError):
        return _recipe(run.joinpath(folders.CONFIG_YAML).read_text(encoding="utf-8"))
    return None
