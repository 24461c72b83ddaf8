"""The server: what it answers, what it refuses, and that a rude or unlucky client costs nobody else anything."""

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
fastapi = pytest.importorskip("fastapi", reason="the serve extra is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from mnist_lit.inference.reader import DigitReader  # noqa: E402
from mnist_lit.inference.serve.app import PAGE, create_app  # noqa: E402
from mnist_lit.inference.serve.limits import HEADERS, Limits  # noqa: E402
from mnist_lit.inference.serve.server import Server  # noqa: E402
from mnist_lit.runs.locate import PRETRAINED_DIR  # noqa: E402

if TYPE_CHECKING:
    from httpx import Response

Cli = Callable[..., tuple[int, str, str]]
Ask = Callable[..., "Response"]
MODEL = PRETRAINED_DIR / "model.onnx"
PNG = {"content-type": "image/png"}


def picture(*columns: int, format: str = "PNG") -> bytes:
    """Upright strokes at these columns, as a file."""
    image = Image.new("L", (280, 280), 255)
    for column in columns:
        ImageDraw.Draw(image).line([(column, 60), (column, 220)], 0, 18)
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def asker(**options: Any) -> Ask:
    """Asks an application of its own, without a network."""
    app = create_app(DigitReader.load(MODEL), **options)

    def ask(method: str, path: str, **request: Any) -> "Response":
        async def send() -> "Response":
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                answer: Response = await client.request(method, path, **request)
                return answer

        return asyncio.run(send())

    return ask


@pytest.fixture(scope="module")
def ask() -> Ask:
    return asker()


@pytest.mark.parametrize(
    "request_",
    [
        {"content": picture(140), "headers": PNG},
        {"content": picture(140, format="JPEG"), "headers": {"content-type": "application/octet-stream"}},
        {"files": {"file": ("digit.png", picture(140))}},
    ],
    ids=["raw", "octets", "form"],
)
def test_a_picture_is_read_however_it_comes(ask: Ask, request_: dict[str, Any]) -> None:
    answer = ask("POST", "/predict", **request_)
    assert answer.status_code == 200
    told = answer.json()
    (reading,) = told["readings"]
    assert told["model"] == f"pretrained/{MODEL.name}"
    assert (reading["digit"], reading["status"], reading["message"]) == ("1", "ok", "")
    assert list(reading["probabilities"]) == list("0123456789")
    assert reading["probability"] == max(reading["probabilities"].values())
    assert sum(reading["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 <= reading["outlier"] <= told["threshold"] <= 1
    assert reading["box"] == pytest.approx([131, 60, 149, 220], abs=6)
    assert reading["image"].startswith("data:image/png;base64,")


def test_many_reads_every_digit_in_order(ask: Ask) -> None:
    readings = ask("POST", "/predict?many=true", content=picture(60, 140, 220), headers=PNG).json()["readings"]
    assert [reading["digit"] for reading in readings] == ["1", "1", "1"]
    assert [round(reading["box"][0], -1) for reading in readings] == pytest.approx([50, 130, 210], abs=10)


def test_pixels_are_read_as_they_are(ask: Ask) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    probabilities, outliers = DigitReader.load(MODEL).classify(images)
    readings = ask("POST", "/predict", json={"pixels": images.tolist()}).json()["readings"]
    told = [list(reading["probabilities"].values()) for reading in readings]
    np.testing.assert_allclose(told, probabilities, atol=1e-6)
    assert [reading["outlier"] for reading in readings] == pytest.approx(outliers.tolist())
    (alone,) = ask("POST", "/predict", json={"pixels": images[0].tolist()}).json()["readings"]
    assert alone["digit"] == readings[0]["digit"]
    (blank,) = ask("POST", "/predict", json={"pixels": np.zeros((28, 28), int).tolist()}).json()["readings"]
    assert (blank["digit"], blank["status"], blank["message"]) == ("", "rejected", "nothing is written here")


ROW = [[0] * 28] * 28


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"content": b"no picture", "headers": PNG}),
        (400, {"content": picture(140)[:200], "headers": PNG}),
        (400, {"content": b"", "headers": PNG}),
        (413, {"content": b"0" * ((20 << 20) + 1), "headers": PNG}),
        (413, {"content": b"[" + b" " * (2 << 20), "headers": {"content-type": "application/json"}}),
        (415, {"content": picture(140)}),
        (415, {"content": b"digit=7", "headers": {"content-type": "text/plain"}}),
        (415, {"content": picture(140), "headers": {**PNG, "content-encoding": "gzip"}}),
        (422, {"content": b"{", "headers": {"content-type": "application/json"}}),
        (422, {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}),
        (422, {"json": {"digit": 7}}),
        (422, {"json": {"pixels": [[0] * 27] * 28}}),
        (422, {"json": {"pixels": [*ROW[1:], [0] * 27]}}),
        (422, {"json": {"pixels": [*ROW[1:], [256] * 28]}}),
        (422, {"json": {"pixels": [*ROW[1:], [-1] * 28]}}),
        (422, {"json": {"pixels": [*ROW[1:], [0.5] * 28]}}),
        (422, {"json": {"pixels": [[True] * 28] * 28}}),
        (422, {"json": {"pixels": [*ROW[1:], [True, *[0] * 27]]}}),
        (422, {"json": {"pixels": [*ROW[1:], [1.0, *[0] * 27]]}}),
        (422, {"json": {"pixels": [*ROW[1:], [None] * 28]}}),
        (422, {"json": {"pixels": [*ROW[1:], ["0"] * 28]}}),
        (422, {"json": {"pixels": [*ROW[1:], [10**30] * 28]}}),
        (422, {"json": {"pixels": []}}),
        (422, {"json": {"pixels": [ROW] * 257}}),
        (422, {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (422, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (422, {"data": {"a": "b"}, "files": {}, "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (422, {"content": picture(140), "headers": PNG, "params": {"many": "perhaps"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "evil.example"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "localhost@evil.example"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://evil.example"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://localhost:3000"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "null"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://["}}),
        (403, {"content": picture(140), "headers": {**PNG, "sec-fetch-site": "cross-site"}}),
    ],
)
def test_wrong_requests_get_one_line(ask: Ask, status: int, request_: dict[str, Any]) -> None:
    answer = ask("POST", "/predict", **request_)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("one\ntwo")], ids=["memory", "other"])
def test_a_failure_is_a_line_to_the_client_and_a_line_in_the_log(
    ask: Ask, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(DigitReader, "read", fail)
    answer = ask("POST", "/predict", content=picture(140), headers=PNG)
    assert (answer.status_code, answer.json()) == (500, {"detail": "the server failed at this; its log says where"})
    assert HEADERS.items() <= dict(answer.headers).items()
    said = capsys.readouterr().err
    assert re.fullmatch(rf"mnist-lit: POST '/predict': {re.escape(repr(error))} at test_serve\.py:\d+\n", said)
    monkeypatch.undo()
    assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200


def test_the_pages_own_posts_and_allowed_names_are_welcome(ask: Ask) -> None:
    own = {**PNG, "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert ask("POST", "/predict", content=picture(140), headers=own).status_code == 200
    named = asker(hosts=["Digits.example"])
    assert named("GET", "/health", headers={"host": "digits.example:80"}).status_code == 200
    assert named("GET", "/health", headers={"host": "example"}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/docs", "/health", "/nothing"])
def test_every_answer_has_the_headers_that_keep_others_out(ask: Ask, path: str) -> None:
    answer = ask("GET", path)
    assert answer.status_code == (404 if path == "/nothing" else 200)
    assert HEADERS.items() <= dict(answer.headers).items()
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_picture_is_posted(ask: Ask) -> None:
    answer = ask("GET", "/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"detail": "expected POST, with a picture as the body"}


@pytest.mark.parametrize("path", sorted(PAGE.glob("*")))
def test_the_page_names_no_other_address(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\"']*", path.read_text(encoding="utf-8"))
    assert addresses in ([], ["http://www.w3.org/2000/svg"])


def test_metrics_count_requests_and_readings() -> None:
    ask = asker()
    ask("POST", "/predict", content=picture(140), headers=PNG)
    ask("POST", "/predict", content=b"", headers=PNG)
    ask("GET", "/a")
    ask("GET", "/b")
    answer = ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert {
        'mnist_lit_requests_total{route="/predict",status="200"} 1',
        'mnist_lit_requests_total{route="/predict",status="400"} 1',
        'mnist_lit_requests_total{route="other",status="404"} 2',
        'mnist_lit_request_seconds_bucket{route="/predict",le="+Inf"} 2',
        'mnist_lit_request_seconds_count{route="/predict"} 2',
        'mnist_lit_readings_total{status="ok"} 1',
    } <= set(lines)
    assert all(re.fullmatch(r"# .*|[a-z_]+(\{.*\})? [\d.e-]+", line) for line in lines)


def test_all_uploads_together_and_all_that_wait_have_a_limit() -> None:
    ask = asker(limits=Limits(bodies=10_000))
    assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200
    for busy, body in ((ask, b"0" * 10_001), (asker(limits=Limits(waiting=0)), picture(140))):
        answer = busy("POST", "/predict", content=body, headers=PNG)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


class Served:
    """A server in a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "mnist_lit", "serve", "--model", str(MODEL), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = re.findall(r"http://\S+", self.process.stdout.readline())[0]
        self.connections: list[socket.socket] = []
        self.port = int(self.address.rsplit(":", 1)[1].strip("/"))

    def connect(self, head: str = "") -> socket.socket:
        """A connection on which this much of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.connections.append(connection)
        connection.sendall(head.encode())
        return connection

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and what it complained of, after a signal."""
        self.process.send_signal(signum)
        _, complaints = self.process.communicate(timeout=30)
        return self.process.returncode, complaints


POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.fixture
def serving() -> Iterator[Callable[..., Served]]:
    started = []

    def start(*options: str) -> Served:
        started.append(Served(*options))
        return started[-1]

    yield start
    for server in started:
        for connection in server.connections:
            connection.close()
        server.process.kill()
        server.process.communicate()


def until_closed(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(1 << 16):
            answer += more
    return answer


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_upload_is_refused_at_once_and_costs_no_memory(serving: Callable[..., Served], chunked: bool) -> None:
    server = serving("--max_mb", "1")
    assert httpx.get(server.address + "health").status_code == 200
    before, begun = memory(server.process.pid), time.monotonic()
    head = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {1 << 30}"
    with server.connect(f"{POST}{head}\r\n\r\n") as connection:
        answered = threading.Thread(target=lambda: replies.append(until_closed(connection)))
        replies: list[bytes] = []
        answered.start()
        if chunked:
            with contextlib.suppress(ConnectionError):  # until the server hangs up
                while True:
                    connection.sendall(b"10000\r\n" + b"0" * 0x10000 + b"\r\n")
        answered.join()
    assert time.monotonic() - begun < 1.5
    assert replies[0].startswith(b"HTTP/1.1 413")
    assert b"connection: close" in replies[0].lower()
    assert memory(server.process.pid) - before < 20 << 20
    assert server.end() == (0, "")


def test_slow_clients_delay_nobody_and_are_hung_up_on(serving: Callable[..., Served]) -> None:
    server = serving("--timeout", "2")
    slow = [server.connect("GET /health HT") for _ in range(50)]
    slow += [server.connect(f"{POST}Content-Length: 1000\r\n\r\n0") for _ in range(50)]
    begun = time.monotonic()
    assert httpx.get(server.address + "health").status_code == 200
    assert time.monotonic() - begun < 1
    assert until_closed(slow[0]) == b""
    assert until_closed(slow[-1]).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 5
    for connection in slow:
        connection.close()
    with server.connect(f"{POST}Content-Length: 1000\r\n\r\n0"):
        pass  # this one goes away by itself
    assert server.end() == (0, "")


def test_a_client_that_takes_nothing_of_its_answer_is_hung_up_on(serving: Callable[..., Served]) -> None:
    server = serving("--timeout", "1")
    ask = b"GET /swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    size = len(httpx.get(f"{server.address}swagger-ui/swagger-ui-bundle.js").content)
    idle, slow = server.connect(), server.connect()
    for connection in (idle, slow):
        connection.sendall(20 * ask)
    taken = 0
    for step in range(1, 11):
        while taken < step * size:
            taken += len(slow.recv(1 << 18))
        time.sleep(0.25)
    assert len(until_closed(idle)) < 20 * size < taken + len(until_closed(slow))
    assert server.end() == (0, "")


def test_what_is_no_http_is_refused_like_all_else(serving: Callable[..., Served]) -> None:
    server = serving()
    answer = until_closed(server.connect("GET / HTTP/1.1\r\n\r\n")).decode()  # without a host
    assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith('{"detail":"Invalid HTTP request received."}')
    head = answer.lower().split("\r\n")
    assert {f"{name}: {value}".lower() for name, value in HEADERS.items()} <= set(head)
    with server.connect(f"{POST}Content-Length: {21 << 20}\r\n\r\n") as connection:
        answer = until_closed(connection).decode()
    assert answer.startswith("HTTP/1.1 413")
    broken = server.connect("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert broken.recv(100).startswith(b"HTTP/1.1 421")
    broken.sendall(b"no chunk\r\n")
    until_closed(broken)
    _, complaints = server.end()
    assert complaints.splitlines() == ["WARNING:  Invalid HTTP request received."] * 2


def test_too_many_connections_are_refused_like_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.inference.serve.server.CONNECTIONS", 1)
    app, answers = create_app(DigitReader.load(MODEL)), []

    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = Server(app, seconds=5)
            running = asyncio.create_task(serving._serve([listener]))
            address = listener.getsockname()
            first = await asyncio.open_connection(*address)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append((await reader.read()).decode())
            first[1].close()
            writer.close()
            serving.should_exit = True
            await running

    asyncio.run(serve())
    head = answers[0].lower().split("\r\n")
    assert head[0] == "http/1.1 503 service unavailable"
    assert {f"{name}: {value}".lower() for name, value in HEADERS.items()} | {"retry-after: 1"} <= set(head)
    assert head[-1] == '{"detail":"too many connections at once; try again"}'


def test_an_answers_body_does_not_wait_for_its_head_to_arrive(serving: Callable[..., Served]) -> None:
    seconds = []
    with httpx.Client(base_url=serving().address) as client:
        for _ in range(20):
            begun = time.perf_counter()
            client.get("/health")
            seconds.append(time.perf_counter() - begun)
    assert sorted(seconds)[10] < 0.03


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_answers_under_way(serving: Callable[..., Served], signum: int) -> None:
    server, body = serving(), picture(140)
    request = f"{POST}Content-Length: {len(body)}\r\n\r\n".encode() + body
    under_way = [server.connect() for _ in range(5)]
    for connection in under_way[1:]:  # the first has not asked yet
        connection.sendall(request[:200])
    time.sleep(0.2)
    server.process.send_signal(signum)
    time.sleep(0.3)
    under_way[0].sendall(request[:200])
    for connection in under_way:
        connection.sendall(request[200:])
    for connection in under_way:
        answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert b'"digit":"1"' in answer
    assert server.process.wait(10) == 0


def test_the_serving_process_has_no_torch() -> None:
    program = """
import sys, threading, os, signal, time, urllib.request
from mnist_lit.inference.serve import server
run = server.Server.run
def watched(self, sockets):
    def look():
        urllib.request.urlopen("http://127.0.0.1:%d/health" % sockets[0].getsockname()[1]).read()
        print([name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision", "lightning")])
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=look).start()
    run(self, sockets)
server.Server.run = watched
from mnist_lit.cli.main import main
sys.exit(main(["serve", "--model", sys.argv[1], "--port", "0"]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(MODEL)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "[]"


def test_a_taken_port_and_a_strange_address_are_one_line(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = cli("serve", "--model", str(MODEL), "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"cannot listen at 127.0.0.1, port {port}" in err
    for option in (("--host", "no.such.host.invalid"), ("--port", "70000"), ("--threads", "0")):
        code, out, err = cli("serve", "--model", str(MODEL), *option)
        assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("package", ["fastapi", "fastapi_offline", "python_multipart", "uvicorn"])
def test_a_missing_package_is_named_with_the_extra(package: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("answers", "app", "bodies", "limits", "server"):
        monkeypatch.delitem(sys.modules, f"mnist_lit.inference.serve.{module}", raising=False)
        monkeypatch.delattr(f"mnist_lit.inference.serve.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = cli("serve", "--model", str(MODEL), "--port", "99999")  # which would be refused next
    assert (code, err.count("\n")) == (2, 1)
    assert f"serving needs {package}; pip install 'mnist-lit[serve]'" in err


def test_a_checkpoint_is_to_be_exported_first(cli: Cli) -> None:
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    best.parent.mkdir(parents=True)
    best.touch()
    for given in (str(best), "latest", "lightning_logs/version_0"):
        code, _, err = cli("serve", "--model", given)
        assert (code, err.count("\n")) == (2, 1)
        assert "`mnist-lit export --model lightning_logs/version_0/checkpoints/best.ckpt` makes" in err


def test_the_newest_runs_exported_model_is_served_where_there_is_one() -> None:
    from mnist_lit.cli.serve import _model

    assert _model(None) == (DigitReader.load("pretrained").path, "")
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    best.parent.mkdir(parents=True)
    best.touch()
    assert "the newest run has no model.onnx" in _model(None)[1]
    Path("lightning_logs/version_0/model.onnx").write_bytes(MODEL.read_bytes())
    assert _model(None) == _model("latest") == (Path("lightning_logs/version_0/model.onnx"), "")
    os.utime(best, (time.time() + 9,) * 2)
    assert _model(None)[1] == " (older than its checkpoint; `mnist-lit export` renews it)"


@pytest.mark.parametrize("location", ["weights.bin", "../x/weights.bin"])
def test_a_model_whose_data_lie_in_another_file_is_refused(
    location: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x").mkdir()
    monkeypatch.chdir("x")
    onnx.save_model(
        onnx.load(MODEL), "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1024
    )
    model = onnx.load("split.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    Path("split.onnx").write_bytes(model.SerializeToString())
    assert Path(location).stat().st_size > 100_000
    code, _, err = cli("serve", "--model", "split.onnx", "--port", "99999")  # which would be refused next
    assert (code, err.count("\n")) == (2, 1)
    assert "split.onnx is no model that mnist-lit exported" in err
