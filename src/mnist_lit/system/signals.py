"""SIGTERM, Ctrl-C and SIGUSR1: raised at once, or deferred until the program asks. The standard library only."""

import atexit
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mnist_lit.errors import StoppedBySignal

PATIENCE = 5.0  # seconds after which a second Ctrl-C stops at once; sooner it may be torchrun forwarding the first


@contextmanager
def raise_on_signal(*, then_exit: bool = False) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGUSR1 raise StoppedBySignal anywhere inside the block; a second one only after
    PATIENCE, since it would interrupt the cleanup. then_exit: the process ends after the block, at once if a signal
    comes."""
    since = -math.inf

    def is_repeated() -> bool:
        nonlocal since
        if time.monotonic() - since < PATIENCE:
            return True
        since = time.monotonic()
        return False

    def stop(signum: int, frame: FrameType | None) -> None:
        if not is_repeated():
            _raise(signum, frame)

    def end(signum: int, frame: FrameType | None) -> None:
        if not is_repeated():
            os._exit(128 + signum)

    before = _set_handler(stop)
    if then_exit:
        for signum in before:  # while Python itself ends, the signal's default would change the exit code
            atexit.register(signal.signal, signum, signal.SIG_IGN)
    try:
        yield
    finally:
        if then_exit:
            _set_handler(end)
        else:
            for signum, handler in before.items():
                signal.signal(signum, handler)


class DeferredSignals:
    """After `install`, signals only set `signum`, which the program checks when it can stop cleanly."""

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0

    def install(self) -> None:
        """Replace the current handlers until the enclosing `raise_on_signal` ends; Lightning restores SIGUSR1's."""
        _set_handler(self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
        elif signum == signal.SIGINT and time.monotonic() - self._since > PATIENCE:
            _raise(signum, frame)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends; does nothing elsewhere."""
    if sys.platform == "linux":
        import ctypes  # milliseconds that `--help` does not need

        parent, set_parent_death_signal = os.getppid(), 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise StoppedBySignal(signum)


def _set_handler(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, signal.Handlers]:
    """Handle SIGTERM, SIGINT and SIGUSR1; returns the previous handlers. Python allows this only in the main thread; {}
    elsewhere. SLURM is often told to send SIGUSR1 before a job's time is up; a program's own handler for it stays."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    signals = [signal.SIGTERM, signal.SIGINT]
    if sys.platform != "win32":
        current = signal.getsignal(signal.SIGUSR1)
        if current == signal.SIG_DFL or getattr(current, "__module__", "") == __name__:
            signals.append(signal.SIGUSR1)
    return {signum: signal.signal(signum, handler) for signum in signals}  # type: ignore[misc]
