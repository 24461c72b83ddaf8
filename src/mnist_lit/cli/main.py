"""The thin front of `mnist-lit`: one table of commands, each imported only when it is called.

`--help`, `--version`, unknown commands and missing files are answered here, without torch. Decides nothing else.
"""

import gc
import importlib
import io
import itertools
import os
import sys
from pathlib import Path
from typing import Any

from mnist_lit import __version__
from mnist_lit.errors import InputError, StoppedBySignal, TrainingDiverged
from mnist_lit.runs.folders import LOGS, group_members, newest_checkpoint
from mnist_lit.runs.locate import locate_model
from mnist_lit.runs.recipes import find_recipe, recipe_names
from mnist_lit.system.arguments import did_you_mean
from mnist_lit.system.signals import raise_on_signal

COMMANDS = {  # name: (module in `cli`, what it does); `main` of that module gets the command and its arguments
    "fit": ("lightning", "train a network: `mnist-lit fit --config quickstart`"),
    "validate": ("lightning", "score a checkpoint, by default the newest run's best, on the validation images"),
    "test": ("lightning", "score a checkpoint, by default the newest run's best, on the test images"),
    "predict": ("predict", "read the digits in pictures: `mnist-lit predict PICTURE|FOLDER`"),
    "serve": ("serve", "a web page to draw digits on, and the same for programs"),
    "report": ("report", "a run on one page to look at: score, curves, mistakes, calibration, robustness"),
    "export": ("export", "write a checkpoint as one ONNX file that needs no torch"),
    "calibrate": ("calibrate", "fit a checkpoint's probabilities and its rejection, where `fit` could not"),
    "sweep": ("sweep", "try settings of a space, several processes at once, and choose by validation"),
    "compare": ("compare", "say whether two runs, or two groups of seeds, differ on the test images"),
    "verify-resume": ("verify_resume", "train undisturbed and under kills, and compare bit for bit"),
    "runs": ("runs", "list what was trained, with scores"),
    "summary": ("summary", "show the network, layer by layer"),
    "data": ("data", "fetch and verify a dataset, and say what is there"),
}
EPILOG = """\
Recipes by name or path: {recipes}
`mnist-lit COMMAND --help` tells a command's options; `--debug` shows the traceback of an error."""


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 where the machine fails, 2 for wrong input, 130 and 143 for signals.

    What goes wrong gets one line and no traceback.
    """
    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes it speaks for all
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal's encoding has × and –
    try:
        with raise_on_signal():
            code = _run([arg for arg in args if arg != "--debug"], debug=debug)
            sys.stdout.flush()
            return code
    except InputError as error:
        if debug:
            raise
        if first or not isinstance(error, TrainingDiverged):
            print(f"mnist-lit: {error}", file=sys.stderr)
        return 2
    except StoppedBySignal as stopped:
        if not first:
            return 0  # Lightning's launcher would kill the first process in the middle of its last words
        print(f"mnist-lit: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    except OSError as error:  # of the machine, not of the input: a full disk, a closed pipe
        if debug:
            raise
        closed = isinstance(error, BrokenPipeError)  # `mnist-lit runs | head`
        if not closed and (first or not isinstance(error, ConnectionError)):
            print(f"mnist-lit: {error}", file=sys.stderr)
        if sys.__stdout__ and sys.stdout is sys.__stdout__:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # what is left to print at exit
        return 1


def _run(args: list[str], *, debug: bool) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else 2
    if args[0] == "--version":
        print(f"mnist-lit {__version__}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        raise InputError(f"unknown command {command}{did_you_mean(command, COMMANDS)} (`mnist-lit --help` lists all)")
    module = f"cli.{COMMANDS[command][0]}"
    if module == "cli.lightning":
        rest = _arranged(command, rest)
        if _is_of_a_group(command, rest):
            module, rest = "experiments.seeds", [*rest, *(["--debug"] if debug else [])]
    if command in ("validate", "test") and not rest:
        newest_checkpoint(Path(LOGS))  # is there one? Nobody waits for torch to be told that there is none
    code: int | None = _import(module).main(command, rest)
    return code or 0


def _import(module: str) -> Any:
    """Import a module with garbage collection off: everything an import creates stays, so collecting wastes time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(f"mnist_lit.{module}")
    finally:
        if collects:
            gc.enable()


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = (f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return "\n".join(
        ("usage: mnist-lit COMMAND [options]", "", *commands, "", EPILOG.format(recipes=", ".join(recipe_names())))
    )


def _arranged(command: str, args: list[str]) -> list[str]:
    """The arguments, configs first so that options beat them, as paths; raises InputError where a file is missing."""
    if args and not args[0].startswith("-"):
        raise InputError(f"{args[0]} is no option; a recipe is named with --config {args[0]}")
    configs, options, given = [], [], iter(args)
    checkpoint = {"--ckpt_path"} if command == "fit" else {"--ckpt_path", "--model"}  # as the other commands have it
    for arg in given:
        option, equals, value = arg.partition("=")
        if option in ("-c", "--config", *checkpoint):
            value = value if equals else next(given, "")
            if not value:
                raise InputError(f"{option} expects a file")
        if option in ("-c", "--config"):
            configs += ["--config", str(find_recipe(value))]
        elif option in checkpoint:
            groups = [path for path in (Path(value), Path(LOGS, value)) if group_members(path)]
            options += ["--ckpt_path", str(groups[0] if groups else locate_model(value))]
        else:
            options.append(arg)
    return configs + options


def _is_of_a_group(command: str, args: list[str]) -> bool:
    """Whether several seeds are asked for, or a group is to be scored."""
    if command == "fit":
        return any(arg.partition("=")[0] == "--seeds" for arg in args)
    return any(before == "--ckpt_path" and Path(arg).is_dir() for before, arg in itertools.pairwise(args))
