"""The entry point of `mnist-lit`: a table of commands, each imported only when it is called. `--help`, `--version`,
unknown commands and missing files are answered here, in hundredths of a second, without torch."""

import gc
import importlib
import io
import itertools
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from mnist_lit import __version__
from mnist_lit.errors import InputError, StoppedBySignal, TrainingDiverged
from mnist_lit.runs.folders import group_members, newest_checkpoint, paths_named
from mnist_lit.runs.locate import PRETRAINED, is_pretrained, locate_model
from mnist_lit.runs.recipes import find_recipe, recipe_names
from mnist_lit.system.arguments import has_option, split_positionals
from mnist_lit.system.console import say
from mnist_lit.system.error_messages import did_you_mean
from mnist_lit.system.process_rank import is_first_process
from mnist_lit.system.signals import raise_on_signal

SINGLE_DASH = re.compile(r"-[A-Za-z]\w")
COMMANDS = {  # name: (module in `cli`, description); `main` of that module gets the command and its arguments
    "fit": ("lightning", "train a network: `mnist-lit fit --config quickstart`"),
    "validate": ("lightning", "score a checkpoint, by default the newest run's best, on the validation images"),
    "test": ("lightning", "score a checkpoint, by default the newest run's best, on the test images"),
    "predict": ("predict", "read the digits in pictures: `mnist-lit predict PICTURE|FOLDER`"),
    "serve": ("serve", "serve a web page to draw digits on, and an HTTP API"),
    "report": ("report", "write one HTML page about a run: score, curves, mistakes, calibration, robustness"),
    "export": ("export", "write a checkpoint as one ONNX file that runs without torch"),
    "calibrate": ("calibrate", "calibrate a checkpoint's probabilities and rejection if `fit` could not"),
    "sweep": ("sweep", "search over options in several processes, and choose by validation accuracy"),
    "compare": ("compare", "test whether two runs, or two groups of seeds, differ on the test images"),
    "verify-resume": ("verify_resume", "train with and without kills, and compare the results bit for bit"),
    "runs": ("runs", "list all runs with their scores"),
    "summary": ("summary", "show the network layer by layer"),
    "data": ("data", "download and verify a dataset, and describe it"),
}


def main(args: list[str] | None = None) -> int:
    """Run a command. Returns 0, 1 if the machine fails, 2 for wrong input, 128 + n after signal n. Errors are
    printed as one line; `--debug` shows their traceback."""
    is_command = args is None  # not a call from another program
    if args is None:
        args = sys.argv[1:]
        # Python starts its fork server and resource tracker with -c, Lightning perhaps other ranks with -m, and both
        # import from the working directory first. `cli/network.py` needs no such path for a network of your own.
        os.environ["PYTHONSAFEPATH"] = "1"
        # Hide all of Pillow's warnings: real problems raise. `open_picture` is too slow to import here, and hides only
        # some of them, because other programs use it too.
        warnings.filterwarnings("ignore", module=r"PIL\.")
    debug = "--debug" in args
    command = next((arg for arg in args if not arg.startswith("-")), "")
    prints = is_first_process() or command not in ("fit", "validate", "test")  # several processes run these
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal's encoding has × and –
    try:
        with raise_on_signal(then_exit=is_command):
            code = _run([arg for arg in args if arg != "--debug"], debug=debug)
            say(end="", flush=True)
            return code
    except StoppedBySignal as stopped:
        if not prints:
            return 0  # otherwise Lightning's launcher would kill rank 0 before it has printed
        say(f"mnist-lit: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    except (InputError, OSError) as error:  # OSError: a full disk, a closed pipe, a lost process
        if debug:
            raise
        closed_pipe = isinstance(error, BrokenPipeError)  # `mnist-lit runs | head`
        if not closed_pipe and (prints or not isinstance(error, TrainingDiverged | ConnectionError)):
            say(f"mnist-lit: {' '.join(str(error).splitlines())}", file=sys.stderr)
        if isinstance(error, InputError):
            return 2
        if sys.__stdout__ and sys.stdout is sys.__stdout__:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # discard the rest of the buffer
        return 1


def _run(args: list[str], *, debug: bool) -> int:
    if len(args) > 1 and args[0] == "help":
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        say("usage: mnist-lit COMMAND [options]\n")
        say(*(f"  {name:<13}  {description}" for name, (_, description) in COMMANDS.items()), sep="\n")
        say(f"\nRecipes by name or path: {', '.join(recipe_names())}")
        say("`mnist-lit COMMAND --help` lists a command's options; `--debug` shows the traceback of an error.")
        return 0 if args else 2
    if args[0] == "--version":
        say(f"mnist-lit {__version__}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        hint = did_you_mean(command, [*COMMANDS, "--version"])
        raise InputError(f"unknown command {command or 'nothing'}{hint} (`mnist-lit --help` lists all)")
    from mnist_lit.system.subprocesses import check_launcher  # imports more than `--help` needs

    check_launcher()
    module = f"cli.{COMMANDS[command][0]}"
    if module == "cli.lightning":
        rest = _resolved(command, rest)
        group = any(before == "--ckpt_path" and Path(arg).is_dir() for before, arg in itertools.pairwise(rest))
        seeds = has_option(rest, "--seeds")
        if (seeds and command == "fit") or (group and command != "fit"):
            module, rest = "experiments.seeds", [*rest, *(["--debug"] if debug else [])]
    if command in ("validate", "test") and not rest:
        newest_checkpoint()  # raises before torch is imported if there is none
    gc.disable()  # everything an import creates stays, so looking for garbage wastes time
    try:
        imported: Any = importlib.import_module(f"mnist_lit.{module}")
    finally:
        gc.enable()
    return imported.main(command, rest) or 0


def _resolved(command: str, args: list[str]) -> list[str]:
    """Arguments with names resolved to paths, and configs first, so that options override them wherever they stand.
    Raises InputError if a config or a model is missing."""
    positionals, args = split_positionals(args)
    if positionals and command == "fit":
        raise InputError(f"{positionals[0]} is not an option; name a recipe with --config {positionals[0]}")
    configs, options, named, remaining = [], [], "", iter(args)
    checkpoint_options = {"--ckpt_path"} if command == "fit" else {"--ckpt_path", "--model"}
    for arg in remaining:
        option, equals, value = arg.partition("=")
        if option in ("-c", "--config", *checkpoint_options):
            value = value if equals else next(remaining, "")
            if not value:
                expected = "a run or a checkpoint" if option in checkpoint_options else "a recipe's name or a file"
                raise InputError(f"{option}: expected {expected}, got none")
        if option in ("-c", "--config"):
            configs += ["--config", str(find_recipe(value))]
        elif option in checkpoint_options:
            named = value
        else:
            if SINGLE_DASH.match(option):  # argparse would take `-ckpt_path` for `-c kpt_path`
                raise InputError(f"unknown option {option}; did you mean -{option}?")
            options.append(arg)
    models = [*positionals, *([named] if named else [])]
    if len(models) > 1:
        raise InputError(f"expected one model or group, got {models[0]} and {models[1]}")
    for model in models:  # one or none
        groups = [path for path in paths_named(model) if command != "fit" and group_members(path)]
        path = groups[0] if groups else locate_model(model)
        if command == "fit" and is_pretrained(path):
            start = f"--model.init_from {PRETRAINED}"
            raise InputError(f"the shipped model cannot be resumed; start from it with {start}")
        options += ["--ckpt_path", str(path)]
    return configs + options
