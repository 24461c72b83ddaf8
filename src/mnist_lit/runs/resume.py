"""Start a fit in a new run folder or, with `--resume auto`, resume a run in its own: find its newest readable
checkpoint, lock the folder, restore the logs. A run is resumed only if its recipe, the configuration without
machine-specific settings, equals the new one exactly, and no other process has locked it. Only rank 0 searches;
`callbacks.resume` tells the other processes."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import RESUME_KEYS, WITHIN_STEP, load_checkpoint, save_checkpoint
from mnist_lit.runs.folders import (
    BEST_CKPT,
    CHECKPOINTS,
    CONFIG_YAML,
    LAST_CKPT,
    PREVIOUS_CKPT,
    all_runs,
    epoch_checkpoints,
    group_members,
    is_finished,
    recorded_command,
    remove_predictions,
)
from mnist_lit.runs.loggers import truncate_logs
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.new_folder import create_named_run, new_folder, write_first_file
from mnist_lit.runs.recipes import differences, recipe_options
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import say
from mnist_lit.system.folder_lock import lock_folder
from mnist_lit.system.yaml_file import load_yaml, read_yaml

IN_USE = "another process is using"  # why a run cannot be resumed


def begin_run(
    logs: Path, config: str, command: str, *, seed: int, group: Path | None, run: Path | None, resume: bool
) -> tuple[RunStart, FileLock]:
    """The run to resume, or a new run folder containing config.yaml; and the lock on it. config: the whole
    configuration as YAML. command: what was typed. group, run: the folder that a group of seeds or a sweep has chosen.
    Raises InputError if the folder cannot be created, is in use, belongs to a different recipe or, with `resume`, has
    a run that cannot be resumed."""
    if group:
        check_same_recipe(group_members(group), config)
    if named := run or (group and group / f"seed_{seed}"):
        if resume and named.joinpath(CONFIG_YAML).exists():
            return _resume_named(named, config)
        folder = create_named_run(named)
        if not (lock := lock_folder(folder)):
            raise InputError(f"another process is beginning a run in {folder}")
    else:
        runs = [found for found in all_runs(logs) if found.parent == logs]
        if resume and (resumable := find_resumable(runs, config)):
            return resumable
        folder, lock = new_folder(logs)
    write_first_file(folder / CONFIG_YAML, f"# {command}\n{config}")
    return RunStart(folder), lock


def find_resumable(runs: Sequence[Path], config: str) -> tuple[RunStart, FileLock] | None:
    """How to continue the newest run that has this configuration and can be resumed, and the lock on it; None if there
    is no such run. runs: oldest first. A run that was killed before its first checkpoint starts again in its folder,
    unless an older one has a checkpoint."""
    recipe = recipe_options(load_yaml(config))
    restarted, skipped = None, False
    for run in reversed(runs):
        if _recipe_of(run) != recipe:
            continue
        found = _resumable(run)
        if isinstance(found, str):
            say(f"resume: skipping {run}, which {found}", file=sys.stderr)
            skipped = skipped or found != IN_USE
        elif found[0].finished or found[0].checkpoint:
            return found
        elif restarted is None:
            restarted = found
        else:
            found[1].release()
    if skipped and restarted is None:
        say("resume: starting from scratch", file=sys.stderr)
    elif restarted is None:
        _print_differences(runs, recipe)
    return restarted


def _resume_named(run: Path, config: str) -> tuple[RunStart, FileLock]:
    """How to continue this very run, and the lock on it. Raises InputError if it cannot be continued."""
    theirs, recipe = _recipe_of(run), recipe_options(load_yaml(config))
    if theirs is None:
        found: tuple[RunStart, FileLock] | str = f"has a damaged {CONFIG_YAML}"
    elif theirs != recipe:
        found = f"has a different recipe: {differences(theirs, recipe)}"
    else:
        found = _resumable(run)
    if isinstance(found, str):
        again = "to start it again, remove the folder while no process uses it"
        raise InputError(f"cannot resume {run}, which {found}; {again}")
    return found


def _resumable(run: Path) -> tuple[RunStart, FileLock] | str:
    """How to continue a run, or to start it again in its folder, and the lock on it; otherwise why neither works."""
    lock = lock_folder(run)
    if lock is None:
        return IN_USE
    if is_finished(run):
        return RunStart(run, finished=True), lock
    if checkpoint := newest_readable(run):
        return RunStart(run, checkpoint, continues=True), lock
    reason = _why_not_restarted(run)
    if not reason:
        return RunStart(run, continues=True), lock
    lock.release()
    return reason


def _why_not_restarted(run: Path) -> str:
    """Why a run without a readable checkpoint cannot start again in its folder; empty if it can."""
    if not _saved_no_step(run):
        return "has no checkpoint to resume from"
    if "--ckpt_path" in recorded_command(run):
        return "was to continue a checkpoint but saved none"
    return ""


def _saved_no_step(run: Path) -> bool:
    """Whether a run has no checkpoint, or only a `best.ckpt` from between two batches of one step."""
    files = [*run.glob(f"{CHECKPOINTS}/*.ckpt")]
    with suppress(InputError):
        return all(path.name == BEST_CKPT and load_checkpoint(path).get(WITHIN_STEP) for path in files)
    return False


def check_same_recipe(members: Sequence[Path], config: str) -> None:
    """Raise InputError if a group's runs have a different recipe from this configuration; seeds may differ."""
    recipe = recipe_options(load_yaml(config)) | {"seed_everything": None}
    for run in members:
        if (theirs := _recipe_of(run)) is not None and theirs | {"seed_everything": None} != recipe:
            raise InputError(f"{run} has a different recipe; the runs of a group may differ only in their seeds")


