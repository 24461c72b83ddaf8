"""Request bodies: a picture's bytes, as they are or in a form, or 28×28 pixels as JSON."""

import json
import logging
from typing import Any

import numpy as np
import python_multipart
from fastapi import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnist_lit.imaging.mnist_format import IMAGE_SIZE
from mnist_lit.inference.onnx_model import Images

JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"
MAX_IMAGES = 256  # in one JSON body
MAX_JSON_BYTES = MAX_IMAGES * IMAGE_SIZE * IMAGE_SIZE * 8  # 8 for each number: three digits, a comma, white space
PARAMETERS = {  # names that a form's fields must not have, and how to set these instead
    "many": "put it in the query, as /predict?many=true",
    "threshold": "the server's own is set by mnist-lit serve --threshold",
}
_PICTURE = {"type": "string", "format": "binary", "title": "a picture"}
_SIDE = {"type": "array", "minItems": IMAGE_SIZE, "maxItems": IMAGE_SIZE}
_IMAGE = {**_SIDE, "items": {**_SIDE, "items": {"type": "integer", "minimum": 0, "maximum": 255}}}
_IMAGES = {"type": "array", "minItems": 1, "maxItems": MAX_IMAGES, "items": _IMAGE}


def _json_schema(pixels: dict[str, Any]) -> dict[str, Any]:
    content = {"required": ["pixels"], "properties": {"pixels": pixels}, "additionalProperties": False}
    return {JSON: {"schema": {"type": "object", **content}}}


ONE_IMAGE = _json_schema({"description": "28×28, 0 = paper", **_IMAGE})  # OpenAPI: content type → schema
CONTENT = {
    FORM: {"schema": {"type": "object", "properties": {"file": _PICTURE}, "required": ["file"]}},
    "image/*": {"schema": _PICTURE},
    BYTES: {"schema": _PICTURE},
    **_json_schema({"description": "28×28, 0 = paper, or up to 256 of these", "oneOf": [_IMAGE, _IMAGES]}),
}
# A malformed form is reported to its sender; a warning in the log as well would help nobody.
logging.getLogger(python_multipart.__name__).setLevel(logging.ERROR)


async def read_body(request: Request) -> tuple[bytes, bool]:
    """The complete body and whether it is JSON, else a picture. Raises HTTPException for any other content."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise HTTPException(415, f"expected no content-encoding, got {encoding[:100]}")
    try:
        if content_type == FORM:
            return await _read_form_file(request), False
        if content_type in (JSON, BYTES) or content_type.startswith("image/"):
            return await request.body(), content_type == JSON
    except ClientDisconnect as error:
        raise HTTPException(400, "the client disconnected") from error
    except MultiPartException as error:
        several = error.message.startswith("Too many files")
        detail = "a form with one file, got several" if several else f"a valid form: {error.message}"
        raise HTTPException(422, f"expected {detail}") from error
    got = content_type[:100] or "no content-type"
    raise HTTPException(415, f"expected image/*, {BYTES}, {FORM} or {JSON}, got {got}")


def parse_pixels(data: bytes) -> Images:
    """`{"pixels": …}` → uint8 (B, 28, 28). Raises HTTPException for anything else."""
    if len(data) > MAX_JSON_BYTES:
        raise HTTPException(413, f"expected at most {MAX_IMAGES} images, got {len(data):,} bytes")
    expected = 'expected JSON, {"pixels": 28×28 whole numbers}, got '
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"{expected}something that is not JSON") from error
    if not isinstance(content, dict) or "pixels" not in content:
        got = data[:40].decode("utf-8", "replace") + "…" * (len(data) > 40)
        raise HTTPException(422, f"{expected}{got!r}")
    if unknown := [name for name in content if name != "pixels"]:
        raise HTTPException(422, f"expected pixels as the only key, got {unknown[0][:40]!r}")
    images = np.array(content["pixels"], object)  # object: numpy would turn `true` into a number
    if images.shape == (IMAGE_SIZE, IMAGE_SIZE):
        images = images[np.newaxis]  # (1, 28, 28)
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE) or not 1 <= len(images) <= MAX_IMAGES:
        raise HTTPException(422, f"pixels: expected (28, 28) or (1 … {MAX_IMAGES}, 28, 28), got {images.shape}")
    if wrong := [value for value in images.flat if type(value) is not int or not 0 <= value <= 255]:
        got = json.dumps(wrong[0])[:40] + " (a float)" * isinstance(wrong[0], float)
        raise HTTPException(422, f"pixels: expected whole numbers, 0 (paper) … 255 (ink), got {got}")
    return images.astype(np.uint8)


async def _read_form_file(request: Request) -> bytes:
    """The form's one file, kept in memory; `request.form()` would write files above 1 MB to the disk."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=10)  # starlette 1.10.0
    parser.spool_max_size = 0  # never to the disk; `limits` bounds the body
    form = await parser.parse()
    try:
        if fields := sorted(PARAMETERS.keys() & form.keys()):
            raise HTTPException(422, f"expected a form with a file only, got {fields[0]}; {PARAMETERS[fields[0]]}")
        for value in form.values():
            if not isinstance(value, str):
                return await value.read()
    finally:
        await form.close()
    raise HTTPException(422, "expected a form with a file, got none")
