"""Kill a fit at its first file operation, resume it, compare; then at its second, and so on. Prints what was done.

    python kill_at_every_write.py JOBS FOLDER FIT_OPTIONS…

A program of its own because it forks, which is safe only where nothing but imports has happened. Each fit is one fork.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from mnist_lit.cli import lightning  # noqa: F401  # once for all forks
from mnist_lit.cli.main import main
from mnist_lit.evaluation import calibration
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import CHECKPOINTS, PREVIOUS_CKPT

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime")


class KillAt:
    """Ends this process, as SIGKILL does, just before its n-th change to a file below the working directory."""

    def __init__(self, number: int) -> None:
        self.left, self.folder = number, str(Path.cwd())

    def before(self, event: str, args: Sequence[Any]) -> None:
        """An audit hook, see `sys.addaudithook`."""
        if event in CHANGES or (event == "open" and args[2] & WRITING):
            path = os.fspath(args[0]) if isinstance(args[0], str | os.PathLike) else ""
            if path and os.path.realpath(path).startswith(self.folder):
                self.count(f"{event} {os.path.relpath(path, self.folder)}")

    def count(self, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.write(2, f"killed before {what}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder: Path, options: Sequence[str], kill_at: int = 0) -> int:
    """Fit in a fork and return its exit code, negative after a kill."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        torch.set_num_threads(1)
        calibrate = calibration.calibrate
        calibration.calibrate = (
            lambda network, data, train, val, **more: calibrate(  # a dozen images will do
                network, data, train[:12], val[:12], **more
            )
        )
        if kill_at:
            killer = KillAt(kill_at)
            os.fsync = _counted(os.fsync, killer)
            sys.addaudithook(killer.before)
        code = main(["fit", *options])
    finally:
        os._exit(code)


def _counted(function: Callable[..., Any], killer: KillAt) -> Any:
    def counted(*args: Any) -> Any:
        killer.count(function.__name__)
        return function(*args)

    return counted


def difference(run: Path, other: Path) -> str | None:
    """The first difference between two finished runs: names of files, state of each checkpoint, curves."""
    if len(folders := sorted(other.parent.iterdir())) != 1:
        return f"{len(folders)} run folders"
    mine, theirs = ({path.relative_to(one).as_posix() for path in one.rglob("*") if "tfevents" not in path.name}
                    for one in (run, other))  # fmt: skip
    if names := (mine ^ theirs) - {f"{CHECKPOINTS}/{PREVIOUS_CKPT}"}:
        return f"only one has {sorted(names)}"
    for path in {*run.glob(f"{CHECKPOINTS}/*.ckpt")} - {run / CHECKPOINTS / PREVIOUS_CKPT}:  # a kill may add a save
        if found := state_difference(load_checkpoint(path), load_checkpoint(other / CHECKPOINTS / path.name)):
            return f"{path.name}: {found}"
    if run.joinpath("config.yaml").read_bytes() != other.joinpath("config.yaml").read_bytes():
        return "config.yaml"
    return curve_difference(run, other)


def check(folder: Path, options: Sequence[str], uninterrupted: Path, number: int) -> int:
    """Kill at an operation, resume, compare. Returns 0 if equal, 1 if not, 2 if the fit had fewer operations."""
    folder.mkdir()
    killed = fit(folder, options, number)
    resumed = fit(folder, options)
    run = Path("lightning_logs/version_0")
    different = difference(uninterrupted / run, folder / run) if resumed == 0 else f"exit code {resumed}"
    if different or killed not in (0, -signal.SIGKILL):
        print(f"{number}: {killed}, {different}\n{folder.with_suffix('.log').read_text()}", flush=True)
        return 1
    return 0 if killed else 2


def check_all(base: Path, options: Sequence[str], jobs: int) -> tuple[int, int]:
    """Check each operation, several at a time. Returns how many there are and how many runs differ."""
    uninterrupted = base / "uninterrupted"
    uninterrupted.mkdir(parents=True)
    assert fit(uninterrupted, options) == 0, uninterrupted.with_suffix(".log").read_text()
    codes: dict[int, int] = {}
    running: dict[int, int] = {}  # process → operation
    for number in count(1):
        if 2 in codes.values() or len(running) == jobs:
            process, status = os.wait()
            codes[running.pop(process)] = os.waitstatus_to_exitcode(status)
        if 2 in codes.values():
            break
        if child := os.fork():
            running[child] = number
        else:
            os._exit(check(base / f"{number}", options, uninterrupted, number))
    for process, number in running.items():
        codes[number] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return sum(code != 2 for code in codes.values()), sum(code not in (0, 2) for code in codes.values())


if __name__ == "__main__":
    operations, failures = check_all(Path(sys.argv[2]).resolve(), [*sys.argv[3:], "--resume", "auto"], int(sys.argv[1]))
    print(f"{operations} file operations, one kill before each, {failures} runs that differ")
    sys.exit(bool(failures))
