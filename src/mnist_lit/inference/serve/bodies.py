"""What a request brings: a picture's bytes as they are or in a form, or 28×28 pixels as JSON."""

import json
import logging
from typing import NamedTuple

import numpy as np
import python_multipart
from fastapi import HTTPException
from numpy.typing import NDArray
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnist_lit.imaging.mnist_format import IMAGE_SIZE

__all__ = ["KINDS", "Body", "parse_pixels", "read_body"]

JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"
BATCH = 256  # images in one request
JSON_BYTES = BATCH * IMAGE_SIZE * IMAGE_SIZE * 8  # each number with a comma, and room for line breaks
WANTED = f"expected image/*, {BYTES}, {FORM} or {JSON}"
_PICTURE = {"type": "string", "format": "binary", "title": "a picture"}
_IMAGE = {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}}
KINDS = {  # for OpenAPI
    FORM: {"schema": {"type": "object", "properties": {"file": _PICTURE}, "required": ["file"]}},
    "image/*": {"schema": _PICTURE},
    BYTES: {"schema": _PICTURE},
    JSON: {
        "schema": {
            "type": "object",
            "required": ["pixels"],
            "properties": {
                "pixels": {
                    "description": "28×28, 0 = paper, or up to 256 of these",
                    "oneOf": [_IMAGE, {"type": "array", "items": _IMAGE}],
                }
            },
        }
    },
}
# Who sent a broken form is told; nobody else needs to be.
logging.getLogger(python_multipart.__name__).setLevel(logging.ERROR)


class Body(NamedTuple):
    """A request's content, unread."""

    data: bytes
    holds_pixels: bool  # as JSON; else it is a picture


async def read_body(request: Request) -> Body:
    """All of a request's content. Raises HTTPException: 415 for other types, 422 for a form without a file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, f"expected no content-encoding, got {request.headers['content-encoding']}")
    try:
        if kind == FORM:
            return Body(await _file(request), holds_pixels=False)
        if kind in (JSON, BYTES) or kind.startswith("image/"):
            return Body(await request.body(), holds_pixels=kind == JSON)
    except ClientDisconnect as error:
        raise HTTPException(400, "the client went away") from error
    raise HTTPException(415, f"{WANTED}, got {kind or 'no content-type'}")


def parse_pixels(data: bytes) -> NDArray[np.uint8]:
    """The images of `{"pixels": …}`: uint8 (B, 28, 28). Raises HTTPException where it is anything else."""
    if len(data) > JSON_BYTES:
        raise HTTPException(413, f"expected at most {BATCH} images")
    try:
        images = np.array(json.loads(data)["pixels"], object)  # as they are: numpy would make a number of `true`
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HTTPException(
            422, f'expected {{"pixels": 28×28 whole numbers}}, got other JSON ({type(error).__name__})'
        ) from error
    if images.shape == (IMAGE_SIZE, IMAGE_SIZE):
        images = images[np.newaxis]  # (1, 28, 28)
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE) or not 1 <= len(images) <= BATCH:
        raise HTTPException(422, f"pixels: expected (28, 28) or (1 … {BATCH}, 28, 28), got {images.shape}")
    if set(map(type, images.flat)) != {int} or images.min() < 0 or images.max() > 255:
        raise HTTPException(422, "pixels: expected whole numbers, 0 (paper) … 255 (ink)")
    return images.astype(np.uint8)


async def _file(request: Request) -> bytes:
    """The form's one file. It is kept in memory: nothing is written to a disk."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=10)
    parser.spool_max_size = 0  # without bound; the request has one
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(422, f"no valid form: {error.message}") from error
    try:
        for value in form.values():
            if not isinstance(value, str):
                return await value.read()
    finally:
        await form.close()
    raise HTTPException(422, "expected a form with a file in it, got none")
