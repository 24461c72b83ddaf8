"""A sweep's trials: check the search space, run a trial as a `fit` subprocess, print and save all results. No torch."""

import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from subprocess import DEVNULL, TimeoutExpired
from typing import TYPE_CHECKING, Any

import yaml

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range, Space, to_arguments
from mnist_lit.runs.recipes import INVOCATION_OPTIONS, recipe_options
from mnist_lit.runs.results import Validation, read_validations
from mnist_lit.system.arguments import has_option
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.console import percent, print_fields, print_table, say
from mnist_lit.system.csv_file import csv_text
from mnist_lit.system.signals import DeferredSignals
from mnist_lit.system.subprocesses import last_line, run_command, start_command, stop_commands

if TYPE_CHECKING:
    from mnist_lit.experiments.study import RunningTrial, Study, TrialResult

STORAGE = "MNIST_LIT_STORAGE"  # the environment variable for a database URL: process lists do not show it
TRIALS_CSV = "trials.csv"
POLL = 0.5  # seconds between checks of a trial
RESERVED = (*INVOCATION_OPTIONS, "print_config", "trainer.fast_dev_run", "trainer.logger")


def check_space(fit: Sequence[str], space: Space) -> tuple[dict[str, Any], Space]:
    """The settings that all trials share, without the machine's, and the space with bounds of the options' types.
    Lets `fit`'s own parser check every value of the space. Raises InputError if `fit` would refuse any."""
    for option in (*RESERVED, *space):
        if has_option(fit, f"--{option}"):
            reason = ": it is in the space" if option in space else ""
            raise InputError(f"--{option} cannot be combined with this sweep{reason}")
    if reserved := {*RESERVED, "config"} & {*space}:
        raise InputError(f"{min(reserved)} cannot be in a space")
    values = {name: given[:2] if isinstance(given, Range) else given for name, given in space.items()}
    every_value = [text for name in values for value in values[name] for text in to_arguments({name: value})]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        args = [*fit, *every_value, "--print_config"]
        code = run_command("fit", args, env=_environment(), stdout=output, stderr=errors)
        errors.seek(0)
        output.seek(0)
        if code:
            raise InputError(last_line(errors.read()))
        settings: dict[str, Any] = yaml.safe_load(output)
    if not settings["data"]["val_size"] and settings["data"].get("dataset") != "folder":  # which may have a folder val
        raise InputError("a sweep chooses by validation, which this recipe turns off; add --data.val_size 5000")
    options, typed = recipe_options(settings), {**space}
    for name, given in space.items():
        if isinstance(given, Range) and isinstance(options.get(name), float):  # {low: 0, high: 1} is not only 0 and 1
            typed[name] = given._replace(low=float(given.low), high=float(given.high))
    return {name: value for name, value in options.items() if name not in space}, typed


def check_same_study(study: "Study", settings: Mapping[str, Any], space: Space) -> None:
    """Raise InputError if the study was begun with other settings, since their scores could not be compared."""
    plain = {name: given._asdict() if isinstance(given, Range) else given for name, given in space.items()}
    for key, value in (("space", plain), ("settings", settings)):
        mine = json.loads(json.dumps(value))  # the study stores JSON
        theirs = study.setdefault(key, mine)
        for name in sorted({*mine, *theirs}):
            before, now = theirs.get(name), mine.get(name)
            if json.dumps(before) != json.dumps(now):  # 1 and 1.0 differ: a range of integers, a range of floats
                given = "which is not set here" if now is None else f"not {now}"
                begun = f"without {name}, which is {now} here" if before is None else f"with {name} {before}, {given}"
                raise InputError(f"the study was begun {begun}; use --study NAME for another")


def run_trial(trial: "RunningTrial", fit: Sequence[str], signals: DeferredSignals, *, prune: bool) -> None:
    """Start or continue one trial, and record how it ends."""
    options = to_arguments(trial.settings)
    say(f"trial {trial.number}: {shlex.join(options)}", flush=True)
    with tempfile.TemporaryFile() as errors:
        args = [*fit, *options, "--run", str(trial.run), "--resume", "auto"]
        streams = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": errors}
        # In a new session, so that the terminal's Ctrl-C reaches only the sweep, which forwards it.
        process = start_command("fit", args, env=_environment(), start_new_session=True, **streams)
        pruned = False
        try:
            while process.poll() is None and not signals.signum and not pruned:
                pruned = trial.report(read_validations(trial.run)) and prune
                with suppress(TimeoutExpired):
                    process.wait(POLL)
        finally:
            if process.poll() is None:
                stop_commands([process], signals.signum or signal.SIGTERM)
        errors.seek(0)
        printed = errors.read()
    validations = read_validations(trial.run)
    trial.report(validations)
    best = max(validations, key=Validation.rank, default=None)
    score = f"best val/acc {percent(best.acc)} (epoch {best.epoch})" if best else "no validation"
    code, reason = process.returncode, ""
    if code == 0 and best:
        state, outcome = "complete", score
    elif signals.signum:
        state, outcome = "waiting", "stopped"
    elif pruned:
        state, outcome = "pruned", f"pruned, {score}"
    else:
        reason = last_line(printed) or (f"exit code {code}" if code else "no validation")
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else reason
        state, outcome = "failed", f"failed: {reason}"
        if b"Traceback" in printed:
            say(printed.decode(errors="replace"), file=sys.stderr)
    trial.finish(state, acc=best.acc if best and state == "complete" else None, reason=reason)
    say(f"trial {trial.number}: {outcome}", flush=True)


def _environment() -> dict[str, str]:  # a trial needs no database password
    return {name: value for name, value in os.environ.items() if name != STORAGE}


def report_trials(study: "Study", trials: Sequence["TrialResult"], fit_command: str) -> None:
    """Print the trials, best first, and how to train with the best settings; write `trials.csv` with all digits."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    printed: list[list[str]] = []
    written: list[list[Any]] = [["trial", "state", *names, "val_acc", "val_loss", "epoch", "reason"]]
    for trial in trials:
        values = [trial.settings.get(name) for name in names]
        texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        score = [percent(trial.best.acc), str(trial.best.epoch)] if trial.best else ["", ""]
        run = trial.run + (f"  ({trial.reason})" if trial.reason else "")
        printed.append([str(trial.number), trial.state, *texts, *score, run])
        written.append([trial.number, trial.state, *values, *(trial.best or ("", "", "")), trial.reason])
    say()
    print_table(["trial", "state", *names, "best val/acc", "epoch", "run"], printed)
    if best := next((trial for trial in trials if trial.state == "complete"), None):
        curves = f"tensorboard --logdir {shlex.quote(str(study.folder))}"
        command = f"{fit_command} {shlex.join(to_arguments(best.settings))}"
        print_fields({"table": str(study.folder / TRIALS_CSV), "curves": curves, "best": command})
    write_atomic(study.folder / TRIALS_CSV, csv_text(written).encode())
