"""A picture that takes too long or crashes its process costs itself, and nothing else."""

import multiprocessing
import os
import pickle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from inference.serve.clients import SLOW, picture
from mnist_lit.errors import InputError
from mnist_lit.inference.reader import propose
from mnist_lit.inference.serve import time_limit
from mnist_lit.inference.serve.time_limit import ProposalProcesses


def crash(connection: Connection) -> None:
    """A process that a decoder crashes."""
    connection.recv()
    os._exit(1)


def fail(connection: Connection) -> None:
    """A process with a defect, which is worth a look at the log."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    vars(time_limit)["propose"] = broken
    time_limit._propose_each(connection)


@pytest.fixture
def processes() -> ProposalProcesses:
    return ProposalProcesses(60)


@pytest.fixture
def this_module_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


def test_a_process_finds_what_this_one_finds(processes: ProposalProcesses) -> None:
    for many in (False, True):
        assert str(processes.propose(picture(60, 140), many=many)) == str(propose(picture(60, 140), many=many))
    assert len(processes.idle) == 1  # one process for both


def test_a_slow_picture_is_refused_and_its_process_ends(processes: ProposalProcesses) -> None:
    processes.propose(picture(140), many=False)
    ((process, _),) = processes.idle
    assert process in multiprocessing.active_children()
    processes.seconds = 0.2
    with pytest.raises(InputError, match=r"^reading the picture took longer than 0\.2 s; make it smaller$"):
        processes.propose(SLOW, many=False)
    assert process not in multiprocessing.active_children()
    processes.seconds = 60
    assert processes.propose(picture(140), many=False).sheets[0].found


def test_an_unreadable_picture_keeps_its_process(processes: ProposalProcesses) -> None:
    with pytest.raises(InputError, match="got something else"):
        processes.propose(b"no picture", many=False)
    ((process, _),) = processes.idle
    processes.propose(picture(140), many=False)
    assert processes.idle[0][0] is process


@pytest.mark.usefixtures("this_module_is_importable")
def test_a_crash_costs_its_own_picture(processes: ProposalProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "_propose_each", crash)
    with pytest.raises(InputError, match="crashed the image decoder"):
        processes.propose(picture(140), many=False)
    monkeypatch.undo()
    assert processes.propose(picture(140), many=False).sheets[0].found


@pytest.mark.usefixtures("this_module_is_importable")
def test_a_defect_is_no_fault_of_the_picture(processes: ProposalProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "_propose_each", fail)
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError\(\)"):
        processes.propose(picture(140), many=False)


def test_a_process_that_was_killed_while_idle_is_replaced(processes: ProposalProcesses) -> None:
    with processes.running():
        killed = processes.idle[0][0]
        killed.kill()
        killed.join()
        assert processes.propose(picture(140), many=False).sheets[0].found


def test_the_last_idle_process_may_be_taken_by_another_thread_at_any_time(processes: ProposalProcesses) -> None:
    class Taken(list[Any]):
        def __bool__(self) -> bool:
            return True  # it had one a moment ago

    processes.idle = Taken()
    assert processes.propose(picture(140), many=False).sheets[0].found


def test_any_error_ends_the_process(processes: ProposalProcesses) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises((AttributeError, pickle.PicklingError)):
        processes.propose(lambda: None, many=False)  # type: ignore[arg-type]  # cannot be sent
    assert set(multiprocessing.active_children()) <= before


def test_no_process_is_left_running(processes: ProposalProcesses) -> None:
    before = set(multiprocessing.active_children())
    with processes.running():
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert set(multiprocessing.active_children()) <= before
