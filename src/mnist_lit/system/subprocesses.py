"""Run `mnist-lit` commands as subprocesses, and read the options that concern them. No torch."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

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
