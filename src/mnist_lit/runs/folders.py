"""Run folders: name a fresh one, find the newest, say where a fit begins. The standard library only.

lightning_logs/version_N/      one run; or a group, whose runs seed_0/, seed_1/ … differ in their seeds alone
    config.yaml            the command, and the whole configuration of the run
    metrics.csv            scalars; events.out.tfevents.* hold the same for TensorBoard
    checkpoints/best.ckpt  the best by validation; without validation there is none, and last.ckpt counts
    checkpoints/last.ckpt  the newest, and previous.ckpt, the one before it
    checkpoints/epoch_N.ckpt  each epoch's, with `keep_epochs`
    predictions.csv        written by `mnist-lit test`, as are TensorBoard's scalars in test/
    report.html            written by `mnist-lit report`; a group's lies in its own folder
    finished               an empty file: training came to its end
"""

import contextlib
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.system.arguments import did_you_mean

__all__ = [
    "FINISHED_MARK",
    "LAST_CKPT",
    "LOGS",
    "PREVIOUS_CKPT",
    "all_runs",
    "best_checkpoint",
    "create_named_run",
    "create_run",
    "find_run",
    "finished_members",
    "group_members",
    "newest_checkpoint",
    "run_name",
    "run_number",
    "run_of_checkpoint",
]

LOGS, FINISHED_MARK = "lightning_logs", "finished"
LAST_CKPT, PREVIOUS_CKPT = "last.ckpt", "previous.ckpt"


def create_run(root: Path) -> Path:
    """Make and return the next `version_N` under `root`; no two processes get the same.

    Raises InputError where no folder can be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        latest = max((run_number(run) for run in root.iterdir()), default=-1)
        while True:
            latest += 1
            with contextlib.suppress(FileExistsError):
                run = root / f"version_{latest}"
                run.mkdir()
                return run
    except OSError as error:
        raise InputError(f"cannot make a run folder in {root}: {error.strerror}") from error


def create_named_run(run: Path) -> Path:
    """Make and return this run folder, or the one that a kill left empty.

    Raises InputError where there is such a run, or no folder can be made.
    """
    if run.joinpath("config.yaml").exists():
        raise InputError(f"{run} is there; --resume auto goes on with it, if no other process holds it")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make a run folder in {run.parent}: {error.strerror}") from error
    return run


def best_checkpoint(run: Path) -> Path | None:
    """A run's best checkpoint, or its last where nothing was validated, or None."""
    paths = (run / "checkpoints" / name for name in ("best.ckpt", LAST_CKPT, PREVIOUS_CKPT))
    return next((path for path in paths if path.is_file()), None)


def all_runs(root: Path) -> list[Path]:
    """The run folders under `root`, the oldest first, a group's by their seeds."""
    found = sorted((run for run in root.glob("version_*") if run_number(run) >= 0), key=run_number)
    return [run for folder in found for run in group_members(folder) or [folder]]


def group_members(group: Path) -> list[Path]:
    """A group's runs by their seeds; none where the folder is no group."""
    return sorted(
        (run for run in group.glob("seed_*") if run_number(run, "seed") >= 0), key=lambda run: run_number(run, "seed")
    )


def find_run(given: str) -> Path:
    """The run or group at a path, or of that name in the usual place. Raises InputError where there is neither."""
    for path in (Path(given), Path(LOGS, given)):
        if path.is_dir() and (group_members(path) or best_checkpoint(path)):
            return path
    known = {run_name(run): run for run in all_runs(Path(LOGS))}
    known |= {run.parent.name: run.parent for run in known.values() if run.parent.name != LOGS}
    raise InputError(f"no run with a checkpoint, and no group of such, at {given}{did_you_mean(given, known)}")


def finished_members(group: Path) -> list[Path]:
    """A group's runs, once all of them are trained. Raises InputError where one is not: half a run is no seed."""
    found = group_members(group)
    for run in found:
        if not run.joinpath(FINISHED_MARK).exists() or not best_checkpoint(run):
            raise InputError(f"{run} is unfinished; the command that began the group goes on with --resume auto")
    return found


def newest_checkpoint(root: Path) -> Path:
    """The best checkpoint of the newest run that has one. Raises InputError where nothing was trained."""
    path = next((path for path in map(best_checkpoint, reversed(all_runs(root))) if path), None)
    if path is None:
        raise InputError(f"nothing was trained in {root}; run `mnist-lit fit` first, or name a model")
    return path


def run_name(run: Path) -> str:
    """What a run is called among all: `version_7`, or `version_7/seed_0` in a group, `sweep_x/trial_3` in a sweep."""
    inside = max(run_number(run, "seed"), run_number(run, "trial")) >= 0
    return f"{run.parent.name}/{run.name}" if inside else run.name


def run_of_checkpoint(checkpoint: Path) -> Path:
    """The folder that holds what belongs to a checkpoint: its run's, or else its own."""
    folder = checkpoint.parent if checkpoint.parent.name else checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def run_number(run: Path, kind: str = "version") -> int:
    """The N of `version_N`, or of another kind; -1 of other names."""
    name, _, digits = run.name.partition("_")
    return int(digits) if name == kind and digits.isdecimal() else -1
