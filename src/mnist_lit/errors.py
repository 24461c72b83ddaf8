"""Errors that end a command early, each shown to the user as one line."""

import signal
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any

KINDS: dict[Any, tuple[str, Any]] = {  # by annotation; other arguments are checked where they are used
    float: ("a number", Real),
    int: ("a whole number", Integral),
    str: ("text", (str, PathLike)),
    bool: ("true or false", bool),
}
MAX_CLASSES = 10_000  # more would allocate gigabytes before the weights turn out not to fit


class InputError(ValueError):
    """A user's input is wrong; the message says what was expected, what was given and what to do."""


class TrainingDiverged(InputError):
    """The loss or the weights are no longer finite. Every process raises it at the same step; only rank 0 prints it."""


class StoppedBySignal(BaseException):
    """A signal asked the program to stop; a BaseException so that no `except Exception` catches it on the way."""

    def __init__(self, signum: int, saved: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}" + (f" {saved}" if saved else ""))
        self.signum = signum


def require(option: str, value: Any, expected: str, holds: bool) -> None:  # noqa: FBT001
    """Raise InputError unless the condition on an option's value holds.

    >>> require("model.lr", 0.1, "above 0", 0.1 > 0)
    """
    if not holds:
        raise InputError(f"{option}: expected {expected}, got {value}")


def require_choice(option: str, value: Any, choices: Sequence[str]) -> None:
    """Raise InputError unless an option's value is one of the choices.

    >>> require_choice("model.init", "he", ("default", "he"))
    """
    require(option, value, " or ".join(choices), value in choices)


def check_arguments(section: str, owner: type, given: Mapping[str, Any]) -> None:
    """Raise InputError for what the command line's parser would refuse: a constructor's argument of the wrong type, or
    a seed out of range. owner: the class with the annotations. given: its arguments, perhaps among other names."""
    import inspect  # milliseconds that `--help` does not need

    for name, parameter in inspect.signature(owner).parameters.items():
        if name in given and (kind := KINDS.get(parameter.annotation)):
            value = given[name]
            plain = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of NumPy's or torch's
            fits = isinstance(plain, kind[1]) and isinstance(plain, bool) == (kind[1] is bool)
            require(f"{section}.{name}", repr(value), kind[0], fits)
    require(f"{section}.seed", given["seed"], "0 … 2³² - 1", 0 <= given["seed"] < 2**32)


def check_passed_on(section: str, given: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise InputError if a subclass's constructor passes on another value than its own argument of the same name.

    given: the arguments that arrived. saved: the hyperparameters, for which Lightning takes the outermost
    constructor's arguments, since `load_from_checkpoint` calls that one.
    """
    for name, value in given.items():
        if name in saved and saved[name] != value and str(saved[name]) != str(value):
            own = f"the subclass's argument of this name is {saved[name]}"
            raise InputError(f"{section}.{name}: {own}, but it passes on {value}; rename the argument")


def require_class_names(stored: Any) -> tuple[str, ...]:
    """Class names from a model's file. Raises InputError unless all are printable and different.

    >>> require_class_names(["a", "b"])
    ('a', 'b')
    """
    names = tuple(stored) if isinstance(stored, list | tuple) else (None,)
    printable = all(isinstance(name, str) and name.isprintable() for name in names)
    if not printable or len({*names}) != len(names) or len(names) > MAX_CLASSES:
        raise InputError(f"expected at most {MAX_CLASSES:,} class names, printable and all different")
    return names
