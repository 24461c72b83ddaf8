"""An invalid body gets a status and one line."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inference.serve.clients import PNG, picture

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from fastapi import HTTPException
from starlette.requests import Request

from mnist_lit.inference.serve.bodies import MAX_JSON_BYTES, parse_pixels, read_body

JSON = {"content-type": "application/json"}
ROW = [[0] * 28] * 28


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"content": b"no picture", "headers": PNG}),
        (400, {"content": picture(140)[:200], "headers": PNG}),
        (400, {"content": b"", "headers": PNG}),
        (413, {"content": b"[" + b" " * (2 << 20), "headers": JSON}),
        (415, {"content": picture(140)}),
        (415, {"content": b"digit=7", "headers": {"content-type": "text/plain"}}),
        (415, {"content": picture(140), "headers": {**PNG, "content-encoding": "gzip"}}),
        (422, {"content": b"{", "headers": JSON}),
        (422, {"content": b"[" * 100_000, "headers": JSON}),
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
    ],
)
def test_an_invalid_body_is_refused_in_one_line(
    ask: Callable[..., "Response"], status: int, request_: dict[str, Any]
) -> None:
    response = ask("POST", "/predict", **request_)
    assert (response.status_code, list(response.json())) == (status, ["detail"])
    assert response.json()["detail"]
    assert "\n" not in response.json()["detail"]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"many": "true"}, "expected a form with a file only, got many; put it in the query, as /predict?many=true"),
        ({"threshold": "1", "other": "1"}, "got threshold; the server's own is set by mnist-lit serve --threshold"),
    ],
)
def test_a_form_that_would_be_half_ignored_is_refused(
    ask: Callable[..., "Response"], data: dict[str, str], detail: str
) -> None:
    response = ask("POST", "/predict", data=data, files={"file": picture(140)})
    assert response.status_code == 422
    assert response.json()["detail"].endswith(detail)


def pixels(*images: list[list[Any]]) -> bytes:
    return json.dumps({"pixels": images}).encode()


def test_pixels_from_0_to_255_become_images() -> None:
    image = [[28 * row + column for column in range(28)] for row in range(28)]
    image = [[value % 256 for value in row] for row in image]
    assert parse_pixels(json.dumps({"pixels": image}).encode()).tolist() == [image]
    found = parse_pixels(pixels(image, ROW))
    assert found.dtype == np.uint8
    assert found.tolist() == [image, ROW]
    assert parse_pixels(pixels(*[ROW] * 256)).shape == (256, 28, 28)


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (b"9" * 40, 422, f'expected JSON, {{"pixels": 28×28 whole numbers}}, got {"9" * 40!r}'),
        (b"9" * 41, 422, f'expected JSON, {{"pixels": 28×28 whole numbers}}, got {"9" * 40 + "…"!r}'),
        (b"[1]", 422, "expected JSON, {\"pixels\": 28×28 whole numbers}, got '[1]'"),
        (b"{", 422, 'expected JSON, {"pixels": 28×28 whole numbers}, got something that is not JSON'),
        (b"\xff\xd8\xff\xe0", 422, 'expected JSON, {"pixels": 28×28 whole numbers}, got something that is not JSON'),
        (b'{"pixels": [], "many": true}', 422, "expected pixels as the only key, got 'many'"),
        (pixels(), 422, "pixels: expected (28, 28) or (1 … 256, 28, 28), got (0,)"),
        (pixels(*[ROW] * 257), 422, "pixels: expected (28, 28) or (1 … 256, 28, 28), got (257, 28, 28)"),
        (pixels([[0] * 28] * 27), 422, "pixels: expected (28, 28) or (1 … 256, 28, 28), got (1, 27, 28)"),
        (pixels([*ROW[1:], [256] * 28]), 422, "pixels: expected whole numbers, 0 (paper) … 255 (ink), got 256"),
        (pixels([[1.0] * 28] * 28), 422, "pixels: expected whole numbers, 0 (paper) … 255 (ink), got 1.0 (a float)"),
        (pixels([[True] * 28] * 28), 422, "pixels: expected whole numbers, 0 (paper) … 255 (ink), got true"),
        (b" " * (MAX_JSON_BYTES + 1), 413, "expected at most 256 images, got 1,605,633 bytes"),
    ],
)
def test_other_json_is_refused_with_what_was_expected(data: bytes, status: int, detail: str) -> None:
    with pytest.raises(HTTPException) as refused:
        parse_pixels(data)
    assert (refused.value.status_code, refused.value.detail) == (status, detail)


def test_json_may_be_as_long_as_256_images_with_white_space() -> None:
    assert MAX_JSON_BYTES == 256 * 28 * 28 * 8
    assert len(parse_pixels(pixels(ROW).ljust(MAX_JSON_BYTES))) == 1


def read(content_type: str, body: bytes, *more: Any, **headers: str) -> tuple[bytes, bool]:
    """`read_body` of a request."""
    fields = [(b"content-type", content_type.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": bool(more)}, *more]

    async def receive() -> Any:
        return messages.pop(0)

    return asyncio.run(read_body(Request({"type": "http", "method": "POST", "headers": fields}, receive)))


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [("image/png", False), (" IMAGE/heic ; q=1", False), ("application/octet-stream", False),
     ("application/json", True), ("Application/JSON; charset=utf-8", True)],
)  # fmt: skip
def test_a_body_is_json_or_a_picture_by_its_content_type(content_type: str, is_json: bool) -> None:
    assert read(content_type, b"body") == (b"body", is_json)
    assert read(content_type, b"bo", {"type": "http.request", "body": b"dy", "more_body": False}) == (b"body", is_json)


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """A form with these names and contents."""
    head = b"--x\r\nContent-Disposition: form-data; name="
    return b"".join(b"%s%s\r\n\r\n%s\r\n" % (head, *part) for part in parts) + b"--x--"


FORM = "multipart/form-data; boundary=x"
FILE = (b'"file"; filename="a.png"', b"picture")
FIELD = (b'"note"', b"text")


def test_a_forms_file_is_read_wherever_it_lies_and_never_written_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", fail)
    large = (FILE[0], bytes(3 << 20))
    for parts, expected in (
        ((FIELD, FILE), b"picture"),
        ((large, FIELD), large[1]),
        ((*[FIELD] * 10, FILE), b"picture"),
    ):
        assert read(FORM, form(*parts)) == (expected, False)


@pytest.mark.parametrize(
    ("content_type", "body", "more", "status", "detail"),
    [
        (FORM, form(FIELD), (), 422, "expected a form with a file, got none"),
        (FORM, form(FILE, FILE), (), 422, "expected a form with one file, got several"),
        (FORM, form(*[FIELD] * 11, FILE), (), 422, "expected a valid form: Too many fields. "
            "Maximum number of fields is 10."),
        (FORM, form(FILE)[:50], ({"type": "http.disconnect"},), 400, "the client disconnected"),
        ("image/png", b"", ({"type": "http.disconnect"},), 400, "the client disconnected"),
        ("text/plain", b"", (), 415, "expected image/*, application/octet-stream, multipart/form-data or "
            "application/json, got text/plain"),
        ("", b"", (), 415, "expected image/*, application/octet-stream, multipart/form-data or application/json, "
            "got no content-type"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_refused(
    content_type: str, body: bytes, more: tuple[Any, ...], status: int, detail: str
) -> None:
    with pytest.raises(HTTPException) as refused:
        read(content_type, body, *more)
    assert (refused.value.status_code, refused.value.detail) == (status, detail)


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(HTTPException, match="expected no content-encoding, got gzip"):
        read("image/png", b"", **{"content-encoding": "gzip"})
    assert read("image/png", b"x", **{"content-encoding": "identity"}) == (b"x", False)
