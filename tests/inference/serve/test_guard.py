"""Requests over the limits and from other sites are refused; an error is one line."""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from inference.serve.clients import PNG, POST, SLOW, picture, read_until_closed
from mnist_lit.inference.reader import DigitReader

if TYPE_CHECKING:
    from httpx import Response

    from inference.serve.conftest import ServerProcess

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from fastapi import HTTPException  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402

from mnist_lit.inference.serve.guard import HEADERS, GuardMiddleware  # noqa: E402
from mnist_lit.inference.serve.limits import Limits  # noqa: E402
from mnist_lit.inference.serve.metrics import Metrics  # noqa: E402

Ask = Callable[..., "Response"]


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (413, {"content": b"0" * ((20 << 20) + 1), "headers": PNG}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "evil.example"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "localhost@evil.example"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "localhost.."}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": ""}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "[::2]:8000"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://evil.example"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://localhost:3000"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "null"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://["}}),
        (403, {"content": picture(140), "headers": {**PNG, "sec-fetch-site": "cross-site"}}),
        (403, {"content": picture(140), "headers": {**PNG, "sec-fetch-site": "same-site"}}),
    ],
)
def test_a_request_is_refused_in_one_line(ask: Ask, status: int, request_: dict[str, Any]) -> None:
    response = ask("POST", "/predict", **request_)
    assert (response.status_code, list(response.json())) == (status, ["detail"])
    assert response.json()["detail"]
    assert "\n" not in response.json()["detail"]


def test_the_pages_own_posts_and_allowed_names_are_accepted(ask: Ask, make_ask: Callable[..., Ask]) -> None:
    own = {**PNG, "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert ask("POST", "/predict", content=picture(140), headers=own).status_code == 200
    named = make_ask(hosts=["Digits.example"])
    assert named("GET", "/health", headers={"host": "digits.example:80"}).status_code == 200
    assert named("GET", "/health", headers={"host": "example"}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "localhost.", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_this_machines_own_names_are_accepted_and_their_pages_may_post(ask: Ask, host: str) -> None:
    assert ask("GET", "/health", headers={"host": host, "sec-fetch-site": "cross-site"}).status_code == 200
    for scheme in ("http", "https"):
        own = {**PNG, "host": host, "origin": f"{scheme}://{host}", "sec-fetch-site": "none"}
        assert ask("POST", "/predict", content=picture(140), headers=own).status_code == 200


ORIGIN = {"origin": "https://example.org", "sec-fetch-site": "cross-site"}
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@pytest.fixture(scope="module")
def ask_across(make_ask: Callable[..., Ask]) -> Ask:
    """Send a request to an application that pages of two other sites may use."""
    return make_ask(origins=["https://example.org", "http://[::1]:3000"])


@pytest.mark.parametrize("origin", ["https://example.org", "http://[::1]:3000"])
def test_a_page_of_an_allowed_origin_can_send_pictures(ask_across: Ask, origin: str) -> None:
    headers = {**ORIGIN, "origin": origin}
    preflight = ask_across("OPTIONS", "/predict?many=true", headers=headers | PREFLIGHT)
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
    response = ask_across("POST", "/predict?many=true", content=picture(140), headers=headers | PNG)
    too_large = ask_across("POST", "/predict", content=b"0" * ((20 << 20) + 1), headers=headers | PNG)
    assert (response.status_code, too_large.status_code) == (200, 413)
    for one in (preflight, response, too_large):
        assert one.headers["access-control-allow-origin"] == origin
        assert "origin" in one.headers["vary"].lower()
        assert "access-control-allow-credentials" not in one.headers
    assert HEADERS.items() <= dict(response.headers).items()


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org",
        "https://example.org:8443",
        "https://example.org.evil.example",
        "https://sub.example.org",
        "https://evilexample.org",
        "https://example.org/",
        "null",
        "*",
    ],
)
def test_no_other_origin_is_allowed(ask_across: Ask, origin: str) -> None:
    headers = {**ORIGIN, "origin": origin}
    preflight = ask_across("OPTIONS", "/predict", headers=headers | PREFLIGHT)
    response = ask_across("POST", "/predict", content=picture(140), headers=headers | PNG)
    assert (preflight.status_code, response.status_code) == (400, 403)
    for one in (preflight, response, ask_across("GET", "/health", headers=headers)):
        assert "access-control-allow-origin" not in one.headers


