"""An application that is called without a network, a server in a thread and a server in a process."""

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.locate import PRETRAINED_DIR

if TYPE_CHECKING:
    from httpx import Response

Ask = Callable[..., "Response"]
MODEL = PRETRAINED_DIR / "model.onnx"


@pytest.fixture(scope="session")
def reader() -> DigitReader:
    return DigitReader.load(MODEL)


@pytest.fixture(scope="session")
def make_ask(reader: DigitReader) -> Callable[..., Ask]:
    """Create an application with these options; returns a function that sends it a request."""
    import httpx

    from mnist_lit.inference.serve.app import create_app

    def make(**options: Any) -> Ask:
        app = create_app(reader, **options)

        def ask(method: str, path: str, **request: Any) -> "Response":
            async def send() -> "Response":
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                    return await client.request(method, path, **request)

            return asyncio.run(send())

        return ask

    return make


@pytest.fixture(scope="session")
def ask(make_ask: Callable[..., Ask]) -> Ask:
    """Send a request to an application with the default limits."""
    return make_ask()


class Connections:
    """Opens connections to a server, and closes those that a test leaves open."""

    def __init__(self, port: int) -> None:
        self.port, self.address = port, f"http://127.0.0.1:{port}/"
        self.opened: list[socket.socket] = []

    def connect(self, sent: str = "") -> socket.socket:
        """A connection on which this much of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.opened.append(connection)
        connection.sendall(sent.encode())
        return connection

    def close(self) -> None:
        """Close every connection."""
        for connection in self.opened:
            connection.close()


class ServerThread(Connections):
    """A server in a thread of this process, with timeouts of less than a second."""

    def __init__(self, reader: DigitReader, seconds: float) -> None:
        from mnist_lit.cli.serve import _listen
        from mnist_lit.inference.serve.app import create_app
        from mnist_lit.inference.serve.limits import Limits
        from mnist_lit.inference.serve.server import Server

        listener = _listen("127.0.0.1", 0)
        super().__init__(listener.getsockname()[1])
        app = create_app(reader, limits=Limits(seconds=seconds))
        self.server = Server(app, seconds=seconds)  # type: ignore[arg-type]  # whole seconds on the command line
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()

    def stop(self) -> None:
        """Shut down."""
        self.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def serve_in_thread(reader: DigitReader) -> Iterator[Callable[..., ServerThread]]:
    """Start a server whose timeouts are this many seconds."""
    with contextlib.ExitStack() as stack:

        def start(seconds: float = 5) -> ServerThread:
            server = ServerThread(reader, seconds)
            stack.callback(server.stop)
            return server

        yield start


class ServerProcess(Connections):
    """`mnist-lit serve` in a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "mnist_lit", "serve", "--model", str(MODEL), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        super().__init__(int(re.findall(r"http://\S+:(\d+)/", self.process.stdout.readline())[0]))

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; returns the exit code and stderr."""
        self.process.send_signal(signum)
        _, stderr = self.process.communicate(timeout=30)
        return self.process.returncode, stderr

    def stop(self) -> None:
        """Kill it if it is still running."""
        self.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve_in_process() -> Iterator[Callable[..., ServerProcess]]:
    """Start `mnist-lit serve` with these options."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> ServerProcess:
            server = ServerProcess(*options)
            stack.callback(server.stop)
            return server

        yield start
