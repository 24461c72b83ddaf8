"""How the tutorial network's four convolutions respond to one digit, as pictures. NumPy and onnxruntime only."""

from typing import Any

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, Field

from mnist_lit.evaluation.figures import png_url, strongest_maps
from mnist_lit.inference.onnx_model import CONVOLUTIONS, Images, OnnxModel
from mnist_lit.inference.reader import DigitReader

SHAPES = ((32, 26, 26), (64, 24, 24), (128, 10, 10), (256, 8, 8))  # channels, height, width


class Layer(BaseModel):
    """A convolution's response to a digit, after its ReLU."""

    name: str = Field(description="conv1 … conv4")
    shape: tuple[int, int, int] = Field(description="its channels, and the height and width of each")
    channels: list[int] = Field(description="the channels that respond most, in the network's order")
    maps: list[str] = Field(description="their responses as PNG data URLs; white is the layer's highest response")


class Activations(BaseModel):
    """The responses of the network's convolutions, first to last."""

    layers: list[Layer]
    model: str


class Convolutions:
    """The convolutions of a reader's network; none if it is not the tutorial's."""

    def __init__(self, reader: DigitReader) -> None:
        self.model = reader.name
        self.session: Any = reader.model.convolution_session() if isinstance(reader.model, OnnxModel) else None
        outputs = self.session.get_outputs()[2:] if self.session else []
        self.names = CONVOLUTIONS if tuple(tuple(output.shape[1:]) for output in outputs) == SHAPES else ()

    def respond(self, images: Images) -> Activations:
        """The responses to one image, uint8 (1, 28, 28). Raises HTTPException for several and for other networks."""
        if not self.names:
            raise HTTPException(404, "expected the tutorial's network, got another; its layers are not shown")
        if len(images) != 1:
            raise HTTPException(422, f"pixels: expected one image (28, 28), got {len(images)}")
        responses = self.session.run(None, {"images": images})[2:]  # each (1, C, H, W)
        layers = [
            _layer(name, np.maximum(response[0], 0)) for name, response in zip(self.names, responses, strict=True)
        ]
        return Activations(layers=layers, model=self.model)


def _layer(name: str, responses: Any) -> Layer:
    """responses: float32 (C, H, W)."""
    channels, maps = strongest_maps(responses)
    urls = [png_url(image) for image in maps[np.argsort(channels)]]
    return Layer(name=name, shape=responses.shape, channels=sorted(channels), maps=urls)
