"""Run folders: name a fresh one, find the newest. The standard library only.

lightning_logs/version_N/
    config.yaml            the whole configuration of the run
    metrics.csv            scalars; events.out.tfevents.* hold the same for TensorBoard
    checkpoints/best.ckpt  the best by validation; without validation there is none, and last.ckpt counts
    checkpoints/last.ckpt  the newest
    predictions.csv        written by `mnist-lit test`
"""

import itertools
from pathlib import Path

__all__ = ["LOGS", "best", "fresh", "newest", "run_of"]

LOGS = "lightning_logs"


def fresh(root: Path) -> Path:
    """Make and return the next `version_N` under `root`; no two processes get the same."""
    root.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(max((_number(run) for run in root.iterdir()), default=-1) + 1):
        run = root / f"version_{number}"
        try:
            run.mkdir()
        except FileExistsError:
            continue
        return run
    raise AssertionError("counting never ends")


def best(run: Path) -> Path | None:
    """A run's best checkpoint, or its last where nothing was validated, or None."""
    paths = (run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    return next((path for path in paths if path.is_file()), None)


def newest(root: Path) -> Path | None:
    """The best checkpoint of the newest run that has one."""
    if not root.is_dir():
        return None
    runs = sorted((run for run in root.iterdir() if _number(run) >= 0), key=_number, reverse=True)
    return next((path for path in map(best, runs) if path), None)


def run_of(checkpoint: Path) -> Path:
    """The folder that holds what belongs to a checkpoint: its run's, or else its own."""
    folder = checkpoint.parent if checkpoint.parent.name else checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _number(run: Path) -> int:
    name, _, number = run.name.partition("_")
    return int(number) if name == "version" and number.isdecimal() else -1
