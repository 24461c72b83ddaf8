"""What a parser complained of, as one line with the nearest valid name. The standard library only."""

import difflib
import re
from collections.abc import Iterable

__all__ = ["explain", "nearest"]

UNKNOWN = re.compile(r"unrecognized arguments: -*([\w.]+)|does not accept option '([\w.]+)'")
ALIASES = {"learning_rate": "lr", "epochs": "max_epochs", "seed": "seed_everything", "gpus": "devices"}


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean X?` where a valid name is close, section apart or section included, else nothing.

    >>> nearest("model.lrr", ["model.lr", "data.val_size"])
    '; did you mean model.lr?'
    >>> nearest("data.learning_rate", ["model.init", "model.lr", "data.val_size"])
    '; did you mean model.lr?'
    """
    leaves = {full.rpartition(".")[2]: full for full in reversed(list(valid))}
    leaf = name.rpartition(".")[2]
    matches = difflib.get_close_matches(ALIASES.get(leaf, leaf), leaves, n=1, cutoff=0.65)
    return f"; did you mean {leaves[matches[0]]}?" if matches else ""


def explain(message: str, valid: Iterable[str]) -> str:
    """jsonargparse's message in one line, and for an unknown option the nearest of the valid ones.

    >>> explain("Subcommand 'fit' does not accept option 'data.batchsize'", ["data.batch_size"])
    'unknown option data.batchsize; did you mean data.batch_size?'
    >>> explain('Parser key "model.lr":\\n  Expected a <class \\'float\\'>. Got value: x', [])
    'model.lr: Expected a float. Got value: x'
    """
    if unknown := UNKNOWN.search(message):
        name = unknown[1] or unknown[2]
        return f"unknown option {name}{nearest(name, valid)}"
    message = re.sub(r"<class '([^']*)'>", r"\1", message.removeprefix("Parser key "))
    message = re.sub(r"a typing\.Literal\[([^\]]*)\]", r"one of \1", message)
    return " ".join(re.sub(r'^"([^"]*)":', r"\1:", message).split())
