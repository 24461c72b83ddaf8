"""Begin a fit: in a new run folder, or in the one that `--resume auto` finds, see `runs.resume`."""

from pathlib import Path

from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import CONFIG_YAML, all_runs, group_members
from mnist_lit.runs.new_folder import create_named_run, new_folder, write_first_file
from mnist_lit.runs.resume import check_same_recipe, find_resumable
from mnist_lit.runs.start import RunStart
from mnist_lit.system.folder_lock import lock_folder


def begin_run(
    logs: Path, config: str, command: str, *, seed: int, group: Path | None, run: Path | None, resume: bool
) -> tuple[RunStart, FileLock]:
    """The run to resume, or a new run folder containing config.yaml; and the lock that keeps it for this process.
    config: the whole configuration as YAML. command: what was typed. group, run: the folder that a group of seeds or a
    sweep has chosen. Raises InputError if the folder cannot be made, is in use or belongs to a different recipe."""
    if group:
        check_same_recipe(group_members(group), config)
    named = run or (group and group / f"seed_{seed}")
    candidates = [named] if named else [found for found in all_runs(logs) if found.parent == logs]
    if resume and (found := find_resumable(candidates, config)):
        return found
    if named:
        folder = create_named_run(named)
        if not (lock := lock_folder(folder)):
            raise InputError(f"another process is beginning a run in {folder}")
    else:
        folder, lock = new_folder(logs)
    write_first_file(folder / CONFIG_YAML, f"# {command}\n{config}")
    return RunStart(folder), lock
