"""Find a picture's digits in another process, which is killed if that takes too long.

Limits on bytes and pixels do not bound the time. Pillow walks through the chunks, markers, strips and tags of a file in
Python, and even decodes a few formats in it; a small progressive JPEG can describe thousands of scans of a large
picture. Neither Python nor a decoder written in C can be interrupted in a thread. A process can be killed, and its
crash does not affect the others."""

import contextlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.inference.reader import Proposal, propose
from mnist_lit.inference.workers import process_context, set_up_process


class ProcessEnded(InputError):
    """A picture took too long or crashed the process that opened it."""


class ProposalProcesses:
    """Processes that find the digits of one picture at a time, started as they are needed and kept for the next."""

    def __init__(self, seconds: float) -> None:
        """seconds: for one picture."""
        self.seconds = seconds
        self.idle: list[tuple[BaseProcess, Connection]] = []

    def propose(self, picture: bytes, *, many: bool) -> Proposal:
        """`reader.propose` with a time limit. Can be called by several threads. Raises InputError for a picture that is
        unreadable, takes too long or crashes its process."""
        process, connection = self._take()
        try:
            connection.send((picture, many))
            result: Any = connection.recv() if connection.poll(self.seconds) else None
        except BaseException as error:
            _stop(process, connection)
            if not isinstance(error, EOFError | OSError):
                raise
            raise ProcessEnded("expected a picture, got one that crashed the image decoder") from error
        if result is None:
            _stop(process, connection)
            raise ProcessEnded(f"reading the picture took longer than {self.seconds:g} s; make it smaller")
        self.idle.append((process, connection))
        if isinstance(result, Exception):
            raise result
        proposal: Proposal = result
        return proposal

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start a process now rather than for the first picture, and stop those that are idle at the end."""
        self.idle.append(self._take())
        try:
            yield
        finally:
            with contextlib.suppress(IndexError):
                while True:
                    _stop(*self.idle.pop())

    def _take(self) -> tuple[BaseProcess, Connection]:
        with contextlib.suppress(IndexError):  # another thread may take the last one at any time
            while True:
                process, connection = self.idle.pop()
                if process.is_alive():
                    return process, connection
                _stop(process, connection)  # it was killed from outside
        context = process_context(__name__)
        ours, theirs = context.Pipe()
        process = context.Process(target=_propose_each, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, ours


def _stop(process: BaseProcess, connection: Connection) -> None:
    connection.close()
    process.kill()
    process.join()
    process.close()


def _propose_each(connection: Connection) -> None:
    """Answer each picture with its digits or an exception, until the other end is closed."""
    set_up_process()
    with contextlib.suppress(EOFError, OSError):
        while True:
            picture, many = connection.recv()
            try:
                connection.send(propose(picture, many=many))
            except InputError as error:
                connection.send(error)
            except Exception as error:  # which may hold something that cannot be pickled
                connection.send(RuntimeError(repr(error)))
