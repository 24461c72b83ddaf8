"""Figures as arrays: image galleries, tiles and a confusion matrix. NumPy and Pillow only: `fit` draws them
after every validation, in milliseconds, where a plotting library takes a tenth of a second."""

import base64
import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# TensorBoard shows a picture 350 pixels wide by skipping pixels; at twice that width it keeps every second one.
WIDTH, GAP = 700, 12  # pixels of a gallery or of a matrix of ten classes, and between images
TEXT, LINE = 27, 32  # pixels of the font, and per line of text
CELL, MARGIN, TOP = 60, 88, 120  # pixels of a matrix cell, left of the matrix, and above it
PAPER, INK, PALE = (255, 255, 255), (32, 33, 36), (110, 114, 120)
GRID, BLUE, RED = (228, 230, 234), (31, 97, 171), (200, 60, 40)  # cell borders, correct cells, wrong cells
MAX_CLASSES_SHOWN = 64  # classes shown in a confusion matrix at most
STRONGEST = 8  # channels shown of a layer
_font = cache(ImageFont.load_default)  # Pillow's built-in one: the same on every machine


def gallery(
    images: NDArray[np.uint8], captions: Sequence[str], *, columns: int, width: int = WIDTH
) -> NDArray[np.uint8]:
    """Digits in rows, each above its caption of one or more lines: uint8 (N, 28, 28), 0 = black → uint8 (H, width, 3).
    Without images, a figure that says "none".

    >>> gallery(np.zeros((3, 28, 28), np.uint8), ["5", "0", "4"], columns=2).shape
    (796, 700, 3)
    """
    if not len(images):
        return np.asarray(_canvas(width, 2 * GAP + LINE, "none")[0])
    cell = width // columns
    side = (cell - GAP) // images.shape[1] * images.shape[1]
    size = _fitting_size(captions, cell - GAP)
    lines = max(caption.count("\n") + 1 for caption in captions)
    height = side + 2 * GAP + lines * round(LINE * size / TEXT)
    canvas, draw = _canvas(width, -(-len(images) // columns) * height + GAP)
    for n, (image, caption) in enumerate(zip(images, captions, strict=True)):
        center, y = n % columns * cell + cell // 2, GAP + n // columns * height
        canvas.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (center - side // 2, y))
        draw.multiline_text((center, y + side + 2), caption, INK, _font(size), "ma", spacing=4, align="center")
    return np.asarray(canvas)


def tiles(images: NDArray[np.uint8], *, columns: int) -> NDArray[np.uint8]:
    """Small color images in rows, one transparent pixel apart: uint8 (N, H, W, 3) → uint8 (h, w, 4).

    >>> tiles(np.zeros((6, 3, 3, 3), np.uint8), columns=4).shape
    (7, 15, 4)
    """
    opaque = np.insert(images, 3, 255, axis=3)  # (N, H, W, 4)
    padded = np.pad(opaque, ((0, -len(images) % columns), (0, 1), (0, 1), (0, 0)))  # with transparent pixels
    _, height, width, _ = padded.shape
    return padded.reshape(-1, columns, height, width, 4).swapaxes(1, 2).reshape(-1, columns * width, 4)[:-1, :-1]


def strongest_maps(responses: NDArray[np.float32]) -> tuple[list[int], NDArray[np.uint8]]:
    """The channels of float32 (C, H, W) with the highest responses, none of them negative, highest first, and their
    maps: uint8 (STRONGEST, H, W), 255 at the layer's highest response.

    >>> strongest_maps(np.array([[[1.0]], [[0.0]], [[2.0]]], np.float32))[0]
    [2, 0, 1]
    """
    channels = np.argsort(-responses.max(axis=(1, 2)), kind="stable")[:STRONGEST]
    maps = (responses[channels] * (255 / max(responses.max(), 1e-12))).round().astype(np.uint8)
    return channels.tolist(), maps


def png_bytes(image: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """A grayscale, RGB or RGBA image as a PNG file. optimize: smaller, but slower."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=optimize)
    return file.getvalue()


def png_url(image: NDArray[np.uint8], *, optimize: bool = False) -> str:
    """The PNG file as a data URL, which a page shows without another request."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image, optimize=optimize)).decode()}"


def confusion_matrix(counts: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.uint8]:
    """Counts (C, C), true classes down and predicted classes across, as uint8 (H, W, 3); colors: fractions of a row.
    Of more than `MAX_CLASSES_SHOWN` classes, those with the most mistakes are shown."""
    title = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} right"
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES_SHOWN])
    axes = "down: true class; across: predicted"
    if len(shown) < len(counts):
        axes += f"; the {MAX_CLASSES_SHOWN} of {len(counts):,} classes with the most mistakes"
    counts, fractions, names = counts[np.ix_(shown, shown)], fractions[np.ix_(shown, shown)], [names[n] for n in shown]
    classes, side = len(counts), len(counts) * CELL + GAP
    canvas, draw = _canvas(MARGIN + side, TOP + side, title)
    draw.text((GAP, GAP + LINE), axes, PALE, _font(TEXT), "lt")
    labels = [name if len(name) <= 6 else f"{name[:5]}…" for name in names]
    down, across = _fitting_font(labels, MARGIN - 14), _fitting_font(labels, CELL - 4)
    for true, label in enumerate(labels):
        y, center = TOP + true * CELL, MARGIN + true * CELL + CELL / 2
        draw.text((MARGIN - 10, y + CELL / 2), label, INK, down, "rm")
        draw.text((center, TOP - LINE / 2), label, INK, across, "mm")
        for predicted in range(classes):
            x, correct, fraction = MARGIN + predicted * CELL, true == predicted, float(fractions[true, predicted])
            depth = fraction if correct else fraction**0.5  # the root, since a good network makes few mistakes
            color = tuple(round(p + (c - p) * depth) for p, c in zip(PAPER, BLUE if correct else RED, strict=True))
            draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), color, outline=GRID)
            if count := int(counts[true, predicted]):
                ink, text = PAPER if depth > 0.75 else INK, str(count)
                draw.text((x + CELL / 2 - 1, y + CELL / 2 - 1), text, ink, _fitting_font([text], CELL - 6), "mm")
    return np.asarray(canvas)


def _canvas(width: int, height: int, title: str = "") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), title, INK, _font(TEXT), "lt")
    return canvas, draw


def _fitting_font(texts: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return _font(_fitting_size(texts, width))


def _fitting_size(texts: Sequence[str], width: int) -> int:
    """The usual size of the font, or smaller where the longest line would be wider than this."""
    widest = max(_font(TEXT).getlength(line) for text in texts for line in text.splitlines())
    return max(1, min(TEXT, int(TEXT * width / widest)))
