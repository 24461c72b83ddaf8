"""SIGTERM and Ctrl-C: an end at once, or one that waits for a good moment. The standard library only."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mnist_lit.errors import StoppedBySignal

__all__ = ["DeferredSignals", "die_with_parent", "raise_on_signal"]

BOTH = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 5.0  # seconds after which a second Ctrl-C waits for nothing; torchrun sends a second signal by itself


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Inside, either signal raises Stopped wherever the program is."""
    before = _handle(_raise)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class DeferredSignals:
    """Either signal is only written down, from `install` on, for whoever asks at a good moment."""

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0

    def install(self) -> None:
        """Take the place of whatever handled the signals; who did so before puts it back."""
        _handle(self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and signum == signal.SIGINT and time.monotonic() - self._since > PATIENCE:
            _raise(signum, frame)
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()


def die_with_parent() -> None:
    """Ask Linux to end this process together with the one that started it; elsewhere nothing happens."""
    if sys.platform == "linux":
        parent, set_parent_death_signal = os.getppid(), 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os.kill(os.getpid(), signal.SIGKILL)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise StoppedBySignal(signum)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, signal.Handlers]:
    """Set the handler; what handled each before. Only the main thread may, so elsewhere nothing happens."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {signum: signal.signal(signum, handler) for signum in BOTH}  # type: ignore[misc]
