"""What a parser complained of, as one line with the nearest valid name. The standard library only."""

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn

from mnist_lit.errors import InputError

__all__ = ["CommandParser", "did_you_mean", "explain_error"]

UNKNOWN = re.compile(r"unrecognized arguments: -*([\w.]+)|does not accept option '([\w.]+)'")
WRONG = re.compile(r'Parser key "(.*)":(?s:.*)(?:Got|Given) value: (.*)')
WANTED = re.compile(r"Expected a (.+?)(?:\.? Got value|\n|$)")
TYPES = {
    "<class 'float'>": "a number",
    "<class 'int'>": "a whole number",
    "<class 'bool'>": "true or false",
    "<class 'NoneType'>": "",
}
PLAIN = {
    r"Call to compute_fn of link .* failed: ": "",
    "No supported gpu backend found!": "trainer.accelerator: torch finds no GPU here; leave the option out, or say cpu",
}
ALIASES = {"learning_rate": "lr", "epochs": "max_epochs", "seed": "seed_everything", "gpus": "devices"}
ALIASES |= {"train": "fit", "evaluate": "test", "eval": "test", "download": "data", "list": "runs"}


class CommandParser(argparse.ArgumentParser):
    """The options of a command; what is wrong with them is an InputError, in one line."""

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        super().__init__(f"mnist-lit {command}", description=description, epilog=epilog, allow_abbrev=False)

    def add_model_argument(self, help: str) -> None:
        """Add `--model`, and `--ckpt_path` as Lightning's name for it."""
        self.add_argument("--model", "--ckpt_path", dest="model", metavar="NAME", help=help)

    def add_data_dir_argument(self) -> None:
        """Add `--data_dir`."""
        self.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")

    def error(self, message: str) -> NoReturn:
        """Say it with the nearest option."""
        raise InputError(explain_error(message, [option.lstrip("-") for option in self._option_string_actions]))


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean X?` where a valid name is close, of the same section or else the same in another, else nothing.

    >>> did_you_mean("model.lrr", ["model.lr", "data.val_size"])
    '; did you mean model.lr?'
    >>> did_you_mean("data.learning_rate", ["model.init", "model.lr", "data.val_size"])
    '; did you mean model.lr?'
    >>> did_you_mean("data.num_workers", ["trainer.num_nodes", "data.val_size"])
    ''
    """
    leaves = {full.rpartition(".")[2]: full for full in reversed(list(valid))}
    section, _, leaf = name.rpartition(".")
    leaf = ALIASES.get(leaf, leaf)
    if leaf not in leaves and any(full.startswith(f"{section}.") for full in leaves.values()):
        leaves = {near: full for near, full in leaves.items() if full.startswith(f"{section}.")}
    matches = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.65)
    return f"; did you mean {leaves[matches[0]]}?" if matches else ""


def explain_error(message: str, valid: Iterable[str]) -> str:
    """What jsonargparse or Lightning says, in one line, with the nearest of the valid options or values.

    >>> explain_error("Subcommand 'fit' does not accept option 'data.batchsize'", ["data.batch_size"])
    'unknown option data.batchsize; did you mean data.batch_size?'
    >>> explain_error('Parser key "model.lr":\\n  Expected a <class \\'float\\'>. Got value: x', [])
    'model.lr: expected a number, got x'
    >>> explain_error('Parser key "a.b":\\n  Expected a typing.Literal[\\'sgd\\', \\'adamw\\']. Got value: adam', [])
    'a.b: expected sgd or adamw, got adam; did you mean adamw?'
    """
    if unknown := UNKNOWN.search(message):
        name = unknown[1] or unknown[2]
        return f"unknown option {name}{did_you_mean(name, valid)}"
    if wrong := WRONG.match(message):
        name, got = wrong.groups()
        wanted = list(dict.fromkeys(choice for want in WANTED.findall(message) for choice in _choices(want)))
        if any("<" in want or " but " in want for want in wanted):  # a class's path, and the like
            return f"{name}: cannot take {got}"
        return f"{name}: expected {' or '.join(filter(None, wanted))}, got {got}{did_you_mean(got, wanted)}"
    for pattern, said in PLAIN.items():
        message = re.sub(pattern, said, message)
    return " ".join(message.split())


def _choices(want: str) -> list[str]:
    """The values, or the kind of value, that jsonargparse wanted."""
    if literal := re.fullmatch(r"typing\.Literal\[(.*)\]", want):
        return [choice.strip(" '") for choice in literal[1].split(",")]
    return [TYPES.get(want, want)]
