"""A file comes from the first mirror that gives it, whole; every other answer is named."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from mnist_lit.data.download import AllMirrorsFailed, download_file, md5

DATA = bytes(range(256)) * 800


class Mirror(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind.isdigit():
            self.send_error(int(kind))
            return
        body = b"<html>we have moved</html>" if kind == "html" else DATA
        if kind == "mute":
            time.sleep(2)
            return
        self.send_response(200)
        if kind != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind in ("cut", "silent"):
            body = body[:1000]
        try:
            for i in range(0, len(body), 1 if kind == "drip" else len(body)):
                self.wfile.write(body[i : i + 1] if kind == "drip" else body)
                time.sleep(0.05 if kind == "drip" else 0)
        except OSError:
            pass  # the client has gone
        time.sleep(1 if kind == "silent" else 0)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("403", "answered 403 Forbidden"),
        ("404", "answered 404 Not Found"),
        ("503", "answered 503 Service Unavailable"),
        ("html", "sent 26 bytes that are not this file (a web page)"),
        ("cut", "cut off after 1,000 of 204,800 bytes"),
        ("mute", "no answer in time"),
        ("silent", "fell silent after 1,000 bytes"),
        ("drip", "was not done after 0.5 s"),
    ],
)
def test_a_mirror_that_fails_is_named_with_its_reason_and_the_next_is_asked(
    address: str, kind: str, reason: str
) -> None:
    with pytest.raises(AllMirrorsFailed) as refused:
        download_file("file", [f"{address}/{kind}/"], md5(DATA), 0.5)
    assert str(refused.value) == f"{address}/{kind}/: {reason}"
    good = f"{address}/good"
    assert download_file("file", [f"{address}/{kind}", good], md5(DATA), 0.5) == (DATA, good)


@pytest.mark.parametrize("kind", ["good", "unsized"])
def test_a_file_comes_whole_with_and_without_a_stated_size(address: str, kind: str) -> None:
    assert download_file("file", [f"{address}/{kind}"], md5(DATA), 5)[0] == DATA


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [("http://127.0.0.1:9", "Connection refused"), ("nowhere", "unknown url type"), ("http://[::1", "Invalid IPv6")],
)
def test_an_address_that_leads_nowhere_is_named(mirror: str, reason: str) -> None:
    with pytest.raises(AllMirrorsFailed, match=reason):
        download_file("file", [mirror], md5(DATA), 5)


def test_a_mirror_without_end_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.data.download.MAX_BYTES", 1000)
    with pytest.raises(AllMirrorsFailed, match="sent more than 1,000 bytes"):
        download_file("file", [f"{address}/good"], md5(DATA), 5)


def test_nobody_to_ask_is_said() -> None:
    with pytest.raises(AllMirrorsFailed, match="no mirror was named"):
        download_file("file", [], md5(DATA), 5)
