"""`mnist-lit sweep`: try settings from a search space, one `fit` each, and choose by validation accuracy. Each trial is
a subprocess, so a crash ends only that trial. A sweep never looks at the test images."""

import argparse
import os
import re
from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError, StoppedBySignal, require
from mnist_lit.experiments.space import read_space
from mnist_lit.experiments.sweep import STORAGE, check_same_study, check_space, report_trials, run_trial
from mnist_lit.runs.folders import logs_folder
from mnist_lit.runs.recipes import command_line, find_recipe
from mnist_lit.system.arguments import fit_option
from mnist_lit.system.console import say
from mnist_lit.system.signals import DeferredSignals
from mnist_lit.system.subprocesses import launched_externally


def main(command: str, args: list[str]) -> int:
    """Run trials until the study has enough of them, then print them; returns 1 if none has a score. Raises InputError
    on wrong input, StoppedBySignal once the running trial has saved."""
    options, rest = _parse(command, args)
    try:
        from mnist_lit.experiments.study import Study, storage_errors
    except ModuleNotFoundError as error:
        raise InputError(f"a sweep needs {error.name}; pip install 'mnist-lit[sweep]'") from error
    if launched_externally():
        raise InputError("a sweep starts its own processes; start it without a launcher, once on each machine")
    fit = ["--config", str(find_recipe(options.config)), *rest]
    fit_command = command_line(["fit", *fit])
    name = options.study or Path(options.config).stem
    require("--study", name, "a name of letters, digits, -, _ and .", bool(re.fullmatch(r"[\w.-]+", name)))
    folder = logs_folder(fit_option(fit, "trainer.default_root_dir")) / f"sweep_{name}"
    settings, space = check_space(fit, read_space(Path(options.space)))
    with storage_errors(options.storage, opening=True):
        study = Study(name, folder, options.storage, seed=options.seed)
    with storage_errors(options.storage):
        check_same_study(study, settings, space)
        say(f"sweep: {folder}", flush=True)
        signals = DeferredSignals()
        signals.install()  # a signal must not interrupt an update of the study
        while not signals.signum and (trial := study.next(options.trials, space)):
            try:
                run_trial(trial, fit, signals, prune=options.prune)
            finally:
                trial.lock.release()
        trials = study.results(space)
        if not signals.signum and len(trials) < options.trials and study.is_exhausted(space):
            say(
                f"sweep: every combination of the space has its trial, so there are {len(trials)}, not {options.trials}"
            )
        report_trials(study, trials, fit_command)
    if signals.signum:
        raise StoppedBySignal(signals.signum, "(repeat the command to continue)")
    return 0 if any(trial.state == "complete" for trial in trials) else 1


def _parse(command: str, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own options, and the arguments for `fit`."""
    about = """Try combinations of settings, one fit each, and choose the one with the best val/acc. Repeat the command
    to continue; run it several times at once, also on other machines, to share the study. Other options go to `fit`."""
    parser = CommandParser(command, about)
    parser.usage = f"mnist-lit {command} --config NAME --space FILE [options] [--section.option VALUE for fit …]"
    parser.add_argument("--config", required=True, metavar="NAME", help="a recipe's name, or a config's path")
    parser.add_argument("--space", required=True, metavar="FILE", help="YAML: the options to try and their values")
    trials = "total trials in the study, over all processes; 0 just lists them (default: %(default)s)"
    parser.add_argument("--trials", type=int, default=20, help=trials)
    parser.add_argument("--study", metavar="NAME", help="name of the study and its folder (default: the config's name)")
    storage = (
        f"a database URL, or set {STORAGE} to keep its password private (default: a journal in the study's folder)"
    )
    parser.add_argument("--storage", metavar="URL", default=os.environ.get(STORAGE, ""), help=storage)
    prune = "stop trials early that fall below the median (default: yes)"
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True, help=prune)
    seed = "seed for choosing settings, not for training (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, help=seed)
    options, rest = parser.parse_before_fit(args)
    if sum(arg.partition("=")[0] == "--config" for arg in args) > 1:
        raise InputError("--config: expected exactly one for a sweep, got several")
    if options.trials < 0 or options.seed < 0:
        raise InputError("--trials and --seed: expected 0 or more")
    if options.storage and "://" not in options.storage:
        raise InputError("--storage: expected a database URL, such as postgresql://user:password@host/name")
    return options, rest
