"""Errors that end a command early, each shown to the user as one line."""

import signal
from collections.abc import Sequence
from typing import Any

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
        raise InputError(f"{option}: expected {expected}, got {str(value) or 'nothing'}")


def require_choice(option: str, value: Any, choices: Sequence[str]) -> None:
    """Raise InputError unless an option's value is one of the choices.

    >>> require_choice("model.init", "he", ("default", "he"))
    """
    require(option, value, " or ".join(choices), value in choices)


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
