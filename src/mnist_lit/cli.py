"""The thin front of `mnist-lit`: one table of commands, each imported only when it is called.

`--help`, `--version`, unknown commands and missing files are answered here, without torch. Decides nothing else.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from mnist_lit import __version__, runs
from mnist_lit.errors import InputError
from mnist_lit.suggest import nearest

__all__ = ["COMMANDS", "main"]

COMMANDS = {  # name: (room, what it does); the room's main gets the command and its arguments
    "fit": ("engine", "train a network: `mnist-lit fit --config quickstart`"),
    "validate": ("engine", "score a checkpoint, by default the newest run's best, on the validation images"),
    "test": ("engine", "score a checkpoint, by default the newest run's best, on the test images"),
    "summary": ("summary", "show the network, layer by layer"),
    "data": ("fetch", "fetch and verify a dataset, and say what is there"),
}
EPILOG = """\
Recipes by name or path: {recipes}
`mnist-lit COMMAND --help` tells a command's options; `--debug` shows the traceback of an error."""


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 for wrong input, which gets one line and no traceback."""
    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    try:
        return _run([arg for arg in args if arg != "--debug"])
    except InputError as error:
        if debug:
            raise
        print(f"mnist-lit: {error}", file=sys.stderr)
        return 2


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else 2
    if args[0] == "--version":
        print(f"mnist-lit {__version__}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        raise InputError(f"unknown command {command}{nearest(command, COMMANDS)} `mnist-lit --help` lists them")
    if COMMANDS[command][0] == "engine":
        rest = list(_with_files(rest))
        if command != "fit" and not {"-h", "--help"} & set(rest):
            rest = _with_checkpoint(command, rest)
    importlib.import_module(f"mnist_lit.{COMMANDS[command][0]}").main(command, rest)
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = (f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    recipes = EPILOG.format(recipes=", ".join(sorted(path.stem for path in _recipes().glob("*.yaml"))))
    return "\n".join(("usage: mnist-lit COMMAND [options]", "", *commands, "", recipes))


def _recipes() -> Path:
    """The folder of the shipped recipes: inside the package in a wheel, beside `src` in a checkout."""
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def _with_files(args: list[str]) -> Iterator[str]:
    """The arguments, a recipe's name replaced by its path; raises InputError where a named file is missing."""
    previous = ""
    for arg in args:
        option, equals, value = arg.partition("=")
        if previous in ("-c", "--config"):
            arg = _config(arg)
        elif option == "--config" and equals:
            arg = f"{option}={_config(value)}"
        elif previous == "--ckpt_path" or (option == "--ckpt_path" and equals):
            path = value or arg
            if not Path(path).is_file():
                raise InputError(f"no checkpoint at {path}")
        previous = arg
        yield arg


def _config(name: str) -> str:
    shipped = _recipes() / f"{name}.yaml"
    path = next((path for path in (Path(name), shipped) if path.is_file()), None)
    if path is None:
        names = sorted(recipe.stem for recipe in _recipes().glob("*.yaml"))
        raise InputError(f"no config at {name}{nearest(Path(name).stem, names)} Shipped recipes: {', '.join(names)}")
    return str(path)


def _with_checkpoint(command: str, args: list[str]) -> list[str]:
    """The arguments behind the newest run's best checkpoint, which an explicit one or a config's then beats."""
    if any(arg.partition("=")[0] == "--ckpt_path" for arg in args):
        return args
    newest = runs.newest(Path(runs.LOGS))
    if newest is None:
        raise InputError(f"nothing was trained in {runs.LOGS}; run `mnist-lit fit` first, or pass --ckpt_path FILE")
    print(f"{command}: {newest}")
    return ["--ckpt_path", str(newest), *args]
