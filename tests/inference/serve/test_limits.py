"""Requests over the limits and from other sites are refused; an error is one line."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inference.serve.clients import PNG, POST, picture, read_until_closed
from mnist_lit.inference.reader import DigitReader

if TYPE_CHECKING:
    from httpx import Response

    from inference.serve.conftest import ServerProcess

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from mnist_lit.inference.serve.limits import HEADERS, Limits  # noqa: E402

Ask = Callable[..., "Response"]


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (413, {"content": b"0" * ((20 << 20) + 1), "headers": PNG}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "evil.example"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "localhost@evil.example"}}),
        (421, {"content": picture(140), "headers": {**PNG, "host": "localhost.."}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://evil.example"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://localhost:3000"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "null"}}),
        (403, {"content": picture(140), "headers": {**PNG, "origin": "http://["}}),
        (403, {"content": picture(140), "headers": {**PNG, "sec-fetch-site": "cross-site"}}),
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

    monkeypatch.setattr(DigitReader, "read", fail)
    response = ask("POST", "/predict", content=picture(140), headers=PNG)
    assert (response.status_code, response.json()) == (500, {"detail": "internal error; the server's log shows where"})
    assert HEADERS.items() <= dict(response.headers).items()
    logged = capsys.readouterr().err
    assert re.fullmatch(rf"mnist-lit: POST '/predict': {re.escape(repr(error))} at test_limits\.py:\d+\n", logged)
    monkeypatch.undo()
    assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200


def test_all_uploads_together_and_the_waiting_line_are_limited(make_ask: Callable[..., Ask]) -> None:
    small = make_ask(limits=Limits(bodies=10_000))
    assert small("POST", "/predict", content=picture(140), headers=PNG).status_code == 200
    for busy, body in ((small, b"0" * 10_001), (make_ask(limits=Limits(waiting=0)), picture(140))):
        response = busy("POST", "/predict", content=body, headers=PNG)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_upload_is_refused_at_once_and_takes_no_memory(
    serve_in_process: "Callable[..., ServerProcess]", chunked: bool
) -> None:
    server = serve_in_process("--max_mb", "1")
    assert httpx.get(server.address + "health").status_code == 200
    before, begun = resident_bytes(server.process.pid), time.monotonic()
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
    assert time.monotonic() - begun < 1.5
    assert responses[0].startswith(b"HTTP/1.1 413")
    assert b"connection: close" in responses[0].lower()
    assert resident_bytes(server.process.pid) - before < 20 << 20
    assert server.end() == (0, "")
