"""From a picture to 28×28, placed as MNIST's makers placed theirs. NumPy, Pillow and SciPy only.

`find_digit` for the one digit of a picture, `find_digits` for all of a number, a line or a table. Opens no file; knows
nothing about models, training or datasets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_lit.imaging.ink import Ink, find_ink
from mnist_lit.imaging.segmentation import Component, segment_digits, segment_main_digit
from mnist_lit.imaging.stroke_width import normalize_stroke_width

__all__ = ["BOX_SIZE", "IMAGE_SIZE", "FoundDigit", "center_digit", "find_digit", "find_digits", "fit_to_box"]

BOX_SIZE, IMAGE_SIZE = 20, 28  # the digit's box and the image's side (LeCun et al. 1998, section III.A)
STROKE = (2.2, 3.2)  # a digit's mean stroke width in its box; half of MNIST's digits are between these
FINE = 100  # pixels of a digit's longer side in which its strokes are drawn, before it is scaled into the box
SOFT = 0.2  # of a digit's pixels in MNIST are grey, at least
LARGEST, PAGE = 1024, 2048  # pixels of the longer side of a picture that is searched for one digit, and for many

Box = tuple[int, int, int, int]


class FoundDigit(NamedTuple):
    """A digit, and where in the picture it is."""

    box: Box  # left, top, right, bottom in the picture's pixels; right and bottom exclusive
    image: NDArray[np.uint8]  # (28, 28), 0 = paper, 255 = ink


def center_digit(picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The one digit of a picture, uint8 (28, 28), 0 = paper, 255 = ink; all 0 where nothing is written."""
    found = find_digit(picture)
    return found.image if found else np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def find_digit(picture: Image.Image | NDArray[np.uint8]) -> FoundDigit | None:
    """The one digit of a picture; None where nothing is written.

    picture: "L" or "RGB", see `open_picture`, or uint8 (H, W) or (H, W, 3). What is placed as MNIST's already passes
    as it is.
    """
    pixels = np.asarray(picture)
    if placed := _placed(pixels):
        return placed
    seen = find_ink(_reduced(pixels, LARGEST))
    digit = segment_main_digit(seen) if seen else None
    return _drawn(seen, [digit], _full(picture))[0] if seen and digit else None


def find_digits(picture: Image.Image | NDArray[np.uint8]) -> list[FoundDigit]:
    """Every digit of a number, a line or a table of numbers, line by line from the top, each from the left."""
    pixels = np.asarray(picture)
    if placed := _placed(pixels):
        return [placed]
    seen = find_ink(_reduced(pixels, PAGE))
    return _drawn(seen, segment_digits(seen), _full(picture)) if seen else []


def _placed(pixels: NDArray[np.uint8]) -> FoundDigit | None:
    """A digit of 28×28 that fills the box and is centred by its mass, on flat black or white; else None."""
    if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        return None
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2).round().astype(np.uint8)
    for image in (grey, 255 - grey):
        rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
        soft = ((image > 0) & (image < 255)).sum() > SOFT * (image > 0).sum()
        if soft and max(np.ptp(rows), np.ptp(columns)) in (BOX_SIZE - 2, BOX_SIZE - 1):
            middle = np.array(ndimage.center_of_mass(image)) + 0.5
            if (abs(middle - IMAGE_SIZE / 2) < 1).all():
                return FoundDigit(
                    (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1), image.copy()
                )
    return None


def _reduced(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture with its longer side at most `side`."""
    step = -(-max(pixels.shape[:2]) // side)
    return np.asarray(Image.fromarray(pixels).reduce(step)) if step > 1 else pixels


def _full(picture: Image.Image | NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height that the picture had before `open_picture` reduced it."""
    if isinstance(picture, Image.Image):
        width, height = picture.info.get("size", picture.size)
        return width, height
    return picture.shape[1], picture.shape[0]


def _drawn(seen: Ink, digits: Sequence[Component], full: tuple[int, int]) -> list[FoundDigit]:
    """Each digit cut out and drawn anew, and its box in the whole picture."""
    level = np.pad(seen.level, 2)
    across, down = full[0] / seen.mask.shape[1], full[1] / seen.mask.shape[0]
    found = []
    for digit in digits:
        edges = (digit.left * across, digit.top * down, digit.right * across, digit.bottom * down)
        left, top, right, bottom = (round(edge) for edge in edges)
        found.append(FoundDigit((left, top, right, bottom), _redrawn(level, digit)))
    return found


def _redrawn(level: NDArray[np.float32], digit: Component) -> NDArray[np.uint8]:
    """A digit in MNIST's thickness; the level has a margin of 2."""
    zoom = FINE / digit.size
    around = level[digit.top : digit.bottom + 4, digit.left : digit.right + 4]
    near = ndimage.binary_dilation(np.pad(digit.mask, 2), np.ones((3, 3)))
    alone = np.where(near, around, 0).astype(np.float32)
    height, width = (max(1, round(side * zoom)) for side in alone.shape)
    fine = np.asarray(Image.fromarray(alone).resize((width, height), Image.Resampling.BICUBIC))
    edge = min(1.0, float(fine.max()) / 2)  # a thin stroke that was reduced is faint
    return fit_to_box(normalize_stroke_width(fine >= edge, BOX_SIZE, *STROKE).astype(np.uint8) * 255)


def fit_to_box(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a digit into the 20×20 box, aspect kept, and centre it by mass in 28×28.

    ink: uint8 (H, W), 0 = paper, 255 = ink. Returns uint8 (28, 28). Raises ValueError where there is no ink.

    >>> fit_to_box(np.full((4, 2), 255, np.uint8)).nonzero()[0].tolist()[0]  # a 20×10 bar from row 4
    4
    """
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("expected a digit, got an empty image")
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    zoom = BOX_SIZE / max(digit.shape)
    height, width = (max(1, round(length * zoom)) for length in digit.shape)
    box = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC))  # (≤ 20, ≤ 20)
    mass = box.sum(dtype=np.int64)
    top, left = (
        int(
            np.clip(
                round(IMAGE_SIZE / 2 - float(box.sum(axis=1 - axis) @ (np.arange(length) + 0.5) / mass)),
                0,
                IMAGE_SIZE - length,
            )
        )
        for axis, length in enumerate(box.shape)
    )
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[top : top + height, left : left + width] = box
    return image
