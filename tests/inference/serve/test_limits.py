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

from inference.serve.clients import PNG, POST, SLOW, picture, read_until_closed
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


def test_the_security_headers_forbid_what_the_page_does_not_need(ask: Ask) -> None:
    headers = ask("GET", "/").headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
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
    assert re.fullmatch(rf"mnist-lit: POST '/predict': {re.escape(repr(error))} at test_limits\.py:\d+\n", logged)
    monkeypatch.undo()
    assert ask("POST", "/predict", content=picture(140), headers=PNG).status_code == 200


def test_all_uploads_together_and_the_waiting_line_are_limited(make_ask: Callable[..., Ask]) -> None:
    small = make_ask(limits=Limits(bodies=10_000))
    assert small("POST", "/predict", content=picture(140), headers=PNG).status_code == 200
    for busy, body in ((small, b"0" * 10_001), (make_ask(limits=Limits(waiting=0)), picture(140))):
        response = busy("POST", "/predict", content=body, headers=PNG)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


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


def test_a_picture_that_takes_too_long_is_refused_in_one_line(make_ask: Callable[..., Ask]) -> None:
    response = make_ask(limits=Limits(reading=0.2))("POST", "/predict", content=SLOW, headers=PNG)
    expected = "expected a picture that is read within 0.2 s; make it smaller"
    assert (response.status_code, response.json()) == (400, {"detail": expected})


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
