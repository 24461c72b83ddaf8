"""Where a fit begins: in a new run folder, or in the one that `--resume auto` finds, see `runs.resume`."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs import folders
from mnist_lit.runs.new_folder import create_named_run, new_folder, write_first_file
from mnist_lit.runs.resume import check_same_recipe, find_resumable
from mnist_lit.system.folder_lock import lock_folder


@dataclass
class RunStart:
    """Where a fit begins. Rank 0 decides; the other processes learn it once they can communicate."""

    run: Path | None = None  # the run folder; None: no files are written
    checkpoint: Path | None = None  # to resume from; None: from the start
    continues: bool = False  # in an existing folder, with `--resume auto`
    finished: bool = False  # nothing left to do
    has_trained: bool = False  # whether this process has trained on a batch


def begin_run(
    logs: Path, config: str, command: str, *, seed: int, group: Path | None, run: Path | None, resume: bool
) -> tuple[RunStart, FileLock]:
    """The run to resume, or a new run folder containing config.yaml; and the lock that keeps it for this process.
    config: the whole configuration as YAML. command: what was typed. group, run: the folder that a group of seeds or a
    sweep has chosen. Raises InputError if the folder cannot be made, is in use or belongs to a different recipe."""
    ungrouped = [found for found in folders.all_runs(logs) if found.parent == logs]
    candidates = [run] if run else [group / f"seed_{seed}"] if group else ungrouped
    if group:
        check_same_recipe(folders.group_members(group), config)
    if resume and (found := find_resumable(candidates, config)):
        folder, checkpoint, finished, held = found
        return RunStart(folder, checkpoint, continues=not finished, finished=finished), held
    if named := run or (group and group / f"seed_{seed}"):
        folder = create_named_run(named)
        if not (lock := lock_folder(folder)):
            raise InputError(f"another process is beginning a run in {folder}")
    else:
        folder, lock = new_folder(logs)
    write_first_file(folder / folders.CONFIG_YAML, f"# {command}\n{config}")
    return RunStart(folder), lock


def discard_run(start: RunStart) -> None:
    """Remove the run folder of a fit that was refused, if it was made for this fit, no step was taken in it and it
    holds no checkpoint: another process may have trained."""
    is_unused = not (start.continues or start.finished or start.has_trained)
    if start.run and is_unused and not any(start.run.rglob("*.ckpt")):
        shutil.rmtree(start.run, ignore_errors=True)
        with suppress(OSError):
            start.run.parent.rmdir()  # if it is empty
