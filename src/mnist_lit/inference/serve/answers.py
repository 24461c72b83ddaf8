"""What the server says: readings as JSON, and how they come about."""

import base64
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, FoundDigit
from mnist_lit.inference.reader import DigitReader, Reading
from mnist_lit.inference.serve.bodies import Body, parse_pixels

__all__ = ["Answer", "Digit", "Health", "Problem", "answer"]


class Digit(BaseModel):
    """What was read at one place of the picture."""

    digit: str = Field(description="the likeliest class, also of a rejected reading; empty where nothing is written")
    probability: float = Field(description="of that class, calibrated")
    probabilities: dict[str, float] = Field(description="of each class")
    outlier: float = Field(description="0 … 1, how unlike any digit it is; above the threshold it is rejected")
    status: Literal["ok", "rejected"]
    message: str = Field(description="why it was rejected, else empty")
    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in the picture's pixels")
    image: str = Field(description="what the network saw, 28×28: a PNG as a data URL")


class Answer(BaseModel):
    """The readings of a picture, in reading order."""

    readings: list[Digit]
    model: str
    threshold: float


class Health(BaseModel):
    """That the server is there, and what it serves."""

    status: Literal["ok"] = "ok"
    model: str
    labels: list[str]
    threshold: float


class Problem(BaseModel):
    """What was wrong with a request, in one line."""

    detail: str


def answer(reader: DigitReader, body: Body, *, many: bool) -> Answer:
    """Read what a request brought; takes the processor for a while. Raises HTTPException where there is no picture."""
    if body.holds_pixels:
        readings = _of_pixels(reader, parse_pixels(body.data))
    else:
        try:
            readings = reader.read_many(body.data) if many else [reader.read(body.data)]
        except InputError as error:
            raise HTTPException(400, str(error)) from error
    return Answer(
        readings=[_digit(reader.labels, reading) for reading in readings],
        model=reader.name,
        threshold=reader.threshold,
    )


def _of_pixels(reader: DigitReader, images: NDArray[np.uint8]) -> list[Reading]:
    whole = (0, 0, IMAGE_SIZE, IMAGE_SIZE)
    read = iter(reader.readings([FoundDigit(image=image, box=whole) for image in images if image.any()]))
    return [next(read) if image.any() else reader.blank((IMAGE_SIZE, IMAGE_SIZE)) for image in images]


def _digit(labels: Sequence[str], reading: Reading) -> Digit:
    file = io.BytesIO()
    Image.fromarray(reading.image).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    probabilities = dict(zip(labels, reading.probabilities, strict=True))
    return Digit(**{**reading._asdict(), "probabilities": probabilities, "image": url})
