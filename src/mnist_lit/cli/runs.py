"""`mnist-lit runs`: list the runs with their scores, read from the run folders. No torch."""

import time
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import (
    CHECKPOINTS,
    CONFIG_YAML,
    FINISHED_MARK,
    LAST_CKPT,
    LOGS,
    all_runs,
    recorded_command,
    run_name,
)
from mnist_lit.runs.results import best_validation, completed_epochs, read_predictions
from mnist_lit.system.console import print_table


def summarize_run(run: Path) -> dict[str, str]:
    """A run's row of the table, by column title; missing and damaged files leave their columns empty."""
    config, last = run / CONFIG_YAML, run / CHECKPOINTS / LAST_CKPT
    begin, end = (path.stat().st_mtime if path.is_file() else None for path in (config, last))
    epochs, best, tested = completed_epochs(run), best_validation(run), read_predictions(run)
    return {
        "run": run_name(run),
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(begin)) if begin else "",
        "took": _duration(end - begin) if begin and end and end > begin else "",  # until its newest checkpoint
        "epochs": str(epochs or "") if run.joinpath(FINISHED_MARK).exists() else f"{epochs}, unfinished",
        "best val/acc": f"{best[0]:.2%} ({best[1]})" if best else "",
        "test/acc": f"{tested.acc:.2%} of {len(tested.labels):,}" if tested else "",
        "mnist-lit …": recorded_command(run).removeprefix("mnist-lit "),
    }


def main(command: str, args: list[str]) -> None:
    """Print the table, the newest run last."""
    if args and args[0] in ("-h", "--help"):
        print(f"usage: mnist-lit {command} [FOLDER]\n\nList the runs in FOLDER (default: {LOGS}) with their scores.")
        return
    if len(args) > 1 or (args and args[0].startswith("-")):
        raise InputError(f"{command} takes a folder, got {' '.join(args)}")
    root = Path(*args or [LOGS])
    if not root.is_dir():
        raise InputError(f"no folder {root}; nothing was trained here yet" if not args else f"no folder {root}")
    rows = [summarize_run(run) for run in all_runs(root)]
    if not rows:
        raise InputError(f"no run in {root}; `mnist-lit fit --config quickstart` makes one")
    print_table([*rows[0]], [[*row.values()] for row in rows])


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"
