"""What ends a command before its work is done. Each is one line for whoever typed it."""

import signal

__all__ = ["InputError", "StoppedBySignal", "TrainingDiverged"]


class InputError(ValueError):
    """A user's input is wrong; the message says what was wanted, what came and what to do."""


class TrainingDiverged(InputError):
    """Training left the finite numbers. All processes see it at the same step, so the first speaks for them."""


class StoppedBySignal(BaseException):
    """A signal asked for the end; no `except Exception` on the way may take it. The message says what was saved."""

    def __init__(self, signum: int, saved: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}" + (f" {saved}" if saved else ""))
        self.signum = signum
