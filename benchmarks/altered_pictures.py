"""Pictures as people take them: with a border, cropped, rotated, faint, blurred, unevenly lit, or with another pen."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3)
Box = tuple[int, int, int, int]  # left, top, right, bottom of the digit
TABLE = (45, 38, 35)  # a dark brown
MARGIN = 0.4  # of the table around a card, as a fraction of the card's shorter side


def bordered(pixels: Pixels, top: float, right: float, bottom: float, left: float) -> Pixels:
    """A dark, slightly noisy strip around the picture; widths as fractions of its shorter side."""
    widths = [
        max(1, round(fraction * min(pixels.shape[:2]))) if fraction else 0 for fraction in (top, bottom, left, right)
    ]
    framed = np.pad(pixels, ((widths[0], widths[1]), (widths[2], widths[3]), (0, 0)))
    height, width = framed.shape[:2]
    strip = np.ones((height, width), bool)
    strip[widths[0] : height - widths[1], widths[2] : width - widths[3]] = False
    noisy = np.asarray(TABLE) + np.random.default_rng(0).normal(0, 4, framed.shape)
    return np.asarray(np.where(strip[..., None], noisy.clip(0, 255), framed), np.uint8)


def cropped(pixels: Pixels, box: Box, margin: float) -> Pixels:
    """The digit alone, with a margin as a fraction of its longer side."""
    left, top, right, bottom = box
    extra = round(margin * max(right - left, bottom - top))
    return pixels[max(0, top - extra) : bottom + extra, max(0, left - extra) : right + extra]


def rotated(pixels: Pixels, degrees: float) -> Pixels:
    """The whole picture rotated counterclockwise, on paper of its border's color."""
    rim = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    color = tuple(int(value) for value in np.median(rim, axis=0))
    picture = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=color)
    return np.asarray(picture)


def on_table(pixels: Pixels, degrees: float) -> Pixels:
    """The whole picture as a card, rotated counterclockwise, on a dark, slightly noisy table."""
    height, width = pixels.shape[:2]
    margin = round(MARGIN * min(height, width))
    size = width + 2 * margin, height + 2 * margin
    matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), degrees, 1)
    matrix[:, 2] += matrix[:, :2] @ (margin, margin)
    card, fraction = (cv2.warpAffine(one, matrix, size) for one in (pixels, np.ones((height, width), np.float32)))
    table = np.asarray(TABLE) + np.random.default_rng(0).normal(0, 4, card.shape)
    return np.asarray((table * (1 - fraction[..., None]) + card * fraction[..., None]).clip(0, 255), np.uint8)


def cut_off(pixels: Pixels) -> Pixels:
    """A picture of `on_table` that ends a little within the card at the top and on the right."""
    height, width = pixels.shape[:2]
    cut = round(1.2 * round(MARGIN / (1 + 2 * MARGIN) * min(height, width)))
    return pixels[cut:, : width - cut]


def faded(pixels: Pixels, contrast: float) -> Pixels:
    """That fraction of the contrast with the paper."""
    paper = np.median(pixels, axis=(0, 1))
    return np.asarray((paper + (pixels - paper) * contrast).clip(0, 255), np.uint8)


def lit(pixels: Pixels, light: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]) -> Pixels:
    """The picture in a light that depends on the place, x and y from 0 to 1."""
    y, x = np.mgrid[0 : 1 : pixels.shape[0] * 1j, 0 : 1 : pixels.shape[1] * 1j]
    return np.asarray((pixels * light(x, y)[..., None]).clip(0, 255), np.uint8)


def repenned(pixels: Pixels, box: Box, fraction: float) -> Pixels:
    """Strokes that are wider, or thinner if negative, by that fraction of the digit's longer side."""
    size = max(box[2] - box[0], box[3] - box[1])
    zoom = max(1, -(-200 // size))  # thin strokes survive only if they are several pixels wide
    pixels = np.asarray(cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC))
    width = round(abs(fraction) * size * zoom)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 1, width + 1))
    dark = pixels.mean() > 127  # ink on light paper
    return np.asarray((cv2.erode if dark == (fraction > 0) else cv2.dilate)(pixels, kernel))


def blurred(pixels: Pixels, box: Box, fraction: float) -> Pixels:
    """Out of focus: a Gaussian blur whose standard deviation is that fraction of the digit's longer side."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), fraction * max(box[2] - box[0], box[3] - box[1])))


ALTERATIONS: dict[str, Callable[[Pixels, Box], Pixels]] = {
    "as it is": lambda pixels, box: pixels,
    "border of 5 %": lambda pixels, box: bordered(pixels, 0.05, 0.05, 0.05, 0.05),
    "border of 10 % right and below": lambda pixels, box: bordered(pixels, 0, 0.1, 0.1, 0),
    "a card on a table": lambda pixels, box: on_table(pixels, 8),
    "a card in light from above": lambda pixels, box: lit(on_table(pixels, 8), lambda x, y: 1 - 0.6 * y),
    "a card cut off at two sides": lambda pixels, box: cut_off(on_table(pixels, 5)),
    "cropped, margin of 10 %": lambda pixels, box: cropped(pixels, box, 0.1),
    "cropped, margin of 3 %": lambda pixels, box: cropped(pixels, box, 0.03),
    "cropped to the digit": lambda pixels, box: cropped(pixels, box, 0),
    "rotated by 15°": lambda pixels, box: rotated(pixels, 15),
    "rotated by -15°": lambda pixels, box: rotated(pixels, -15),
    "rotated by 30°": lambda pixels, box: rotated(pixels, 30),
    "rotated by -30°": lambda pixels, box: rotated(pixels, -30),
    "contrast of 30 %": lambda pixels, box: faded(pixels, 0.3),
    "contrast of 15 %": lambda pixels, box: faded(pixels, 0.15),
    "thinner pen, -2 %": lambda pixels, box: repenned(pixels, box, -0.02),
    "thicker pen, +8 %": lambda pixels, box: repenned(pixels, box, 0.08),
    "blurred, 5 %": lambda pixels, box: blurred(pixels, box, 0.05),
    "blurred, 9 %": lambda pixels, box: blurred(pixels, box, 0.09),
    "light from the left": lambda pixels, box: lit(pixels, lambda x, y: 1 - 0.6 * x),
    "vignette": lambda pixels, box: lit(pixels, lambda x, y: 1 - 1.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)),
    "hard shadow": lambda pixels, box: lit(pixels, lambda x, y: 0.5 + 0.5 / (1 + np.exp(30 * (x + 0.4 * y - 0.6)))),
}
