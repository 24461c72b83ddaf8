"""Threads and processes find the same digits, in order; a crash costs one file."""

import errno
import itertools
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from mnist_lit.errors import InputError
from mnist_lit.inference import workers
from mnist_lit.inference.reader import Proposal, propose
from mnist_lit.inference.workers import CHUNK_SIZE, MIN_CHUNKS, Proposed, propose_chunks, propose_files


def draw(path: str) -> None:
    """Save a picture of a one."""
    image = Image.new("L", (30, 50), 235)
    ImageDraw.Draw(image).line([(15, 6), (13, 44)], fill=20, width=4)
    image.save(path)


def propose_or_crash(files: Sequence[str], many: bool) -> list[Proposed]:
    """Kill the process that opens crash.png."""
    if "crash.png" in files:
        os.kill(os.getpid(), signal.SIGKILL)
    return propose_files(files, many)


def test_a_bad_file_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    draw("one.png")
    Path("strange.png").touch()
    os.mkfifo("pipe.png")

    def failing(path: str, *, many: bool) -> Proposal:
        if path == "strange.png":
            raise MemoryError
        return propose(path, many=many)

    monkeypatch.setattr(workers, "propose", failing)
    ((_, found),) = propose_chunks(["strange.png", "pipe.png", "x" * 5000 + ".png", "one.png"], many=False)
    assert found[0] == "could not be read (MemoryError)"
    assert "a pipe or a device, not a file" in found[1]
    assert [isinstance(proposal, str) for proposal in found] == [True, True, True, False]

    def closed(folder: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    monkeypatch.setattr(os, "listdir", closed)
    assert propose_files(["."], many=False) == ["could not be read (Permission denied)"]


def test_processes_find_what_threads_find_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    draw("one.png")
    files = ["one.png" if index % 3 else f"missing{index}.png" for index in range(2 * CHUNK_SIZE + 3)]
    by_threads = list(propose_chunks(files, many=False))
    monkeypatch.setattr(workers, "MIN_CHUNKS", 1)
    by_processes = list(propose_chunks(files, many=False))
    assert [file for chunk, _ in by_processes for file in chunk] == files
    assert str(by_processes) == str(by_threads)


def test_a_few_files_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(workers, "ProcessPoolExecutor")
    files = ["missing.png"] * (CHUNK_SIZE * MIN_CHUNKS - 1)
    assert sum(len(found) for _, found in propose_chunks(files, many=False)) == len(files)


def test_a_file_that_crashes_a_process_costs_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    draw("one.png")
    monkeypatch.setattr(workers, "MIN_CHUNKS", 1)
    monkeypatch.setattr(workers, "CHUNK_SIZE", 2)
    monkeypatch.setattr(workers, "propose_files", propose_or_crash)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # processes import this module by its full name
    files = ["one.png", "one.png", "one.png", "crash.png", "one.png"]
    found = [proposal for _, of_chunk in propose_chunks(files, many=False) for proposal in of_chunk]
    assert [isinstance(proposal, str) for proposal in found] == [file == "crash.png" for file in files]
    assert found[3] == "could not be read (it crashed the image decoder)"


def test_a_crash_before_the_next_chunk_is_given_away_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    class Breaking(ThreadPoolExecutor):
        def submit(self, *args: Any) -> Any:  # type: ignore[override]
            if next(numbers) == 7:
                raise BrokenProcessPool
            return super().submit(*args)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *options: Breaking(1))
    files = [f"missing{number}.png" for number in range(CHUNK_SIZE * MIN_CHUNKS)]
    chunks = list(propose_chunks(files, many=False))
    assert [file for chunk, _ in chunks for file in chunk] == files
    assert {len(found) for _, found in chunks} == {CHUNK_SIZE}


def test_a_process_reads_no_further_files_once_it_is_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_end_with_parent", lambda: None)
    before = signal.getsignal(signal.SIGINT)
    try:
        workers.set_up_process()
        warnings.warn_explicit("of a process", RuntimeWarning, "Image.py", 1, "PIL.Image")  # hidden in our own ones
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(InputError, match="stopped by a signal"):
            propose_files(["missing.png"], many=False)
    finally:
        workers.process_stopping.clear()
        signal.signal(signal.SIGINT, before)


def test_threads_that_stop_reading_do_not_stop_those_of_another_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stopping, released = (threading.Event() for _ in range(3))
    opened = []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **options: Any) -> None:
            stopping.set()
            super().shutdown(*args, **options)

    def slow(path: str, *, many: bool) -> Proposal:
        opened.append(path)
        if path == "slow.png":
            begun.set()
            released.wait(60)
        raise InputError("read")

    monkeypatch.setattr(workers, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(workers, "propose", slow)
    stopped = propose_chunks(["fast.png"] * CHUNK_SIZE + ["slow.png", "later.png"], many=False)
    next(stopped)
    begun.wait(60)
    thread = threading.Thread(target=stopped.close)  # type: ignore[attr-defined]
    thread.start()
    stopping.wait(60)
    try:
        assert list(propose_chunks(["fast.png"], many=False)) == [(["fast.png"], ["read"])]
    finally:
        released.set()
        thread.join()
    assert "later.png" not in opened


def test_files_are_opened_only_a_little_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note(files: Sequence[str], many: bool) -> list[Proposed]:
        opened.extend(files)
        return [""] * len(files)

    monkeypatch.setattr(workers, "propose_files", note)
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *options: ThreadPoolExecutor(2))
    chunks = propose_chunks([str(number) for number in range(10_000)], many=False)
    next(chunks)
    assert len(opened) <= CHUNK_SIZE * 2 * workers.MAX_WORKERS
    chunks.close()  # type: ignore[attr-defined]
