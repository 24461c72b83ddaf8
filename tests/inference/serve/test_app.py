"""The routes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from mnist_lit.inference.reader import DigitReader
from mnist_lit.inference.serve.app import PAGE_FOLDER, create_app
from mnist_lit.inference.serve.limits import Limits
from mnist_lit.inference.serve.metrics import Metrics

REFERENCE = Path(__file__, "../../../../docs/http.md").resolve().read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("OPTIONS", "/predict", "POST"),
        ("GET", "/activations", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/page.js", "GET, HEAD"),
    ],
)
def test_another_method_is_told_the_right_one(
    ask: Callable[..., "Response"], method: str, path: str, allowed: str
) -> None:
    response = ask(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json() == {"detail": f"expected {allowed}, got {method}"}


def test_a_path_with_a_slash_more_is_another_one(ask: Callable[..., "Response"]) -> None:
    for method, path in (("POST", "/predict"), ("GET", "/health")):
        response = ask(method, path + "/")
        detail = f"expected a path that /docs lists, or a file of the page, got '{path}/'; did you mean {path}?"
        assert (response.status_code, response.json()) == (404, {"detail": detail})
    assert "did you mean" not in ask("GET", "/heal/").text


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("mony=true", "expected many as the only parameter, got 'mony'"),
        ("many=perhaps", "many: expected true or false, got 'perhaps'"),
    ],
)
def test_a_wrong_parameter_is_refused(ask: Callable[..., "Response"], query: str, detail: str) -> None:
    response = ask("POST", f"/predict?{query}", content=b"", headers={"content-type": "image/png"})
    assert (response.status_code, response.json()) == (422, {"detail": detail})


@pytest.mark.parametrize("path", sorted(PAGE_FOLDER.glob("*")), ids=lambda path: path.name)
def test_the_page_loads_nothing_from_another_address(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\"']*", path.read_text(encoding="utf-8"))
    assert addresses in ([], ["http://www.w3.org/2000/svg"])


def test_the_schema_allows_what_the_server_accepts_and_lists_how_it_refuses(ask: Callable[..., "Response"]) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert {path: set(methods) for path, methods in paths.items()} == {
        "/predict": {"post"},
        "/activations": {"post"},
        "/health": {"get", "head"},
        "/metrics": {"get", "head"},
    }
    for methods in paths.values():
        for operation in methods.values():
            assert {"200", "400", "405", "421", "500", "503"} <= set(operation["responses"])
    side = {"type": "array", "minItems": 28, "maxItems": 28}
    image = {**side, "items": {**side, "items": {"type": "integer", "minimum": 0, "maximum": 255}}}
    several = {"type": "array", "minItems": 1, "maxItems": 256, "items": image}
    for path, accepted in (("/predict", {"oneOf": [image, several]}), ("/activations", image)):
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert accepted.items() <= schema["properties"]["pixels"].items()
        assert (schema["required"], schema["additionalProperties"]) == (["pixels"], False)


def section(title: str) -> str:
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """What the first column of a page's tables names."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`|\b(\d{3})\b", row) for name in name if name}


def keys(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """The keys of a JSON answer, as `readings[].digit`."""
    found = set()
    for name, value in schema["properties"].items():
        item = value.get("items", {}).get("$ref", "").rpartition("/")[2]
        found |= {f"{name}[].{key}" for key in keys(schemas[item], schemas)} if item else {name}
    return found


def test_the_reference_names_every_endpoint_and_no_other(reader: DigitReader) -> None:
    routes: list[Any] = create_app(reader).routes
    served = {
        f"{method} {route.path or '/'}" for route in routes for method in getattr(route, "methods", None) or {"GET"}
    }
    documented = first_cells(REFERENCE.partition("\n## ")[0])
    page, files = {"GET /", "HEAD /"}, {"GET /swagger-ui"}  # the page has no route: it is the default
    assert served - files | page == documented


def test_the_reference_names_every_key_of_the_answers(ask: Callable[..., "Response"]) -> None:
    schemas = ask("GET", "/openapi.json").json()["components"]["schemas"]
    sections = {"Answer": "Read a picture", "Activations": "Look into the network", "Health": "Health"}
    for model, title in sections.items():
        documented = {key for key in first_cells(section(title)) if "/" not in key}  # no content types
        assert documented == keys(schemas[model], schemas), title
    used = {*sections, "Digit", "Layer", "Problem"}
    assert set(schemas) == used, "docs/http.md describes no other"


def test_the_reference_names_every_metric() -> None:
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in Metrics().collect()}
    assert first_cells(section("Metrics")) == names


def test_the_reference_names_every_status_that_the_server_sends() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PAGE_FOLDER.parent.glob("*.py"))
    sent = set(re.findall(r"(?:HTTPException\(|return |\}, )([45]\d\d)\b", code))
    assert first_cells(section("Errors")) == sent


def test_the_reference_names_the_default_limits() -> None:
    limits, documented = Limits(), dict(re.findall(r"^\| (.+?) \| (.+?) \|", section("Limits"), re.MULTILINE))
    assert {
        "one body": f"{limits.body >> 20} MiB",
        "all bodies in progress": f"{limits.bodies >> 20} MiB",
        "time for a body": f"{limits.seconds} s",
        "time to decode a picture and find its digits": f"{limits.reading} s",
        "pictures read at the same time": f"{limits.threads}",
        "pictures that wait": f"{limits.waiting}",
    }.items() <= documented.items()


@pytest.mark.parametrize("path", ["/health", "/metrics", "/docs", "/openapi.json", "/"])
def test_monitors_may_ask_for_the_head_of_what_can_be_got(ask: Callable[..., "Response"], path: str) -> None:
    head = ask("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
