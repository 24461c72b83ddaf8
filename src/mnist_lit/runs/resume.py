"""`--resume auto`: find the newest readable checkpoint of the same recipe in a run that no other process holds.

A run is resumed only if its recipe, the configuration without machine-specific settings, equals the new one exactly.
Its log files are then cut back to the length they had when the checkpoint was saved, so that every step appears once
whatever was written after it. Only rank 0 searches; `callbacks.resume` tells the other processes.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import RESUME_KEYS, Metadata, load_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.loggers import truncate_logs
from mnist_lit.runs.recipes import recipe_options, without_removed_options
from mnist_lit.system.atomic_file import remove_partial_files

UNREADABLE = (OSError, LookupError, AttributeError, TypeError, RecursionError, ValueError, yaml.YAMLError)
MAX_DIFFERENCES = 3  # printed between two recipes
NEWEST_FIRST = (LAST_CKPT, PREVIOUS_CKPT, "best.ckpt")


class Resumable(NamedTuple):
    """A run to resume, held by this process."""

    run: Path
    checkpoint: Path | None  # None: it was killed before its first checkpoint and starts again in its folder
    lock: FileLock
    finished: bool


def lock_run(run: Path) -> FileLock | None:
    """Hold a run until this process ends, however it ends; None if another process holds it.

    Where the file system has no locks nothing is held. Raises InputError if the folder cannot be written.
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


def find_resumable(runs: Sequence[Path], config: str) -> Resumable | None:
    """The newest of the runs, oldest first, that has this configuration (YAML) and can be resumed; None if none has."""
    recipe = _recipe(config)
    without_checkpoint: Resumable | None = None
    for run in reversed(runs):
        if _recipe_of(run) != recipe:
            continue
        lock = lock_run(run)
        if lock is None:
            print(f"resume: skipping {run}, which another process holds", file=sys.stderr)
            continue
        finished = run.joinpath(FINISHED_MARK).exists()
        checkpoint = None if finished else newest_readable(run)
        if finished or checkpoint:
            return Resumable(run, checkpoint, lock, finished)
        if without_checkpoint is None and not any(run.glob("checkpoints/*.ckpt")):
            without_checkpoint = Resumable(run, None, lock, finished=False)
        else:
            lock.release()
    if without_checkpoint is None:
        _print_differences(runs, recipe)
    return without_checkpoint


def check_same_recipe(members: Sequence[Path], config: str) -> None:
    """Raise InputError if a group's runs have another recipe than this configuration (YAML); seeds may differ."""
    recipe = _recipe(config) | {"seed_everything": None}
    for run in members:
        theirs = _recipe_of(run)
        if theirs is not None and theirs | {"seed_everything": None} != recipe:
            raise InputError(f"{run} has another recipe; the runs of a group may differ only in their seeds")


def newest_readable(run: Path) -> Path | None:
    """The newest checkpoint that can be resumed from; unreadable ones are reported."""
    for name in NEWEST_FIRST:
        path = run / "checkpoints" / name
        if path.exists():
            try:
                content = load_checkpoint(path)
                if missing := [key for key in RESUME_KEYS if key not in content]:
                    raise InputError(f"{path} has no {missing[0]}")
            except InputError as error:
                print(f"resume: skipping a checkpoint: {error}", file=sys.stderr)
            else:
                return path
    return None


def restore_run(run: Path, checkpoint: Path | None, fingerprint: str) -> None:
    """Bring a run folder back to the state of its checkpoint. Raises InputError if that was trained on other data."""
    metadata = Metadata.of(load_checkpoint(checkpoint)) if checkpoint else None
    if metadata and metadata.data != fingerprint:
        raise InputError(f"{checkpoint} was trained on other data than data.data_dir has; leave out --resume")
    for folder in (run, run / "checkpoints"):
        remove_partial_files(folder)
    if checkpoint and checkpoint.name == PREVIOUS_CKPT:  # else the next save would keep the damaged last.ckpt instead
        run.joinpath("checkpoints", LAST_CKPT).unlink(missing_ok=True)
    truncate_logs(run, metadata.curves if metadata else {})


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """A run's recipe; None if its configuration is missing or damaged."""
    with suppress(*UNREADABLE):
        return _recipe(run.joinpath("config.yaml").read_text(encoding="utf-8"))
    return None


def _recipe(config: str) -> dict[str, Any]:
    return recipe_options(without_removed_options(yaml.safe_load(config)))


def _print_differences(runs: Sequence[Path], recipe: dict[str, Any]) -> None:
    """Say why the newest run is not resumed if its recipe differs: starting from scratch may come as a surprise."""
    newest = next(((run, theirs) for run in reversed(runs) if (theirs := _recipe_of(run)) is not None), None)
    if newest is None:
        return
    run, theirs = newest
    pairs = {name: (theirs.get(name), recipe.get(name)) for name in sorted({*theirs, *recipe}, key=str)}
    differences = [f"{name} {before}, not {now}" for name, (before, now) in pairs.items() if before != now]
    if differences:
        more = f" and {len(differences) - MAX_DIFFERENCES} others" if len(differences) > MAX_DIFFERENCES else ""
        shown = "; ".join(differences[:MAX_DIFFERENCES])
        print(f"resume: {run} has {shown}{more}; starting from scratch", file=sys.stderr)
