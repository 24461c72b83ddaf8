"""`mnist-lit runs`: list the runs with their scores, read from the run folders. No torch."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError
from mnist_lit.runs.folders import (
    CONFIG_YAML,
    LOGS,
    all_runs,
    began_and_saved,
    best_checkpoint,
    group_members,
    is_finished,
    paths_named,
    recorded_command,
    recorded_validation_size,
    run_name,
    sweep_trials,
)
from mnist_lit.runs.results import best_validation, read_predictions, trained_epochs
from mnist_lit.system.console import duration, format_epochs, percent, print_table, say

FIRST_RUN = "`mnist-lit fit --config quickstart` creates one"
KEYS = """\
--json prints a list with one object per run, the newest last; null means the run has no such value:
  run, folder          its name and its folder
  started              when it began, ISO 8601 in UTC
  seconds              until its newest checkpoint
  epochs, finished     epochs trained, and whether training ran to its end
  val_accuracy         of the best validation, in [0, 1]; val_epoch is its epoch, counted from 1
  test_accuracy        of the newest test, in [0, 1]; test_images is how many images it had
  command              the command that started it"""


class RunSummary(NamedTuple):
    """What `--json` prints about a run; None where something is missing or damaged."""

    run: str
    folder: str
    started: str | None
    seconds: float | None
    epochs: float
    finished: bool
    val_accuracy: float | None
    val_epoch: int | None
    test_accuracy: float | None
    test_images: int | None
    command: str | None

    def row(self) -> dict[str, str]:
        """The run's row of the table, by column title."""
        started = self.started and datetime.fromisoformat(self.started).astimezone().strftime("%Y-%m-%d %H:%M")
        epochs, tested, images = format_epochs(self.epochs), self.test_accuracy, self.test_images or 0
        validated, best = recorded_validation_size(Path(self.folder)), self.val_accuracy
        return {
            "run": self.run,
            "started": started or "",
            "took": duration(self.seconds) if self.seconds else "",
            "epochs": f"{epochs}, unfinished" if not self.finished else epochs if self.epochs else "",
            "best val/acc": "" if best is None else f"{percent(best, validated)} ({self.val_epoch})",
            "test/acc": "" if tested is None else f"{percent(tested, images)} of {images:,}",
            "mnist-lit …": (self.command or "").removeprefix("mnist-lit "),
        }


def summarize_run(run: Path) -> RunSummary:
    """Read a run's folder."""
    begin, end = began_and_saved(run)
    epochs = float(trained_epochs(run))
    best, tested = best_validation(run), read_predictions(run)
    return RunSummary(
        run=run_name(run),
        folder=str(run),
        started=datetime.fromtimestamp(int(begin), UTC).isoformat() if begin else None,
        seconds=round(end - begin, 3) if begin and end and end > begin else None,
        epochs=int(epochs) if epochs.is_integer() else epochs,
        finished=is_finished(run),
        val_accuracy=best and best.acc,
        val_epoch=best and best.epoch,
        test_accuracy=tested and tested.acc,
        test_images=tested and len(tested.labels),
        command=recorded_command(run) or None,
    )


def main(command: str, args: list[str]) -> None:
    """Print the table or the JSON, the newest run last. Raises InputError if there is no run."""
    parser = CommandParser(command, "List the runs in a folder with their scores.", KEYS)
    folder = f"a folder of runs, a group, a sweep or a run, or its name in {LOGS} (default: {LOGS})"
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help=folder)
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    options = parser.parse_args(args)
    given = options.folder or LOGS
    root = next((path for path in paths_named(given) if path.is_dir()), Path(given))
    if root.is_file():
        raise InputError(f"expected a folder of runs, got the file {root}")
    if not root.is_dir():
        hint = (
            f"`mnist-lit runs` lists those in {LOGS}"
            if options.folder
            else f"nothing was trained here yet: {FIRST_RUN}"
        )
        raise InputError(f"no folder {root}; {hint}")
    is_run = best_checkpoint(root) or is_finished(root) or recorded_command(root)
    runs = all_runs(root) or group_members(root) or sweep_trials(root) or ([root] if is_run else [])
    summaries = [summarize_run(run) for run in runs if run.joinpath(CONFIG_YAML).exists()]  # others' have none
    if options.json:
        say(json.dumps([summary._asdict() for summary in summaries], allow_nan=False))
        return
    if not summaries:
        other = next((path for path in sorted(root.iterdir()) if sweep_trials(path) or best_checkpoint(path)), None)
        kind = "the trials of a sweep" if other and sweep_trials(other) else "a renamed run"
        hint = f"`mnist-lit runs {other}` lists {kind}" if other else FIRST_RUN
        raise InputError(f"no run in {root}; {hint}")
    rows = [summary.row() for summary in summaries]
    print_table([*rows[0]], [[*row.values()] for row in rows])
    if others := len(runs) - len(rows):
        say(f"\nskipped {others} folder{'s' * (others > 1)} without config.yaml")
