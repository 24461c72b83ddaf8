"""Errors that end a command before its work is done, each as one line for the person who typed it."""

import signal
from typing import Any


class InputError(ValueError):
    """A user's input is wrong; the message says what was expected, what was given and what to do."""


class TrainingDiverged(InputError):
    """The loss or the weights are no longer finite. All processes see it at the same step, so rank 0 prints it."""


class StoppedBySignal(BaseException):
    """A signal asked for the end; a BaseException so that no `except Exception` catches it on the way."""

    def __init__(self, signum: int, saved: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}" + (f" {saved}" if saved else ""))
        self.signum = signum


def require(option: str, value: Any, expected: str, holds: bool) -> None:  # noqa: FBT001
    """Raise InputError unless the condition on an option's value holds.

    >>> require("model.lr", 0.1, "above 0", 0.1 > 0)
    """
    if not holds:
        raise InputError(f"{option}: expected {expected}, got {value}")
