"""Pages with a handwritten 7 on them, a table, and how much two images look alike."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SEVEN = ((0, 0), (60, 0), (25, 100))  # the corners of its strokes


def page(width: int = 200, height: int = 200, paper: int = 230) -> Image.Image:
    return Image.new("L", (width, height), paper)


def table(width: int = 640, height: int = 480) -> Image.Image:
    """Brown, with a grain."""
    grain = np.random.default_rng(0).normal(0, 25, (height // 8, 4)).repeat(8, axis=0).repeat(width // 4, axis=1)
    return Image.fromarray((np.array([150, 100, 60]) + grain[..., None]).clip(0, 255).astype(np.uint8))


def write_seven(
    picture: Image.Image, left: float, top: float, *, zoom: float = 1, pen: int = 8, color: int = 40
) -> Image.Image:
    """Draw a 7 of 60×100 pixels."""
    corners = [(left + x * zoom, top + y * zoom) for x, y in SEVEN]
    ImageDraw.Draw(picture).line(corners, color, pen, "curve")
    return picture


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlation of two images at the best shift by up to a pixel."""
    shifts = [np.roll(other, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(one.ravel(), shift.ravel())[0, 1]) for shift in shifts)


def write_zero(picture: Image.Image, left: float, top: float, *, right_half: int = 40, color: int = 40) -> Image.Image:
    """Draw a 0 of 60×100 pixels whose right half may have another color."""
    for start, stop, ink in ((-90, 90, right_half), (90, 270, color)):
        ImageDraw.Draw(picture).arc((left, top, left + 60, top + 100), start, stop, ink, 8)
    return picture
