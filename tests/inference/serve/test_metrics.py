"""Requests and readings are counted for Prometheus."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from inference.serve.clients import PNG, picture

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")
parser = pytest.importorskip("prometheus_client.parser", reason="the serve extra is not installed")


def test_requests_and_readings_are_counted(make_ask: Callable[..., Callable[..., "Response"]]) -> None:
    ask = make_ask()
    ask("POST", "/predict", content=picture(140), headers=PNG)
    ask("POST", "/predict", content=b"", headers=PNG)
    ask("GET", "/a")
    ask("GET", "/b")
    ask("GET", "/health", headers={"host": "evil.example"})
    response = ask("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(parser.text_string_to_metric_families(response.text))
    samples = {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
    expected = {
        ("mnist_lit_requests_total", ("route", "/predict"), ("status", "200")): 1,
        ("mnist_lit_requests_total", ("route", "/predict"), ("status", "400")): 1,
        ("mnist_lit_requests_total", ("route", "/health"), ("status", "421")): 1,
        ("mnist_lit_requests_total", ("route", "other"), ("status", "404")): 2,
        ("mnist_lit_request_seconds_bucket", ("le", "+Inf"), ("route", "/predict")): 2,
        ("mnist_lit_request_seconds_count", ("route", "/predict")): 2,
        ("mnist_lit_readings_total", ("status", "ok")): 1,
    }
    assert expected.items() <= samples.items()
    assert 0 < samples["mnist_lit_request_seconds_sum", ("route", "/predict")] < 60
    bounds = [labels[0][1] for name, *labels in samples if name.endswith("_bucket") and labels[1][1] == "/predict"]
    assert bounds == ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
    assert {name for name, *_ in samples if "created" in name} == set()
    assert all(re.fullmatch(r"# .*|[a-z_]+(\{.*\})? [\d.e-]+", line) for line in response.text.splitlines())


def test_applications_do_not_share_metrics(make_ask: Callable[..., Callable[..., "Response"]]) -> None:
    make_ask()("GET", "/health")
    assert "/health" not in make_ask()("GET", "/metrics").text