def _print_differences(runs: Sequence[Path], recipe: dict[str, Any]) -> None:
    """Say why the newest run is not resumed if its recipe differs: starting from scratch may come as a surprise."""
    readable = ((run, theirs) for run in reversed(runs) if (theirs := _recipe_of(run)) is not None)
    run, theirs = next(readable, (None, recipe))  # without one there is nothing to compare
    if others := differences(theirs, recipe):
        say(f"resume: {run} has a different recipe: {others}; starting from scratch", file=sys.stderr)


def _recipe_of(run: Path) -> dict[str, Any] | None:
    """A run's recipe; None if its configuration is missing or damaged."""
    with suppress(AttributeError, TypeError, ValueError, yaml.YAMLError):
        return recipe_options(read_yaml(run / CONFIG_YAML))
    return None


def newest_readable(run: Path) -> Path | None:
    """`last.ckpt`, or else `previous.ckpt`, or else the newest of `best.ckpt` and each `epoch_N.ckpt`; None if none of
    these can be resumed from. Unreadable ones are reported."""
    last, previous, best = (run / CHECKPOINTS / name for name in (LAST_CKPT, PREVIOUS_CKPT, BEST_CKPT))
    for path in (last, previous):
        if _readable_step(path) is not None:
            return path
    best_step = _readable_step(best)
    for path in epoch_checkpoints(run):
        if (step := _readable_step(path)) is not None:
            return path if best_step is None or step >= best_step else best
    return None if best_step is None else best


def _readable_step(path: Path) -> int | None:
    """The step of a checkpoint; None if there is no checkpoint or, after a message, if it cannot be resumed from."""
    if path.exists():
        try:
            content = load_checkpoint(path)
            if missing := [key for key in RESUME_KEYS if key not in content]:
                raise InputError(f"{path} has no {missing[0]}")
            if content.get(WITHIN_STEP):
                raise InputError(f"{path} was saved between two batches of one step")
            return int(content["global_step"])
        except InputError as error:
            say(f"resume: skipping a checkpoint: {error}", file=sys.stderr)
        except OSError as error:
            raise OSError(f"{error}; to resume from an older checkpoint, move this one away") from error
    return None


def restore_run(run: Path, checkpoint: Path | None, fingerprint: str) -> Path | None:
    """Bring a run folder back to the state of its checkpoint, and return the file to resume from. Raises InputError if
    the checkpoint was trained on different data."""
    if checkpoint is None:
        truncate_logs(run, {})
        return None
    content = load_checkpoint(checkpoint)
    metadata = Metadata.of(content)
    if metadata.data != fingerprint:
        raise InputError(f"{checkpoint} was trained on different data from that in data.data_dir; leave out --resume")
    last, best = (checkpoint.with_name(name) for name in (LAST_CKPT, BEST_CKPT))
    try:
        load_checkpoint(best)
    except InputError:
        best.unlink(missing_ok=True)
    truncate_logs(run, metadata.curves)
    is_lost = content["best"] and not best.exists()
    if is_lost:  # `TrackBest` begins again, even after a second kill
        content["best"] = None
    if is_lost or checkpoint != last:  # a complete run may not save again
        remove_predictions(last)
        save_checkpoint(content, last)
    return last
