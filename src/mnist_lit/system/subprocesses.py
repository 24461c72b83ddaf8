"""Run `mnist-lit` commands as subprocesses, and read the options that concern them. No torch."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import yaml

from mnist_lit.errors import StoppedBySignal

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "NODE_RANK")  # environment variables that launchers set


def launched_externally() -> bool:
    """Whether torchrun, SLURM or the like has started several copies of this process."""
    return any(name in os.environ for name in LAUNCHERS) or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def start_command(command: str, args: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start `mnist-lit COMMAND`; `popen` are options of subprocess.Popen."""
    return subprocess.Popen([sys.executable, "-m", "mnist_lit", command, *args], **popen)


def stop_command(process: subprocess.Popen[bytes], signum: int) -> None:
    """Forward a signal and wait until the process has saved and ended."""
    with suppress(OSError, ValueError):  # Windows has already sent it Ctrl-C, and knows no other signal
        process.send_signal(signum)
    while process.poll() is None:
        with suppress(StoppedBySignal):
            process.wait()


def run_command(command: str, args: Sequence[str], **popen: Any) -> int:
    """Run `mnist-lit COMMAND` to its end and return its exit code. A signal is forwarded before it is raised."""
    process = start_command(command, args, **popen)
    try:
        code = process.wait()
    except StoppedBySignal as stopped:
        stop_command(process, stopped.signum)
        raise
    return code if code >= 0 else 128 - code


def run_side_by_side(command: str, each: Sequence[Sequence[str]], at_once: int) -> Iterator[tuple[int, int, bytes]]:
    """Run `mnist-lit COMMAND` once per list of arguments, several at a time; yields number, exit code and output.

    If a signal comes, or the caller leaves early, those that run are told to stop, and save first.
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
                    yield (
                        number,
                        process.returncode if process.returncode >= 0 else 128 - process.returncode,
                        printed.read(),
                    )
    except StoppedBySignal as stopped:
        signum = stopped.signum
        raise
    finally:
        for process in running:
            with suppress(OSError, ValueError):
                process.send_signal(signum)
        for process, (_, printed) in running.items():
            stop_command(process, signum)
            printed.close()


def last_line(printed: bytes) -> str:
    """The last line that a failed command printed, its error message; "" if it printed nothing."""
    return (printed.decode(errors="replace").strip().splitlines() or [""])[-1].removeprefix("mnist-lit: ")


def logs_root(args: Sequence[str]) -> str:
    """The folder that a fit with these arguments makes `lightning_logs` in, by option or config; "" is the current."""
    given = pop_option(args, "--trainer.default_root_dir")[0]
    for option, path in pairwise(args):
        if not given and option == "--config":
            with suppress(OSError, UnicodeDecodeError, AttributeError, yaml.YAMLError):
                trainer = yaml.safe_load(Path(path).read_text(encoding="utf-8")).get("trainer") or {}
                given = str(trainer.get("default_root_dir") or given)
    return given


def pop_option(args: Sequence[str], option: str) -> tuple[str, list[str]]:
    """The last value of an option, or "", and the arguments without it."""
    value, rest, given = "", [], iter(args)
    for arg in given:
        name, equals, after = arg.partition("=")
        if name == option:
            value = after if equals else next(given, "")
        else:
            rest.append(arg)
    return value, rest
