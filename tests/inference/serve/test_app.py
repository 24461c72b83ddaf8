"""The routes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from mnist_lit.inference.serve.app import PAGE


def test_predict_asks_for_a_post(ask: Callable[..., "Response"]) -> None:
    response = ask("GET", "/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json() == {"detail": "expected POST, with a picture as the body"}


@pytest.mark.parametrize("path", sorted(PAGE.glob("*")), ids=lambda path: path.name)
def test_the_page_loads_nothing_from_another_address(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\"']*", path.read_text(encoding="utf-8"))
    assert addresses in ([], ["http://www.w3.org/2000/svg"])
