"""An argparse parser with errors of one line. Not in `system/error_messages.py`, since `mnist-lit --help` imports that
module and needs no argparse."""

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from mnist_lit.errors import InputError
from mnist_lit.runs.recipes import INVOCATION_OPTIONS
from mnist_lit.system.error_messages import did_you_mean, explain_error

NETWORK_OPTION = "--model.network"


class CommandParser(argparse.ArgumentParser):
    """The options of one command. Raises InputError, in one line, if they are wrong."""

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        table = epilog if epilog and "\n" in epilog else ""  # its lines are kept; argparse would wrap them
        prose = None if table else epilog
        super().__init__(f"mnist-lit {command}", description=description, epilog=prose, allow_abbrev=False)
        self._table = table

    def format_help(self) -> str:
        """The help of argparse, then the table."""
        return super().format_help() + (f"\n{self._table}\n" if self._table else "")

    def add_model_argument(self, help: str, *, positional: bool = True) -> None:
        """Add `--model`, `--ckpt_path` as Lightning's name for it and, unless the command reads files, `MODEL`."""
        if positional:
            self.add_argument("model", nargs="?", metavar="MODEL", help=help)
        help = "the same as MODEL" if positional else help
        self.add_argument("--model", "--ckpt_path", dest="named_model", metavar="NAME", help=help)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse options and files in any order; if there is a "--", options must precede the files. `model` is the
        model, however it was named; `network` lists the arguments for `build_network`."""
        network = list[str]()
        if NETWORK_OPTION in self._option_string_actions:
            network, args = _split_network_options(args)
        parse = super().parse_args if "--" in (args or ()) else super().parse_intermixed_args  # which drops the "--"
        options = parse(args, namespace)
        options.network = network
        if (named := vars(options).pop("named_model", None)) is not None:
            if vars(options).get("model"):
                raise InputError(f"expected one model, got {options.model} and {named}")
            options.model = named
        vars(options).setdefault("model", None)
        return options

    def parse_before_fit(self, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """The command's own options, and the arguments for `fit`, which must not be misspelled ones of the command."""
        options, fit = self.parse_known_args(args)
        for option in (arg.partition("=")[0] for arg in fit if arg.startswith("--")):
            name = option.removeprefix("--")
            of_fit = "." in name or name in (*INVOCATION_OPTIONS, "print_config")
            if not of_fit and did_you_mean(name, self._option_names()):
                self.error(f"unrecognized arguments: {option}")
        return options, fit

    def add_network_argument(self) -> None:
        """Add `--model.network`, which `cli/network.py` builds, with any `--model.network.NAME` as its arguments."""
        help = "the network of your own that a checkpoint needs; --model.network.NAME VALUE for each of its arguments"
        self.add_argument(NETWORK_OPTION, dest="network", metavar="CLASS", help=help)

    def add_data_dir_argument(self) -> None:
        """Add `--data_dir`, which `fit` calls `--data.data_dir`."""
        help = "the folder of the dataset's files (default: the run's)"
        self.add_argument("--data_dir", "--data.data_dir", dest="data_dir", metavar="FOLDER", help=help)

    def add_threshold_argument(self) -> None:
        """Add `--threshold`; `check_threshold` checks it."""
        help = "reject outlier scores above this; 0 is strictest, 1 rejects nothing (default: the model's own)"
        self.add_argument("--threshold", type=float, help=help)

    def error(self, message: str) -> NoReturn:
        raise InputError(explain_error(message, self._option_names()))

    def _option_names(self) -> list[str]:
        return [option.lstrip("-") for option in self._option_string_actions]


def _split_network_options(args: Iterable[str]) -> tuple[list[str], list[str]]:
    """The arguments that name a network and its settings, and all others."""
    named, rest, remaining = list[str](), list[str](), iter(args)
    for arg in remaining:
        if arg.partition("=")[0] == NETWORK_OPTION or arg.startswith(f"{NETWORK_OPTION}."):
            named += [arg] if "=" in arg else [arg, next(remaining, "")]
            if not named[-1]:
                raise InputError(f"{arg}: expected a value, got none")
        else:
            rest.append(arg)
    return named, rest
