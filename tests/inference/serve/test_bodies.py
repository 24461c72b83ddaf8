"""An invalid body gets a status and one line."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from inference.serve.clients import PNG, picture

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

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
