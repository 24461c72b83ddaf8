"""Subprocesses end with their exit code, and signals are forwarded to them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.system.signals import raise_on_signal
from mnist_lit.system.subprocesses import (
    check_launcher,
    launched_externally,
    run_command,
    run_side_by_side,
    start_command,
)

WAIT_FOR_SIGTERM = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("saved").touch(), sys.exit()))
pathlib.Path("ready").touch()
time.sleep(60)
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let `start_command` run a Python program instead."""

    def use(text: str) -> None:
        def start(command: str, args: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", text, *args], **popen)

        monkeypatch.setattr("mnist_lit.system.subprocesses.start_command", start)

    return use


def test_a_command_is_this_package() -> None:
    with start_command("--version", [], stdout=subprocess.PIPE) as process:
        assert process.communicate()[0].startswith(b"mnist-lit ")


def test_a_command_imports_nothing_from_the_working_directory() -> None:
    Path("mnist_lit").mkdir()
    Path("mnist_lit/__main__.py").touch()
    Path("keyword.py").write_text("raise SystemExit('imported')")
    test_a_command_is_this_package()


@pytest.mark.parametrize("given", [" ", "x", "1.5"])
def test_a_launchers_variable_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    for name, check in (("SLURM_NTASKS", launched_externally), ("LOCAL_RANK", check_launcher)):
        with monkeypatch.context() as patch:
            patch.setenv(name, given)
            with pytest.raises(InputError, match=f"{name}: expected a whole number in the environment, got '{given}'"):
                check()


def test_an_empty_variable_of_a_launcher_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "")
    check_launcher()
    assert not {"RANK", "WORLD_SIZE", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"} & {*os.environ}  # Lightning reads them
    assert not launched_externally()


@pytest.mark.parametrize(
    ("text", "code"),
    [("", 0), ("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
    ids=["success", "failure", "killed"],
)
def test_the_exit_code_is_returned_as_a_shell_does(program: Callable[[str], None], text: str, code: int) -> None:
    program(text)
    assert run_command("fit", []) == code


def test_a_signal_is_forwarded_and_the_process_may_save(program: Callable[[str], None], tmp_path: Path) -> None:
    def interrupt() -> None:
        while not tmp_path.joinpath("ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)  # raise_signal would not wake the main thread

    program(WAIT_FOR_SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StoppedBySignal, match="SIGTERM"), raise_on_signal():
        run_command("fit", [])
    thread.join()
    assert tmp_path.joinpath("saved").exists()


@pytest.mark.parametrize(
    ("variables", "launched"),
    [({}, False), ({"WORLD_SIZE": "2"}, True), ({"SLURM_NTASKS": "1"}, False), ({"SLURM_NTASKS": "2"}, True)],
)
def test_a_launcher_is_recognized_by_its_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], launched: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched_externally() == launched


def test_commands_run_side_by_side_and_their_outputs_stay_apart(program: Callable[[str], None], tmp_path: Path) -> None:
    program("""
import pathlib, sys, time
pathlib.Path(f"started_{sys.argv[1]}").touch()
if sys.argv[1] != "c":  # the first two wait for each other
    while not (pathlib.Path("started_a").exists() and pathlib.Path("started_b").exists()):
        time.sleep(0.01)
print("out of", sys.argv[1])
sys.exit(3 if sys.argv[1] == "b" else 0)
""")
    ended = {number: (code, printed) for number, code, printed in run_side_by_side("fit", [["a"], ["b"], ["c"]], 2)}
    assert ended == {0: (0, b"out of a\n"), 1: (3, b"out of b\n"), 2: (0, b"out of c\n")}


def test_leaving_early_stops_the_others_once_they_have_saved(program: Callable[[str], None], tmp_path: Path) -> None:
    program("""
import pathlib, signal, sys, time
if sys.argv[1] == "fails":
    while not pathlib.Path("ready").exists():
        time.sleep(0.01)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("saved").touch(), sys.exit()))
pathlib.Path("ready").touch()
time.sleep(60)
""")
    commands = run_side_by_side("fit", [["fails"], ["works"], ["waits"]], 2)
    assert next(commands)[:2] == (0, 2)
    assert isinstance(commands, Generator)
    commands.close()
    assert Path("saved").exists()
