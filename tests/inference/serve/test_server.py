"""Slow, silent and broken clients cost the others nothing; shutting down loses no request."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inference.serve.clients import PNG, POST, picture, read_until_closed
from mnist_lit.inference.reader import DigitReader

if TYPE_CHECKING:
    from starlette.requests import Request

    from inference.serve.conftest import ServerProcess, ServerThread

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from mnist_lit.inference.serve.answers import answer  # noqa: E402
from mnist_lit.inference.serve.app import create_app  # noqa: E402
from mnist_lit.inference.serve.bodies import read_body  # noqa: E402
from mnist_lit.inference.serve.guard import HEADERS  # noqa: E402
from mnist_lit.inference.serve.limits import Limits  # noqa: E402
from mnist_lit.inference.serve.server import Server  # noqa: E402

ServeInThread = Callable[..., "ServerThread"]
ServeInProcess = Callable[..., "ServerProcess"]


def test_slow_clients_delay_nobody_and_are_disconnected(
    serve_in_thread: ServeInThread, capsys: pytest.CaptureFixture[str]
) -> None:
    patient, server = serve_in_thread(60), serve_in_thread(1)
    slow = [patient.connect("GET /health HT") for _ in range(50)]
    slow += [patient.connect(f"{POST}Content-Length: 1000\r\n\r\n0") for _ in range(50)]
    assert httpx.get(patient.address + "health", timeout=30).status_code == 200  # before it disconnects the slow ones
    assert read_until_closed(server.connect("GET /health HT")) == b""
    assert read_until_closed(server.connect(f"{POST}Content-Length: 1000\r\n\r\n0")).startswith(b"HTTP/1.1 408")
    patient.close()
    server.close()
    with server.connect(f"{POST}Content-Length: 1000\r\n\r\n0"):
        pass  # this one disconnects
    server.stop()
    assert capsys.readouterr().err == ""


class BusyThreads:
    """Readings that wait until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived, self.may_go_on = threading.Semaphore(0), threading.Event()
        self.read: list[int] = []  # the pictures' sizes

        async def wait_for_body(request: "Request") -> tuple[bytes, bool]:
            body = await read_body(request)
            self.arrived.release()
            return body

        def wait_for_permission(reader: Any, propose: Any, data: bytes, **options: bool) -> Any:
            self.read.append(len(data))
            self.may_go_on.wait(30)
            return answer(reader, propose, data, **options)

        monkeypatch.setattr("mnist_lit.inference.serve.app.read_body", wait_for_body)
        monkeypatch.setattr("mnist_lit.inference.serve.app.answer", wait_for_permission)