def test_an_allowed_origin_changes_nothing_else(ask: Ask, ask_across: Ask) -> None:
    known = {"content": picture(140), "headers": ORIGIN | PNG}
    assert ask_across("POST", "/predict", content=picture(140), headers=PNG).status_code == 200
    assert (
        ask_across("POST", "/predict", **known | {"headers": ORIGIN | PNG | {"host": "evil.example"}}).status_code
        == 421
    )
    assert (
        ask_across("POST", "/predict", content=picture(140), headers=PNG | {"sec-fetch-site": "same-site"}).status_code
        == 403
    )
    assert ask("POST", "/predict", **known).status_code == 403
    preflight = ask("OPTIONS", "/predict", headers=ORIGIN | PREFLIGHT)
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_the_headers_allow_nothing_that_the_page_does_not_need(ask: Ask) -> None:
    headers = ask("GET", "/").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",  # no other site may put the page into a frame
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/docs", "/health", "/nothing"])
def test_every_response_has_the_security_headers(ask: Ask, path: str) -> None:
    response = ask("GET", path)
    assert response.status_code == (404 if path == "/nothing" else 200)
    assert HEADERS.items() <= dict(response.headers).items()
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("one\ntwo")], ids=["memory", "other"])
def test_an_error_is_one_line_to_the_client_and_one_in_the_log(
    ask: Ask, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(DigitReader, "decide", fail)
    response = ask("POST", "/predict", content=picture(140), headers=PNG)
    assert (response.status_code, response.json()) == (500, {"detail": "internal error; the server's log shows where"})
    assert HEADERS.items() <= dict(response.headers).items()
    logged = capsys.readouterr().err
    assert re.fullmatch(rf"mnist-lit: POST '/predict': {re.escape(repr(error))} at test_guard\.py:\d+\n", logged)
    monkeypatch.undo()
    assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200


def test_all_uploads_together_and_the_waiting_line_are_limited(make_ask: Callable[..., Ask]) -> None:
    small = make_ask(limits=Limits(bodies=10_000))
    assert small("POST", "/predict", content=picture(140), headers=PNG).status_code == 200
    for busy, body in ((small, b"0" * 10_001), (make_ask(limits=Limits(waiting=0)), picture(140))):
        response = busy("POST", "/predict", content=body, headers=PNG)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


class Upload:
    """A request to the middleware around an application that reads the whole body, in parts of these sizes."""

    def __init__(self, guard: GuardMiddleware, *parts: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.guard, self.parts, self.sent = guard, list(parts), list[dict[str, Any]]()
        self.go_on = asyncio.Event()
        app = SimpleNamespace(state=SimpleNamespace(closing=False))
        chunked = headers or ((b"transfer-encoding", b"chunked"),)
        self.scope = {"type": "http", "method": "POST", "path": "/predict", "app": app, "server": ("127.0.0.1", 80),
                      "raw_path": b"/predict", "query_string": b"",
                      "headers": [(b"host", b"localhost"), *chunked]}  # fmt: skip

    async def receive(self) -> dict[str, Any]:
        """The next part; waits before the last one until it may go on."""
        if len(self.parts) == 1:
            await self.go_on.wait()
        size = self.parts.pop(0)
        return {"type": "http.request", "body": bytes(size), "more_body": bool(self.parts)}

    async def send(self, message: dict[str, Any]) -> None:
        """Keep what is sent to the client."""
        self.sent.append(message)

    async def run(self) -> int:
        """The response's status."""
        await self.guard(self.scope, self.receive, self.send)  # type: ignore[arg-type]
        status: int = self.sent[0]["status"]
        return status


def guard(**limits: float) -> GuardMiddleware:
    """The middleware around an application that reads the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
            response = JSONResponse({}, 200)
        except HTTPException as error:
            response = JSONResponse({"detail": error.detail}, error.status_code)
        await response(scope, receive, send)

    return GuardMiddleware(app, hosts=(), origins=(), limits=Limits(**limits), metrics=Metrics())  # type: ignore[arg-type]


def answer(upload: Upload) -> int:
    """The status of one upload that does not wait."""
    upload.go_on.set()
    return asyncio.run(upload.run())


@pytest.mark.parametrize(
    ("parts", "status"),
    [((10,), 200), ((5, 5), 200), ((0,), 200), ((11,), 413), ((5, 6), 413), ((5, 5, 1), 413), ((9, 0, 2, 0), 413)],
)
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(parts: tuple[int, ...], status: int) -> None:
    assert answer(Upload(guard(body=10), *parts)) == status


@pytest.mark.parametrize(("announced", "status"), [(10, 200), (11, 413)])
def test_an_announced_size_may_be_as_large_as_the_limit_and_no_larger(announced: int, status: int) -> None:
    assert answer(Upload(guard(body=10), 1, headers=((b"content-length", b"%d" % announced),))) == status


@pytest.mark.parametrize(
    ("headers", "closes"),
    [((), False), (((b"content-length", b"0"),), False), (((b"content-length", b"9"),), True),
     (((b"transfer-encoding", b"chunked"),), True)],
)  # fmt: skip
def test_a_connection_stays_open_after_a_request_whose_body_has_arrived(
    headers: tuple[tuple[bytes, bytes], ...], closes: bool
) -> None:
    limited = guard()
    limited.app = JSONResponse({})  # it reads no body
    request = Upload(limited, 0, headers=headers or ((b"accept", b"*/*"),))
    assert answer(request) == 200
    assert ((b"connection", b"close") in request.sent[0]["headers"]) == closes


@pytest.mark.parametrize(("second", "status"), [(10, 200), (11, 503)])
def test_the_bodies_in_progress_share_one_limit_and_free_it_when_they_end(second: int, status: int) -> None:
    limited = guard(body=20, bodies=20)

    async def both() -> list[int]:
        first, other = Upload(limited, 4, 6, 0), Upload(limited, second, 0)
        other.go_on.set()
        running = asyncio.create_task(first.run())
        while len(first.parts) > 1:
            await asyncio.sleep(0)
        found = await other.run()
        first.go_on.set()
        return [await running, found]

    for _ in range(3):  # 60 bytes in all
        assert asyncio.run(both()) == [200, status]
        assert answer(Upload(limited, 20)) == 200


@pytest.mark.parametrize(("size", "status"), [(15, 503), (21, 413)])
def test_a_refused_upload_is_free_before_its_client_has_stopped(size: int, status: int) -> None:
    limited = guard(body=20, bodies=30)

    async def all_three() -> list[int]:
        first, refused, last = Upload(limited, 20, 0), Upload(limited, size, 0), Upload(limited, 10, 0)
        running = asyncio.create_task(first.run())
        while len(first.parts) > 1:
            await asyncio.sleep(0)
        refusing = asyncio.create_task(refused.run())
        while not refused.sent:
            await asyncio.sleep(0)
        last.go_on.set()
        found = await last.run()
        first.go_on.set()
        refused.go_on.set()
        return [await running, await refusing, found]

    assert asyncio.run(all_three()) == [200, status, 200]


def test_refused_and_failed_uploads_free_the_limit_too() -> None:
    limited = guard(body=20, bodies=30)
    for _ in range(3):
        assert answer(Upload(limited, 15, 15)) == 413

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError

    works, limited.app = limited.app, failing
    for _ in range(3):
        assert answer(Upload(limited, 15, 0)) == 500
    limited.app = works
    assert answer(Upload(limited, 10, 10)) == 200


def test_a_body_that_does_not_arrive_in_time_is_refused_and_what_it_held_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_lit.inference.serve.guard.LINGER", 0.05)
    limited = guard(bodies=15, seconds=0.05)
    upload = Upload(limited, 10, 0)
    assert asyncio.run(upload.run()) == 408
    headers = dict(upload.sent[0]["headers"])
    assert headers[b"connection"] == b"close"
    assert answer(Upload(limited, 10)) == 200


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (200, {"content": picture(140), "headers": PNG}),
        (400, {"content": bytes(5000), "headers": PNG}),
        (403, {"content": bytes(5000), "headers": {**PNG, "origin": "http://evil.example"}}),
        (413, {"content": bytes(8001), "headers": {**PNG, "content-length": "8000"}}),
        (415, {"content": bytes(5000)}),
        (422, {"content": bytes(5000), "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (500, {"content": picture(140), "headers": PNG}),
    ],
)
def test_the_bytes_of_an_upload_count_only_until_its_response(
    make_ask: Callable[..., Ask], status: int, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = make_ask(limits=Limits(body=8000, bodies=10_000))
    if status == 500:
        monkeypatch.delattr(DigitReader, "decide")
    assert {ask("POST", "/predict", **request_).status_code for _ in range(25)} == {status}
    if status != 500:
        assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200


def test_a_picture_that_takes_too_long_is_refused_in_one_line(
    make_ask: Callable[..., Ask], capsys: pytest.CaptureFixture[str]
) -> None:
    response = make_ask(limits=Limits(reading=0.2))("POST", "/predict", content=SLOW, headers=PNG)
    expected = "reading the picture took longer than 0.2 s; make it smaller"
    assert (response.status_code, response.json()) == (400, {"detail": expected})
    logged = f"mnist-lit: a picture of 19,360,017 bytes ended its process: {expected}\n"
    assert capsys.readouterr().err == logged


def test_a_refusal_says_what_was_given(ask: Ask) -> None:
    host = ask("GET", "/health", headers={"host": f"evil.example{'x' * 999}"}).json()["detail"]
    assert host.startswith("unknown host name 'evil.examplexxx")
    assert len(host) < 200
    large = ask("POST", "/predict", content=bytes(21 << 20), headers=PNG).json()["detail"]
    assert large == "expected a body of at most 20 MiB, got 22,020,096 bytes"
    assert ask("POST", "/predict?many=perhaps").json()["detail"].endswith(", got 'perhaps'")
    pixels = ask("POST", "/predict?many=true", json={"pixels": [[0] * 28] * 28})
    expected = {"detail": "28×28 pixels are one digit; send a picture to read many"}
    assert (pixels.status_code, pixels.json()) == (422, expected)


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_upload_is_refused_before_it_arrives_and_takes_no_memory(
    serve_in_process: "Callable[..., ServerProcess]", chunked: bool
) -> None:
    server = serve_in_process("--max_mb", "1")
    assert httpx.get(server.address + "health").status_code == 200
    before = resident_bytes(server.process.pid)
    head = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {1 << 30}"
    with server.connect(f"{POST}{head}\r\n\r\n") as connection:
        responses: list[bytes] = []
        receiver = threading.Thread(target=lambda: responses.append(read_until_closed(connection)))
        receiver.start()
        if chunked:
            with contextlib.suppress(ConnectionError):  # until the server closes the connection
                while True:
                    connection.sendall(b"10000\r\n" + b"0" * 0x10000 + b"\r\n")
        receiver.join()
    assert responses[0].startswith(b"HTTP/1.1 413")
    assert b"connection: close" in responses[0].lower()
    assert resident_bytes(server.process.pid) - before < 20 << 20
    assert server.end() == (0, "")
