"""`mnist-lit runs`: what was trained, with scores, read from the run folders. The standard library only."""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import FINISHED_MARK, LOGS, all_runs, run_name
from mnist_lit.runs.results import best_validation, completed_epochs, read_predictions

__all__ = ["RunSummary", "main", "summarize_run"]

COMMAND = "# mnist-lit "  # how a run's config.yaml opens


class RunSummary(NamedTuple):
    """One run, as its folder tells; empty where it does not."""

    run: str
    started: str
    took: str  # until its newest checkpoint
    epochs: str  # with "unfinished" where training did not come to its end
    best_val: str  # accuracy, and the epoch it was reached in
    test: str  # accuracy, and of how many images
    command: str


def summarize_run(run: Path) -> RunSummary:
    """Read a run folder; raises nothing where files are missing or damaged."""
    config, last = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    begin, end = (path.stat().st_mtime if path.is_file() else None for path in (config, last))
    epochs, best, tested = completed_epochs(run), best_validation(run), read_predictions(run)
    line = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        line = config.read_text(encoding="utf-8").partition("\n")[0]
    return RunSummary(
        run_name(run),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(begin)) if begin else "",
        _duration(end - begin) if begin and end and end > begin else "",
        str(epochs or "") if run.joinpath(FINISHED_MARK).exists() else f"{epochs}, unfinished",
        f"{best[0]:.2%} ({best[1]})" if best else "",
        f"{tested.acc:.2%} of {len(tested.labels):,}" if tested else "",
        line.removeprefix(COMMAND) if line.startswith(COMMAND) else "",
    )


def main(command: str, args: list[str]) -> None:
    """Print the table, the newest run last."""
    if args and args[0] in ("-h", "--help"):
        print(f"usage: mnist-lit {command} [FOLDER]\n\nWhat was trained in FOLDER (default: {LOGS}), with scores.")
        return
    if len(args) > 1 or (args and args[0].startswith("-")):
        raise InputError(f"{command} takes a folder, got {' '.join(args)}")
    root = Path(*args or [LOGS])
    if not root.is_dir():
        raise InputError(f"no folder {root}; nothing was trained here yet" if not args else f"no folder {root}")
    table = [summarize_run(run) for run in all_runs(root)]
    if not table:
        raise InputError(f"no run in {root}; `mnist-lit fit --config quickstart` makes one")
    head = RunSummary("run", "started", "took", "epochs", "best val/acc", "test/acc", "mnist-lit …")
    widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
    for row in (head, *table):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"
