"""`mnist-lit sweep`: try settings of a space, a `fit` each, and choose by validation.

Any number of processes, here or on other machines, share one study; each trial is a process of its own, so that what
ends one ends no other. Trains nothing itself, and never looks at the test images.
"""

import argparse
import os
import re
import shlex
from pathlib import Path

from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.experiments.space import read_space
from mnist_lit.experiments.sweep import STORAGE, check_same_study, check_space, print_trials, run_trial, write_trials
from mnist_lit.runs.folders import LOGS
from mnist_lit.runs.recipes import find_recipe, recipe_name
from mnist_lit.system.arguments import CommandParser
from mnist_lit.system.signals import DeferredSignals
from mnist_lit.system.subprocesses import launched_externally, logs_root

__all__ = ["main"]


def main(command: str, args: list[str]) -> int:
    """Run trials until the study has as many as were asked for, then print them; 1 where none of them has a score.

    Raises InputError on wrong input, Stopped once the trial that ran has saved.
    """
    given, rest = _options(command, args)
    try:
        from mnist_lit.experiments.study import Study, storage_errors
    except ModuleNotFoundError as error:
        raise InputError(f"a sweep needs {error.name}; pip install 'mnist-lit[sweep]'") from error
    if launched_externally():
        raise InputError("a sweep starts processes of its own; start it once on each machine, by itself")
    fit = ["--config", str(find_recipe(given.config)), *rest]
    name = given.study or Path(given.config).stem
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"--study: expected a name of letters, digits, -, _ and ., got {name}")
    folder = Path(logs_root(fit), LOGS, f"sweep_{name}")
    space = read_space(Path(given.space))
    settings, space = check_space(fit, space)
    with storage_errors(given.storage, opening=True):
        study = Study(name, folder, given.storage, seed=given.seed)
    with storage_errors(given.storage):
        check_same_study(study, settings, space)
        shared = study.agree("fit", shlex.join(["mnist-lit", "fit", *map(recipe_name, fit)]))
        print(f"sweep: {folder}", flush=True)
        noted = DeferredSignals()
        noted.install()  # nothing is to end between two entries of the study
        while not noted.signum and (trial := study.next(given.trials, space)):
            try:
                run_trial(trial, fit, noted, prune=given.prune)
            finally:
                trial.release()
        tried = study.tried()
        print_trials(study, tried, shared)
        write_trials(folder / "trials.csv", tried)
    if noted.signum:
        raise StoppedBySignal(noted.signum, "(the same command goes on)")
    return 0 if any(trial.state == "complete" for trial in tried) else 1


def _options(command: str, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those that are for `fit`."""
    parser = CommandParser(
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
        raise InputError("--config: expected one for a sweep")
    if given.trials < 0 or given.seed < 0:
        raise InputError("--trials and --seed: expected 0 or more")
    if given.storage and "://" not in given.storage:
        raise InputError("--storage: expected a database's address, as postgresql://user:password@host/name")
    return given, rest
