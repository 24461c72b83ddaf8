"""Figures as pictures: digits with captions, tiles, and a confusion matrix. NumPy and Pillow only.

Milliseconds each, where a plotting library takes a tenth of a second: a fit draws them after every validation.
"""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["confusion_matrix", "gallery", "png_bytes", "tiles"]

ZOOM, GAP, LINE = 3, 12, 15  # pixels of the figure: a digit's pixel, the space between cells, a line of text
CELL, MARGIN = 46, 58  # of the matrix
PAPER, INK, PALE = (255, 255, 255), (32, 33, 36), (110, 114, 120)
BLUE, RED = (31, 97, 171), (200, 60, 40)  # right and wrong


def gallery(images: NDArray[np.uint8], captions: Sequence[str], *, columns: int) -> NDArray[np.uint8]:
    """Digits in rows, each with its caption below, which may have several lines.

    images: uint8 (N, 28, 28), 0 = black. Returns uint8 (H, W, 3); without images a line that says so.

    >>> gallery(np.zeros((3, 28, 28), np.uint8), ["5", "0", "4"], columns=2).shape
    (234, 204, 3)
    """
    if not len(images):
        return np.asarray(_canvas(240, 2 * GAP + LINE, "none")[0])
    side = images.shape[1] * ZOOM
    width, height = side + GAP, side + GAP + LINE * max(caption.count("\n") + 1 for caption in captions)
    rows = -(-len(images) // columns)
    picture, draw = _canvas(columns * width + GAP, rows * height + GAP)
    for n, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + n % columns * width, GAP + n // columns * height
        picture.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, y))
        draw.multiline_text((x + side / 2, y + side + 2), caption, INK, _font(11), "ma", spacing=2, align="center")
    return np.asarray(picture)


def tiles(pictures: NDArray[np.uint8], *, columns: int) -> NDArray[np.uint8]:
    """Small pictures in rows, a transparent pixel between them: uint8 (N, H, W, 3) → uint8 (h, w, 4).

    >>> tiles(np.zeros((6, 3, 3, 3), np.uint8), columns=4).shape
    (7, 15, 4)
    """
    count, height, width = pictures.shape[:3]
    sheet = np.zeros((-(-count // columns) * (height + 1), columns * (width + 1), 4), np.uint8)
    for n, picture in enumerate(pictures):
        y, x = n // columns * (height + 1), n % columns * (width + 1)
        sheet[y : y + height, x : x + width, :3] = picture
        sheet[y : y + height, x : x + width, 3] = 255
    return sheet[:-1, :-1]


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """A picture, grey, RGB or RGBA, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def confusion_matrix(counts: NDArray[Any], names: Sequence[str]) -> NDArray[np.uint8]:
    """True classes down, predicted ones across: each cell its count, its colour the share of its row.

    counts: (C, C) whole numbers. Returns uint8 (H, W, 3). Mistakes are coloured by the root of their share, since a
    good network makes few.
    """
    classes = len(counts)
    end = MARGIN + classes * CELL
    title = f"{int(counts.sum()):,} images, {int(np.trace(counts)):,} right"
    picture, draw = _canvas(end + GAP, end + GAP, title)
    draw.text((MARGIN + classes * CELL / 2, MARGIN - 28), "predicted", PALE, _font(12), "mm")
    upright = Image.new("RGB", (60, LINE), PAPER)
    ImageDraw.Draw(upright).text((30, LINE / 2), "true", PALE, _font(12), "mm")
    picture.paste(upright.rotate(90, expand=True), (8, MARGIN + classes * CELL // 2 - 30))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for true in range(classes):
        place = MARGIN + true * CELL
        draw.text((MARGIN - 10, place + CELL / 2), _short(names[true]), INK, _font(12), "rm")
        draw.text((place + CELL / 2, MARGIN - 10), _short(names[true]), INK, _font(12), "mm")
        for predicted in range(classes):
            x = MARGIN + predicted * CELL
            right, share = true == predicted, float(shares[true, predicted])
            depth = share if right else share**0.5
            colour = tuple(round(p + (c - p) * depth) for p, c in zip(PAPER, BLUE if right else RED, strict=True))
            draw.rectangle((x, place, x + CELL - 2, place + CELL - 2), colour, outline=(228, 230, 234))
            if count := int(counts[true, predicted]):
                text = PAPER if depth > 0.5 else INK
                draw.text((x + CELL / 2 - 1, place + CELL / 2 - 1), f"{count:,}", text, _font(12), "mm")
    return np.asarray(picture)


def _short(name: str) -> str:
    """As much of a name as fits a cell."""
    return name if len(name) <= 6 else f"{name[:5]}…"


def _canvas(width: int, height: int, title: str = "") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, INK, _font(13), "lt")
    return picture, draw


@cache
def _font(size: int) -> Any:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
