"""Where a fit begins: in a fresh run folder, or in the one that `--resume auto` finds."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mnist_lit.runs.folders import all_runs, create_named_run, create_run, group_members
from mnist_lit.runs.resume import check_same_recipe, find_resumable, lock_run
from mnist_lit.system.atomic_file import write_atomic


@dataclass
class RunStart:
    """Where a fit begins. Rank 0 decides; the other processes learn it once they can communicate."""

    run: Path | None = None  # the run folder; None: nothing is kept
    checkpoint: Path | None = None  # to resume from; None: from the start
    continues: bool = False  # in an existing folder, with `--resume auto`
    finished: bool = False  # nothing is left to do
    has_trained: bool = False  # whether this process has taken a step

    @property
    def is_fresh(self) -> bool:
        """Whether the run folder was made for this fit and no step has been taken in it."""
        return self.run is not None and not (self.continues or self.finished or self.has_trained)


def begin_run(
    logs: Path, config: str, command: str, *, seed: int, group: Path | None, run: Path | None, resume: bool
) -> tuple[RunStart, FileLock | None]:
    """The run to resume, or a new run folder containing config.yaml; and the lock that keeps it for this process.

    config: the run's whole configuration as YAML. command: what was typed. group, run: the folder that a group of seeds
    or a sweep has chosen. Raises InputError if the folder cannot be made or belongs to another recipe.
    """
    if run:
        candidates = [run]
    else:
        candidates = group_members(group) if group else [found for found in all_runs(logs) if found.parent == logs]
    if group:
        check_same_recipe(candidates, config)
    if resume and (found := find_resumable(candidates, config)):
        start = RunStart(found.run, found.checkpoint, continues=not found.finished, finished=found.finished)
        return start, found.lock
    named = run or (group and group / f"seed_{seed}")
    folder = create_named_run(named) if named else create_run(logs)
    lock = lock_run(folder)
    write_atomic(folder / "config.yaml", f"# {command}\n{config}".encode())
    return RunStart(folder), lock


def discard_run(start: RunStart) -> None:
    """Remove a fresh run folder when the fit is refused before its first step."""
    if start.run and start.is_fresh:
        shutil.rmtree(start.run, ignore_errors=True)
        with suppress(OSError):
            start.run.parent.rmdir()  # if it is empty
