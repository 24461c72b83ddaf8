"""The API's responses, and how a request's body becomes one."""

import sys
from collections.abc import Callable
from typing import Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, Field

from mnist_lit.errors import InputError
from mnist_lit.evaluation.figures import png_url
from mnist_lit.imaging.hypotheses import FoundDigit
from mnist_lit.imaging.mnist_format import IMAGE_SIZE
from mnist_lit.inference.reader import DigitReader, Proposal, with_advice
from mnist_lit.inference.serve.bodies import parse_pixels
from mnist_lit.inference.serve.time_limit import ProcessEnded
from mnist_lit.system.console import say

HOW_TO_READ_ALL = "add ?many=true to read them all"


class Digit(BaseModel):
    """One digit of the picture."""

    digit: str = Field(description="the most likely class, even if rejected; empty if nothing is written")
    probability: float = Field(description="of that class, calibrated")
    probabilities: dict[str, float] = Field(description="of each class")
    outlier: float = Field(description="0 … 1, how unlike a digit it is; rejected above the threshold")
    status: Literal["ok", "rejected"]
    message: str = Field(description="why it was rejected, or that the picture has more digits; else empty")
    line: int | None = Field(description="line of the page, from 1; null if nothing is written")
    column: int | None = Field(description="place in that line, from 1; null if nothing is written")
    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in the picture's pixels")
    image: str = Field(description="the network's input, 28×28, as a PNG data URL")


class Answer(BaseModel):
    """The one digit of a picture, or with `many` every digit, line by line."""

    readings: list[Digit]
    model: str
    threshold: float


class Health(BaseModel):
    """The server is up, and serves this model."""

    status: Literal["ok"] = "ok"
    model: str
    labels: list[str]
    threshold: float
    layers: tuple[str, ...] = Field(
        description="what POST /activations shows; empty unless the network is the tutorial's"
    )


class Problem(BaseModel):
    """What was wrong with a request, in one line."""

    detail: str


def answer(reader: DigitReader, propose: Callable[..., Proposal], data: bytes, *, many: bool, is_json: bool) -> Answer:
    """Read a request's picture or pixels; `propose` finds a picture's digits. It takes a while, so call it in a thread.
    Raises HTTPException for an invalid body."""
    if is_json:
        size = (IMAGE_SIZE, IMAGE_SIZE)
        images = parse_pixels(data)
        written = iter(reader.readings([FoundDigit((0, 0, *size), image) for image in images if image.any()]))
        readings = [next(written) if image.any() else reader.blank(size) for image in images]
    else:
        try:
            (readings,) = reader.decide([propose(data, many=many)])
        except InputError as error:
            if isinstance(error, ProcessEnded):
                what = f"a picture of {len(data):,} bytes ended its process: {error}"
                say(f"mnist-lit: {what}", file=sys.stderr, flush=True)
            raise HTTPException(400, str(error)) from error
    digits = []
    for reading in readings:
        probabilities = dict(zip(reader.labels, reading.probabilities, strict=True))
        message = with_advice(reading.message, HOW_TO_READ_ALL)
        shown: dict[str, Any] = {"probabilities": probabilities, "image": png_url(reading.image), "message": message}
        if not reading.digit:
            shown |= {"line": None, "column": None}
        digits.append(Digit(**reading._asdict() | shown))
    return Answer(readings=digits, model=reader.name, threshold=reader.threshold)
