"""Commands of ours that another one starts, a process each, and what their arguments say. Knows no torch."""

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

__all__ = ["launched_externally", "logs_root", "pop_option", "run_command", "start_command", "stop_command"]

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "NODE_RANK")  # variables of who starts several of this process


def launched_externally() -> bool:
    """Whether torchrun, SLURM or the like has started several of this process."""
    return any(name in os.environ for name in LAUNCHERS) or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def start_command(command: str, args: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start `mnist-lit command`; `popen` are subprocess's own options."""
    return subprocess.Popen([sys.executable, "-m", "mnist_lit", command, *args], **popen)


def stop_command(process: subprocess.Popen[bytes], signum: int) -> int:
    """Pass a signal on and wait until the process has saved; returns its exit code."""
    with suppress(OSError, ValueError):  # on Windows it has had its Ctrl-C, and takes no other
        process.send_signal(signum)
    while process.poll() is None:
        with suppress(StoppedBySignal):
            process.wait()
    return process.returncode


def run_command(command: str, args: Sequence[str], **popen: Any) -> int:
    """Run `mnist-lit command` to its end; returns its exit code. A signal is passed on before it is raised."""
    process = start_command(command, args, **popen)
    try:
        code = process.wait()
    except StoppedBySignal as stopped:
        stop_command(process, stopped.signum)
        raise
    return code if code >= 0 else 128 - code


def logs_root(args: Sequence[str]) -> str:
    """Where the run folders of a fit are: as its arguments say, or else its config; "" is here."""
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
