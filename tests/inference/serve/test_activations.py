"""The maps that are shown are the network's own responses, and only the tutorial's network has any."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.hostile_onnx import MODEL, needs_onnx, onnx, signed
from inference.serve.clients import PNG, picture
from mnist_lit.inference.reader import DigitReader

if TYPE_CHECKING:
    from httpx import Response

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")

from fastapi import HTTPException

from mnist_lit.inference.serve.activations import Convolutions

Ask = Callable[..., "Response"]
SEVEN = np.zeros((28, 28), np.uint8)
SEVEN[5:8, 8:20] = SEVEN[8:24, 16:19] = 255


def shown_map(url: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_the_maps_are_the_strongest_responses_of_the_checkpoint_s_convolutions(ask: Ask) -> None:
    import torch
    import torch.nn.functional as F

    from mnist_lit.evaluation.calibration import load_calibrated
    from mnist_lit.model import standardize

    network = load_calibrated(MODEL.with_name("model.ckpt"))[0].network
    x, expected = standardize(torch.from_numpy(SEVEN[None])), []
    with torch.inference_mode():
        for name in ("conv1", "conv2", "conv3", "conv4"):
            x = network.get_submodule(name)(x).relu()
            expected.append(x[0].numpy())
            x = F.max_pool2d(x, 2) if name in ("conv2", "conv4") else x
    answer = ask("POST", "/activations", json={"pixels": SEVEN.tolist()}).json()
    assert answer["model"] == "pretrained/model.onnx"
    assert [layer["name"] for layer in answer["layers"]] == ["conv1", "conv2", "conv3", "conv4"]
    for layer, responses in zip(answer["layers"], expected, strict=True):
        assert layer["shape"] == list(responses.shape)
        strength = responses.max(axis=(1, 2))
        assert layer["channels"] == sorted(np.argsort(-strength)[:8].tolist())
        for channel, url in zip(layer["channels"], layer["maps"], strict=True):
            difference = shown_map(url) - 255 * responses[channel] / strength.max()
            assert np.abs(difference).max() < 0.6


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"json": {"pixels": [SEVEN.tolist()] * 2}}, 422, "pixels: expected one image (28, 28), got 2"),
        ({"json": {}}, 422, "expected JSON, {\"pixels\": 28×28 whole numbers}, got '{}'"),
        ({"json": {"pixels": SEVEN.tolist()}, "params": {"many": "1"}}, 422, "expected no parameter, got 'many'"),
        ({"content": picture(140), "headers": PNG}, 415, "expected application/json, got a picture"),
    ],
)
def test_anything_but_one_image_of_pixels_is_refused(
    ask: Ask, request_: dict[str, Any], status: int, detail: str
) -> None:
    response = ask("POST", "/activations", **request_)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


def test_a_blank_image_has_maps_as_well(ask: Ask) -> None:
    answer = ask("POST", "/activations", json={"pixels": np.zeros((28, 28), int).tolist()})
    assert [len(layer["maps"]) for layer in answer.json()["layers"]] == [8] * 4


@needs_onnx
def test_another_network_has_no_maps() -> None:
    model = onnx.load(MODEL)
    model.graph.initializer[0].name = "network.first.weight"
    next(node for node in model.graph.node if node.op_type == "Conv").input[1] = "network.first.weight"
    Path("other.onnx").write_bytes(signed(model))
    convolutions = Convolutions(DigitReader.load("other.onnx"))
    assert convolutions.names == ()
    with pytest.raises(HTTPException, match="404: expected the tutorial's network"):
        convolutions.respond(SEVEN[None])
