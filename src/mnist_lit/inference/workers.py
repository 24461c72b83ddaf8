"""Find the digits in many files in parallel: results come in order, and few files are read ahead. Imports no torch."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.inference.reader import Proposal, propose

STDIN = "-"
CHUNK_SIZE = 16  # files that a worker gets at once, and whose digits are classified in one batch
MIN_CHUNKS = 16  # with fewer, starting processes is not worthwhile
MAX_WORKERS = 8  # more would find digits faster than one network classifies them

Proposed = Proposal | str  # a picture's digits, or why it could not be read
Search = Callable[[Sequence[str], bool], list[Proposed]]  # see `propose_files`

process_stopping = threading.Event()  # set in a worker process once nobody waits for its results any more


def propose_chunks(files: Sequence[str], *, many: bool) -> Iterator[tuple[Sequence[str], list[Proposed]]]:
    """Chunks of files with what was found in each file, in order. Threads open a few files, and processes open more:
    Python's global lock does not hold processes up, and if one crashes, the others' files are still read."""
    size = 1 if many else CHUNK_SIZE  # a page takes a while, and may have hundreds of digits
    chunks = (files[start : start + size] for start in range(0, len(files), size))
    workers = min(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, MAX_WORKERS)
    in_processes = len(files) >= MIN_CHUNKS * size and STDIN not in files
    waiting: deque[tuple[Sequence[str], Future[list[Proposed]]]] = deque()
    pool = _start_processes(workers) if in_processes else ThreadPoolExecutor(workers)
    closing = threading.Event()  # tells this call's threads what `process_stopping` tells a process
    search = propose_files if in_processes else partial(propose_files, stopping=closing)
    try:
        while True:
            while len(waiting) < 2 * workers and (chunk := next(chunks, None)):
                waiting.append((chunk, _submit(pool, search, chunk, many)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                yield chunk, future.result()
            except BrokenProcessPool:  # no chunk in progress has a result, whichever process crashed
                pool.shutdown()
                waiting.appendleft((chunk, future))
                while waiting:
                    chunk, future = waiting.popleft()
                    yield chunk, _search_for_crash(chunk, many) if future.exception() else future.result()
                pool = _start_processes(workers)
    finally:
        closing.set()
        pool.shutdown(cancel_futures=True)


def _submit(pool: Executor, search: Search, files: Sequence[str], many: bool) -> Future[list[Proposed]]:  # noqa: FBT001
    """Give the pool a chunk. If a process has already crashed, the chunk's future says so, as after a later crash."""
    try:
        return pool.submit(search, files, many)
    except BrokenProcessPool as error:
        future = Future[list[Proposed]]()
        future.set_exception(error)
        return future


def propose_files(
    files: Sequence[str],
    many: bool,  # noqa: FBT001  # called by position
    stopping: threading.Event = process_stopping,
) -> list[Proposed]:
    """Each file's digits or error message: one bad file must not cost the others their rows. Raises InputError before
    the next file once `stopping` is set."""
    found = []
    for file in files:
        if stopping.is_set():
            raise InputError("stopped by a signal")
        found.append(_propose(file, many))
    return found


def _propose(file: str, many: bool) -> Proposed:  # noqa: FBT001
    try:
        if file == STDIN and sys.stdin is None:
            raise InputError("expected a picture on standard input, got no standard input")
        if file != STDIN and os.path.isdir(file):  # noqa: PTH112  # Path.is_dir raises for names no file can have
            os.listdir(file)  # raises if it is closed  # noqa: PTH208
            raise InputError("expected pictures, got a folder without any; name one that has some")
        return propose(sys.stdin.buffer if file == STDIN else file, many=many)
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return str(error) if isinstance(error, InputError) else f"could not be read ({reason})"


def _start_processes(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, process_context(__name__), set_up_process)


def process_context(module: str) -> Any:
    """A context that starts processes without forking this one, whose threads (torch, onnxruntime) may not survive a
    fork. A fork server imports the module once for all of them."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([module])
    if "forkserver" in methods:  # Ctrl-C reaches every process: blocked until `set_up_process` can handle it
        resource_tracker.ensure_running()  # first, because starting it unblocks the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def set_up_process() -> None:
    """Use one thread, leave signals to the parent but read no further files after one, and end with the parent."""
    import cv2

    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in `cli.main`
    cv2.setNumThreads(1)  # the processes share the processors already
    signal.signal(signal.SIGINT, lambda *_: process_stopping.set())  # the parent ends its workers
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process even if the one that started the pool was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _search_for_crash(files: Sequence[str], many: bool) -> list[Proposed]:  # noqa: FBT001
    """The files' digits, found in a process of its own. If it crashes, each half of the files gets one."""
    with _start_processes(1) as alone:
        try:
            return alone.submit(propose_files, files, many).result()
        except BrokenProcessPool:
            if len(files) == 1:
                return ["could not be read (it crashed the image decoder)"]
    half = len(files) // 2
    return [*_search_for_crash(files[:half], many), *_search_for_crash(files[half:], many)]
