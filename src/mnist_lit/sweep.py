"""`mnist-lit sweep`: try settings of a space, a `fit` each, and choose by validation.

Any number of processes, here or on other machines, share one study; each trial is a process of its own, so that what
ends one ends no other. Trains nothing itself, and never looks at the test images.
"""

import argparse
import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mnist_lit import children, recipes, records, runs
from mnist_lit import space as spaces
from mnist_lit.errors import InputError, Stopped
from mnist_lit.files import write_whole
from mnist_lit.records import Validation
from mnist_lit.signals import Noted
from mnist_lit.space import Between, Space
from mnist_lit.suggest import Parser

if TYPE_CHECKING:
    from mnist_lit.study import Mine, Study, Tried

__all__ = ["main"]

STORAGE = "MNIST_LIT_STORAGE"  # an environment variable is not in the list of processes, nor in a shell's history
POLL = 0.5  # seconds between two looks at a trial
NOT_OURS = ("seeds", "group", "run", "resume", "ckpt_path", "print_config", "trainer.fast_dev_run", "trainer.logger")


def main(command: str, args: list[str]) -> int:
    """Run trials until the study has as many as were asked for, then print them; 1 where none of them has a score.

    Raises InputError on wrong input, Stopped once the trial that ran has saved.
    """
    given, rest = _options(command, args)
    try:
        from mnist_lit.study import Study, reported
    except ModuleNotFoundError as error:
        raise InputError(f"a sweep needs {error.name}; pip install 'mnist-lit[sweep]'") from error
    if children.launched():
        raise InputError("a sweep starts processes of its own; start it once on each machine, by itself")
    fit = ["--config", str(recipes.find(given.config)), *rest]
    name = given.study or Path(given.config).stem
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"--study: want a name of letters, digits, -, _ and ., got {name}")
    folder = Path(children.logs_root(fit), runs.LOGS, f"sweep_{name}")
    space = spaces.read(Path(given.space))
    settings, space = _checked(fit, space)
    with reported(given.storage, opening=True):
        study = Study(name, folder, given.storage, seed=given.seed)
    with reported(given.storage):
        _agree(study, settings, space)
        shared = study.agree("fit", shlex.join(["mnist-lit", "fit", *map(recipes.name, fit)]))
        print(f"sweep: {folder}", flush=True)
        noted = Noted()
        noted.install()  # nothing is to end between two entries of the study
        while not noted.signum and (trial := study.next(given.trials, space)):
            try:
                _try(trial, fit, noted, prune=given.prune)
            finally:
                trial.release()
        tried = study.tried()
        _print(study, tried, shared)
        _write(folder / "trials.csv", tried)
    if noted.signum:
        raise Stopped(noted.signum, "(the same command goes on)")
    return 0 if any(trial.state == "complete" for trial in tried) else 1


def _options(command: str, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those that are for `fit`."""
    parser = Parser(
        command,
        "Try settings, a fit each, and choose by the best val/acc. The same command again goes on; several at once, "
        "also on other machines, share the study. Other options are for fit.",
    )
    parser.usage = f"mnist-lit {command} --config NAME --space FILE [options] [--section.option VALUE of fit …]"
    parser.add_argument("--config", required=True, metavar="NAME", help="a recipe's name, or a config's path")
    parser.add_argument("--space", required=True, metavar="FILE", help="YAML: which options to try, and their values")
    parser.add_argument("--trials", type=int, default=20, help="of the study, over all processes; 0 lists; default: 20")
    parser.add_argument("--study", metavar="NAME", help="default: the config's name")
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=os.environ.get(STORAGE, ""),
        help=f"a database's address, better given as the variable {STORAGE}; default: a journal in the study's folder",
    )
    prune = "end trials early that are worse than half of the others; default: yes"
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True, help=prune)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of settings, not of the fits; default: 0")
    given, rest = parser.parse_known_args(args)
    if sum(arg.partition("=")[0] == "--config" for arg in args) > 1:
        raise InputError("--config: want one for a sweep")
    if given.trials < 0 or given.seed < 0:
        raise InputError("--trials and --seed: want 0 or more")
    if given.storage and "://" not in given.storage:
        raise InputError("--storage: want a database's address, as postgresql://user:password@host/name")
    return given, rest


def _checked(fit: Sequence[str], space: Space) -> tuple[dict[str, Any], Space]:
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
        for value in ((values.low, values.high) if isinstance(values, Between) else values)
        for text in spaces.arguments({name: value})
    ]
    child = children.start(
        "fit", [*fit, *shown, "--print_config"], env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = child.communicate()
    except Stopped as stopped:
        children.end(child, stopped.signum)
        raise
    if child.returncode:
        raise InputError(_last_line(err.decode(errors="replace")).removeprefix("mnist-lit: "))
    settings: dict[str, Any] = yaml.safe_load(out)
    if not settings["data"]["val_size"]:
        raise InputError("a sweep chooses by validation, and this recipe sets nothing aside; --data.val_size 5000 does")
    options = recipes.options(settings)
    space = {name: _typed(values, options.get(name)) for name, values in space.items()}
    return {name: value for name, value in options.items() if name not in space}, space


def _typed(values: Between | list[Any], taken: Any) -> Between | list[Any]:
    """Bounds as floats where the option made one of what it was shown: from 0 to 1 is more than these two there."""
    if isinstance(values, Between) and isinstance(taken, float):
        return values._replace(low=float(values.low), high=float(values.high))
    return values


def _agree(study: "Study", settings: Mapping[str, Any], space: Space) -> None:
    """Raise InputError where the study was begun with other settings: its scores could not be compared."""
    plain = {name: values._asdict() if isinstance(values, Between) else values for name, values in space.items()}
    for key, given in (("space", plain), ("settings", settings)):
        mine = json.loads(json.dumps(given))  # as the study gives it back
        theirs = study.agree(key, mine)
        for name in sorted({*mine, *theirs}):
            before, now = theirs.get(name), mine.get(name)
            if json.dumps(before) != json.dumps(now):  # 1 is not 1.0: it says which numbers lie between
                raise InputError(f"the study was begun with {name} {before}, not {now}; --study NAME begins another")


def _try(trial: "Mine", fit: Sequence[str], noted: Noted, *, prune: bool) -> None:
    """Run one trial, or go on with it, and tell how it ended."""
    options = spaces.arguments(trial.settings)
    print(f"trial {trial.number}: {shlex.join(options)}", flush=True)
    with tempfile.TemporaryFile() as said:
        place = ["--run", str(trial.run), "--resume", "auto"]
        child = children.start(
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
                pruned = trial.follow(records.validations(trial.run)) and prune
                try:
                    child.wait(POLL)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if child.poll() is None:
                children.end(child, noted.signum or signal.SIGTERM)
        validations = records.validations(trial.run)
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


def _print(study: "Study", tried: Sequence["Tried"], shared: str) -> None:
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
        print(f"  {'best':<8}{shared} {shlex.join(spaces.arguments(best.settings))}")


def _write(path: Path, tried: Sequence["Tried"]) -> None:
    """The same for programs: settings in full."""
    names = list(dict.fromkeys(name for trial in tried for name in trial.settings))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", "state", *names, "val_acc", "val_loss", "epoch", "reason"])
    for trial in tried:
        best = trial.best or ("", "", "")
        writer.writerow([trial.number, trial.state, *map(trial.settings.get, names), *best, trial.reason])
    write_whole(path, text.getvalue().encode())
