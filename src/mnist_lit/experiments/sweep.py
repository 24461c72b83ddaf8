"""`mnist-lit sweep`: try settings of a space, a `fit` each, and choose by validation.

Any number of processes, here or on other machines, share one study; each trial is a process of its own, so that what
ends one ends no other. Trains nothing itself, and never looks at the test images.
"""

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.experiments.space import Range, Space, to_arguments
from mnist_lit.runs.recipes import recipe_options
from mnist_lit.runs.results import Validation, read_validations
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.signals import DeferredSignals
from mnist_lit.system.subprocesses import start_command, stop_command

if TYPE_CHECKING:
    from mnist_lit.experiments.study import OwnTrial, Study, TrialResult

__all__ = ["STORAGE", "check_same_study", "check_space", "print_trials", "run_trial", "write_trials"]

STORAGE = "MNIST_LIT_STORAGE"  # the environment variable of a database address: not visible in the process list
POLL = 0.5  # seconds between two looks at a trial
NOT_OURS = ("seeds", "group", "run", "resume", "ckpt_path", "print_config", "trainer.fast_dev_run", "trainer.logger")


def check_space(fit: Sequence[str], space: Space) -> tuple[dict[str, Any], Space]:
    """The settings that all trials share, without their places, and the space with numbers of the options' types.

    Each value of the space that its file names is shown to the parser, which looks at all of them. Raises InputError
    where `fit` would refuse its options.
    """
    for option in (*NOT_OURS, *space):
        if any(arg.partition("=")[0] == f"--{option}" for arg in fit):
            raise InputError(
                f"--{option} does not go with this sweep" + (": it is in the space" if option in space else "")
            )
    if taken := {*NOT_OURS, "config"} & {*space}:
        raise InputError(f"{min(taken)} cannot be in a space")
    shown = [
        text
        for name, values in space.items()
        for value in ((values.low, values.high) if isinstance(values, Range) else values)
        for text in to_arguments({name: value})
    ]
    child = start_command(
        "fit", [*fit, *shown, "--print_config"], env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = child.communicate()
    except StoppedBySignal as stopped:
        stop_command(child, stopped.signum)
        raise
    if child.returncode:
        raise InputError(_last_line(err.decode(errors="replace")).removeprefix("mnist-lit: "))
    settings: dict[str, Any] = yaml.safe_load(out)
    if not settings["data"]["val_size"]:
        raise InputError("a sweep chooses by validation, and this recipe sets nothing aside; --data.val_size 5000 does")
    options = recipe_options(settings)
    space = {name: _typed(values, options.get(name)) for name, values in space.items()}
    return {name: value for name, value in options.items() if name not in space}, space


def _typed(values: Range | list[Any], taken: Any) -> Range | list[Any]:
    """Bounds as floats where the option made one of what it was shown: from 0 to 1 is more than these two there."""
    if isinstance(values, Range) and isinstance(taken, float):
        return values._replace(low=float(values.low), high=float(values.high))
    return values


def check_same_study(study: "Study", settings: Mapping[str, Any], space: Space) -> None:
    """Raise InputError where the study was begun with other settings: its scores could not be compared."""
    plain = {name: values._asdict() if isinstance(values, Range) else values for name, values in space.items()}
    for key, given in (("space", plain), ("settings", settings)):
        mine = json.loads(json.dumps(given))  # as the study gives it back
        theirs = study.agree(key, mine)
        for name in sorted({*mine, *theirs}):
            before, now = theirs.get(name), mine.get(name)
            if json.dumps(before) != json.dumps(now):  # 1 is not 1.0: it says which numbers lie between
                raise InputError(f"the study was begun with {name} {before}, not {now}; --study NAME begins another")


def run_trial(trial: "OwnTrial", fit: Sequence[str], noted: DeferredSignals, *, prune: bool) -> None:
    """Run one trial, or go on with it, and tell how it ended."""
    options = to_arguments(trial.settings)
    print(f"trial {trial.number}: {shlex.join(options)}", flush=True)
    with tempfile.TemporaryFile() as said:
        place = ["--run", str(trial.run), "--resume", "auto"]
        child = start_command(
            "fit",
            [*fit, *options, *place],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # Ctrl-C comes from us alone
        )
        pruned = False
        try:
            while child.poll() is None and not noted.signum and not pruned:
                pruned = trial.follow(read_validations(trial.run)) and prune
                try:
                    child.wait(POLL)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if child.poll() is None:
                stop_command(child, noted.signum or signal.SIGTERM)
        validations = read_validations(trial.run)
        trial.follow(validations)
        said.seek(0)
        text = said.read().decode(errors="replace")
    best = max(validations, key=Validation.rank, default=None)
    score = f"best val/acc {best.acc:.2%} (epoch {best.epoch})" if best else "no validation"
    if child.returncode == 0 and best:
        trial.complete(best.acc)
        outcome = score
    elif noted.signum:
        trial.put_back()
        outcome = "stopped"
    elif pruned:
        trial.prune()
        outcome = f"pruned, {score}"
    else:
        reason = _reason(child.returncode, text)
        trial.fail(reason)
        outcome = f"failed: {reason}"
        if "Traceback" in text:
            print(text, file=sys.stderr)
    print(f"trial {trial.number}: {outcome}", flush=True)


def _reason(code: int, said: str) -> str:
    """Why a fit failed, in one line."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return _last_line(said).removeprefix("mnist-lit: ") or ("no validation" if code == 0 else f"exit code {code}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _environment() -> dict[str, str]:
    """A trial's environment: ours, without the database's address."""
    return {name: value for name, value in os.environ.items() if name != STORAGE}


def print_trials(study: "Study", tried: Sequence["TrialResult"], shared: str) -> None:
    """The trials as a table, the best first, and how to train the best settings."""
    names = list(dict.fromkeys(name for trial in tried for name in trial.settings))
    rows = [["trial", "state", *names, "best val/acc", "epoch", "run"]]
    for trial in tried:
        settings = (
            f"{value:.4g}" if isinstance(value, float) else str(value) for value in map(trial.settings.get, names)
        )
        score = [f"{trial.best.acc:.2%}", str(trial.best.epoch)] if trial.best else ["", ""]
        where = study.at(trial) + (f"  ({trial.reason})" if trial.reason else "")
        rows.append([str(trial.number), trial.state, *settings, *score, where])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if best := next((trial for trial in tried if trial.state == "complete"), None):
        print(f"\n  {'table':<8}{study.folder / 'trials.csv'}")
        print(f"  {'curves':<8}tensorboard --logdir {shlex.quote(str(study.folder))}")
        print(f"  {'best':<8}{shared} {shlex.join(to_arguments(best.settings))}")


def write_trials(path: Path, tried: Sequence["TrialResult"]) -> None:
    """The same for programs: settings in full."""
    names = list(dict.fromkeys(name for trial in tried for name in trial.settings))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", "state", *names, "val_acc", "val_loss", "epoch", "reason"])
    for trial in tried:
        best = trial.best or ("", "", "")
        writer.writerow([trial.number, trial.state, *map(trial.settings.get, names), *best, trial.reason])
    write_atomic(path, text.getvalue().encode())
