"""Run `mnist-lit` commands as subprocesses. No torch."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from typing import IO, Any

from mnist_lit.errors import InputError, StoppedBySignal

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "NODE_RANK")  # environment variables that launchers set
# Variables that Lightning reads as numbers, some of them as soon as it is imported.
NUMBER_VARIABLES = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "JSM_NAMESPACE_RANK"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)


def check_launcher() -> None:
    """Raise InputError if a launcher's variable is not a number. Unset empty ones, as from a Compose file, since
    Lightning would read them, too."""
    for name in {*LAUNCHERS, *NUMBER_VARIABLES}:
        if os.environ.get(name) == "":
            del os.environ[name]
    for name in NUMBER_VARIABLES:
        _number(name)


def _number(name: str) -> int:
    given = os.environ.get(name, "0")
    try:
        return int(given)
    except ValueError:
        raise InputError(f"{name}: expected a whole number in the environment, got {given!r}; unset it") from None


def launched_externally() -> bool:
    """Whether torchrun, SLURM or the like has started several copies of this process."""
    return any(name in os.environ for name in LAUNCHERS) or _number("SLURM_NTASKS") > 1


def start_command(command: str, args: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start `mnist-lit COMMAND`; `popen` are options of subprocess.Popen."""
    return subprocess.Popen([sys.executable, "-P", "-m", "mnist_lit", command, *args], **popen)


def stop_commands(processes: Collection[subprocess.Popen[bytes]], signum: int) -> None:
    """Forward a signal once, and wait until all processes have saved and ended, whatever signals come meanwhile."""
    for process in processes:
        with suppress(OSError, ValueError, StoppedBySignal):  # Windows has sent Ctrl-C already, and knows no other
            process.send_signal(signum)
    for process in processes:
        while process.poll() is None:
            with suppress(StoppedBySignal):
                process.wait()


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that has ended, as a shell gives it: 128 + n after signal n."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def run_command(command: str, args: Sequence[str], **popen: Any) -> int:
    """Run `mnist-lit COMMAND` to its end and return its exit code. A signal is forwarded before it is raised."""
    process = start_command(command, args, **popen)
    try:
        process.wait()
    except StoppedBySignal as stopped:
        stop_commands([process], stopped.signum)
        raise
    return exit_code(process)


def run_side_by_side(
    command: str, each: Sequence[Sequence[str]], at_once: int
) -> Generator[tuple[int, int, bytes], None, None]:
    """Run `mnist-lit COMMAND` once per list of arguments, several at a time; yields number, exit code and output.

    If a signal comes, or the caller leaves early, the running commands are told to stop, and save first.
    """
    waiting, running = list(enumerate(each)), dict[subprocess.Popen[bytes], tuple[int, IO[bytes]]]()
    signum = int(signal.SIGTERM)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, args = waiting.pop(0)
                printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed below
                running[start_command(command, args, stdout=printed, stderr=subprocess.STDOUT)] = number, printed
            time.sleep(0.05)
            for process in [process for process in running if process.poll() is not None]:
                number, printed = running.pop(process)
                with printed:
                    printed.seek(0)
                    yield number, exit_code(process), printed.read()
    except StoppedBySignal as stopped:
        signum = stopped.signum
        raise
    finally:
        stop_commands(running, signum)
        for _, printed in running.values():
            printed.close()


def last_line(printed: bytes) -> str:
    """The last line that a failed command printed, its error message; "" if it printed nothing."""
    return (printed.decode(errors="replace").strip().splitlines() or [""])[-1].removeprefix("mnist-lit: ")