def test_a_picture_whose_client_has_left_is_not_read(
    serve_in_thread: ServeInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, busy = serve_in_thread(60), BusyThreads(monkeypatch)
    small, large = picture(140), bytes(1 << 20)

    def post(body: bytes) -> socket.socket:
        connection = server.connect(f"{POST}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n")
        connection.sendall(body)
        assert busy.arrived.acquire(timeout=30)
        return connection

    both_threads = [post(small), post(small)]
    post(large).close()
    httpx.get(server.address + "health")  # when this is answered, the server has noticed
    last = post(small)
    busy.may_go_on.set()
    for connection in (*both_threads, last):
        assert read_until_closed(connection).startswith(b"HTTP/1.1 200")
    assert busy.read == 3 * [len(small)]
    metrics = httpx.get(server.address + "metrics").text
    assert 'mnist_lit_requests_total{route="/predict",status="400"} 1.0' in metrics


def test_pictures_that_arrive_at_once_wait_in_a_line_of_limited_length(
    reader: DigitReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, transport = (
        BusyThreads(monkeypatch),
        httpx.ASGITransport(create_app(reader, limits=Limits(threads=1, waiting=2))),
    )

    async def post_all() -> list[int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            posts = [client.post("/predict", content=picture(140), headers=PNG) for _ in range(6)]
            first, *others = [asyncio.create_task(post) for post in posts]
            await asyncio.wait(others[2:], timeout=30)
            busy.may_go_on.set()
            return [(await post).status_code for post in (first, *others)]

    assert asyncio.run(post_all()) == [200, 200, 200, 503, 503, 503]


def test_a_client_that_reads_nothing_of_its_response_is_disconnected(
    serve_in_thread: ServeInThread, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_in_thread(0.6)
    request = b"GET /swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    size = len(httpx.get(f"{server.address}swagger-ui/swagger-ui-bundle.js").content)
    idle, slow = server.connect(), server.connect()
    for connection in (idle, slow):
        connection.sendall(20 * request)
    received = 0
    for step in range(1, 9):
        while received < step * size:
            received += len(slow.recv(1 << 18))
        time.sleep(0.15)  # 1.2 s in all, twice the timeout
    assert len(read_until_closed(idle)) < 20 * size < received + len(read_until_closed(slow))
    server.stop()
    assert capsys.readouterr().err == ""


def test_invalid_http_is_refused_in_one_line(
    serve_in_thread: ServeInThread, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve_in_thread()
    response = read_until_closed(server.connect("GET / HTTP/1.1\r\n\r\n")).decode()
    assert response.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert response.endswith('{"detail":"invalid HTTP request"}')
    head = response.lower().split("\r\n")
    assert {f"{name}: {value}".lower() for name, value in HEADERS.items()} <= set(head)
    with server.connect(f"{POST}Content-Length: {21 << 20}\r\n\r\n") as connection:
        assert read_until_closed(connection).startswith(b"HTTP/1.1 413")
    for invalid in ("\x16\x03\x01\x02\r\n\r\n", f"{POST}Host: localhost\r\n\r\n", f"{POST}Content-Length: -1\r\n\r\n"):
        assert read_until_closed(server.connect(invalid)).endswith(b'{"detail":"invalid HTTP request"}')
    metrics = httpx.get(server.address + "metrics").text
    assert 'mnist_lit_requests_total{route="other",status="400"} 4.0' in metrics
    broken = server.connect("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert broken.recv(100).startswith(b"HTTP/1.1 421")
    broken.sendall(b"no chunk\r\n")
    read_until_closed(broken)
    upgrade = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert server.connect(upgrade).recv(100).startswith(b"HTTP/1.1 200")
    server.stop()
    assert capsys.readouterr().err == ""  # or any client could fill the log


def test_requests_and_refusals_are_logged_if_asked_for(serve_in_process: ServeInProcess) -> None:
    server = serve_in_process("--access_log", "--timeout", "1")
    assert server.process.stdout
    post = f"{POST}Content-Length:"
    for sent, logged in (
        ("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", '"GET /health HTTP/1.1" 200'),
        (f"{post} 9\r\nOrigin: http://evil.example\r\n\r\n", '"POST /predict HTTP/1.1" 403'),
        (f"{post} 9\r\n\r\n", '"POST /predict HTTP/1.1" 408'),
        (f"{post} {21 << 20}\r\n\r\n", '"POST /predict HTTP/1.1" 413'),
        ("GET /?a=%0A HTTP/1.1\r\nHost: evil.example\r\n\r\n", '"GET /?a=%0A HTTP/1.1" 421'),
    ):
        server.connect(sent)
        assert logged in server.process.stdout.readline()
    assert server.end() == (0, "")


def test_a_head_over_the_limit_and_an_ambiguous_length_are_refused(serve_in_thread: ServeInThread) -> None:
    server = serve_in_thread()
    for size, status in ((15_000, b"200"), (17_000, b"400"), (60_000, b"400")):
        for head in (f"GET /health?{'x' * size} HTTP/1.1\r\n", f"GET /health HTTP/1.1\r\nX: {'x' * size}\r\n"):
            with server.connect(f"{head}Host: localhost\r\n\r\n") as connection:
                assert connection.recv(1000).startswith(b"HTTP/1.1 " + status)
    health = "GET /health HTTP/1.1\r\nHost: localhost\r\n"
    both = f"{health}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    response = read_until_closed(server.connect(f"{both}{health}\r\n"))
    assert response.startswith(b"HTTP/1.1 400")
    assert response.count(b"HTTP/1.1") == 1  # the connection was closed


def test_too_many_connections_are_refused_in_one_line(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.inference.serve.server.MAX_CONNECTIONS", 1)
    app, responses = create_app(reader), []

    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = Server(app, seconds=5)
            running = asyncio.create_task(server._serve([listener]))
            address = listener.getsockname()
            _, first_writer = await asyncio.open_connection(*address)
            second_reader, second_writer = await asyncio.open_connection(*address)
            second_writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            responses.append((await second_reader.read()).decode())
            first_writer.close()
            second_writer.close()
            server.should_exit = True
            await running

    asyncio.run(serve())
    head = responses[0].lower().split("\r\n")
    assert head[0] == "http/1.1 503 service unavailable"
    assert {f"{name}: {value}".lower() for name, value in HEADERS.items()} | {"retry-after: 1"} <= set(head)
    assert head[-1] == '{"detail":"too many connections at once; try again"}'


def test_a_responses_body_does_not_wait_for_its_head_to_arrive(serve_in_thread: ServeInThread) -> None:
    seconds = []
    with httpx.Client(base_url=serve_in_thread().address) as client:
        for _ in range(20):
            begun = time.perf_counter()
            client.get("/health")
            seconds.append(time.perf_counter() - begun)
    assert sorted(seconds)[10] < 0.03


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_responses_in_progress(serve_in_process: ServeInProcess, signum: int) -> None:
    server, body = serve_in_process(), picture(140)
    request = f"{POST}Content-Length: {len(body)}\r\n\r\n".encode() + body
    connections = [server.connect() for _ in range(5)]
    for connection in connections[1:]:  # the first has sent nothing yet
        connection.sendall(request[:200])
    time.sleep(0.2)
    server.process.send_signal(signum)
    time.sleep(0.3)
    connections[0].sendall(request[:200])
    for connection in connections:
        connection.sendall(request[200:])
    for connection in connections:
        response = read_until_closed(connection)
        assert response.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in response.lower()
        assert b'"digit":"1"' in response
    assert server.process.wait(10) == 0


def test_ctrl_c_pressed_twice_ends_the_server_without_a_traceback(serve_in_process: ServeInProcess) -> None:
    server = serve_in_process()
    server.connect(f"{POST}Content-Length: 1000\r\n\r\n0")
    time.sleep(0.2)
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    assert server.end(signal.SIGINT) == (0, "")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_server(serve_in_process: ServeInProcess, signum: int) -> None:
    server = serve_in_process()
    assert httpx.post(f"{server.address}predict", content=picture(140), headers=PNG).status_code == 200
    started = descendants(server.process.pid)
    assert len(started) >= 2  # the fork server, and at least one process that finds digits
    server.end(signum)
    until = time.monotonic() + 10
    while running := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, running
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return [*children, *(one for child in children for one in descendants(child))]
