"""A picture or pixels become readings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inference.serve.clients import PNG, picture
from mnist_lit.inference.reader import DigitReader

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

Ask = Callable[..., "Response"]


@pytest.mark.parametrize(
    "request_",
    [
        {"content": picture(140), "headers": PNG},
        {"content": picture(140, format="JPEG"), "headers": {"content-type": "application/octet-stream"}},
        {"files": {"file": ("digit.png", picture(140))}},
    ],
    ids=["image", "octets", "form"],
)
def test_a_picture_is_read_from_every_content_type(ask: Ask, request_: dict[str, Any]) -> None:
    response = ask("POST", "/predict", **request_)
    assert response.status_code == 200
    answer = response.json()
    (reading,) = answer["readings"]
    assert answer["model"] == "pretrained/model.onnx"
    assert (reading["digit"], reading["status"], reading["message"]) == ("1", "ok", "")
    assert list(reading["probabilities"]) == list("0123456789")
    assert reading["probability"] == max(reading["probabilities"].values())
    assert sum(reading["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 <= reading["outlier"] <= answer["threshold"] <= 1
    assert reading["box"] == pytest.approx([131, 60, 149, 220], abs=6)
    assert reading["image"].startswith("data:image/png;base64,")


def test_many_reads_every_digit_in_order(ask: Ask) -> None:
    readings = ask("POST", "/predict?many=true", content=picture(60, 140, 220), headers=PNG).json()["readings"]
    assert [reading["digit"] for reading in readings] == ["1", "1", "1"]
    assert [round(reading["box"][0], -1) for reading in readings] == pytest.approx([50, 130, 210], abs=10)


def test_each_reading_has_its_line_and_column(ask: Ask) -> None:
    readings = ask("POST", "/predict?many=true", content=picture(60, 140), headers=PNG).json()["readings"]
    assert {reading["line"] for reading in readings} == {1}
    assert all(isinstance(reading["column"], int) for reading in readings)
    (blank,) = ask("POST", "/predict", content=picture(), headers=PNG).json()["readings"]
    assert (blank["digit"], blank["line"], blank["column"]) == ("", None, None)


def test_one_digit_of_several_says_how_to_read_all(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = DigitReader.decide
    three = "3 digits found"
    monkeypatch.setattr(DigitReader, "decide", lambda *args: [[decide(*args)[0][0]._replace(message=three)]])
    (reading,) = ask("POST", "/predict", content=picture(140), headers=PNG).json()["readings"]
    assert reading["message"] == "3 digits found; add ?many=true to read them all"
    monkeypatch.setattr(DigitReader, "decide", lambda *args: [[decide(*args)[0][0]._replace(message="not a digit")]])
    (reading,) = ask("POST", "/predict", content=picture(140), headers=PNG).json()["readings"]
    assert reading["message"] == "not a digit"


def test_pixels_are_classified_unchanged(ask: Ask, reader: DigitReader) -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    for width, image in enumerate(images, 2):
        image[4:24, 13 : 13 + width] = 255
    probabilities, outliers = reader.classify(images)
    readings = ask("POST", "/predict", json={"pixels": images.tolist()}).json()["readings"]
    answered = [list(reading["probabilities"].values()) for reading in readings]
    np.testing.assert_allclose(answered, probabilities, atol=1e-6)
    assert [reading["outlier"] for reading in readings] == pytest.approx(outliers.tolist())
    (alone,) = ask("POST", "/predict", json={"pixels": images[0].tolist()}).json()["readings"]
    assert alone["digit"] == readings[0]["digit"]
    (blank,) = ask("POST", "/predict", json={"pixels": np.zeros((28, 28), int).tolist()}).json()["readings"]
    assert (blank["digit"], blank["status"], blank["message"]) == ("", "rejected", "no writing found")
