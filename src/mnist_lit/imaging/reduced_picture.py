"""A picture of limited size, and where what is found in it lies in the original."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.imaging.components import Component
from mnist_lit.imaging.folds import flatten_folds
from mnist_lit.imaging.gray import PAGE, Gray, SearchScale, dark_on_light
from mnist_lit.imaging.hypotheses import Box
from mnist_lit.imaging.ink import Ink
from mnist_lit.imaging.mnist_format import Drawing, draw_digit
from mnist_lit.imaging.open_picture import ORIGINAL_SIZE, reduce_picture
from mnist_lit.imaging.panels import find_panels
from mnist_lit.imaging.ruling import remove_ruling
from mnist_lit.imaging.sheet import Sheet, find_sheets
from mnist_lit.imaging.stroke_width import with_margin

Picture = Image.Image | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ReducedPicture:
    """A picture of limited size; the boxes and sizes that it returns are the original's."""

    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3)
    scale: tuple[float, float]  # original pixels per pixel, across and down

    @cached_property
    def sheets(self) -> list[Sheet]:
        """The panels of a screenshot, or the sheets of paper in a photo."""
        return find_panels(self.pixels) or find_sheets(self.pixels)

    @cached_property
    def page(self) -> Gray:
        """The result of `unruled` for a page."""
        return unruled(self.pixels, PAGE)[0]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return self.pixels.shape[1] * self.scale[0], self.pixels.shape[0] * self.scale[1]

    def original(self, box: tuple[float, float, float, float]) -> Box:
        """A box of the reduced picture in the original one, at least a pixel wide and high."""
        left, top, right, bottom = (round(at * scale) for at, scale in zip(box, self.scale * 2, strict=True))
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def border_distance(self, box: Box) -> float:
        """The least distance between a box and the border."""
        (width, height), (left, top, right, bottom) = self.size, box
        return min(left, top, width - right, height - bottom)

    def is_filled(self, box: Box, least: float) -> bool:
        """Whether a box spans more than this fraction of the width and of the height."""
        (width, height), (left, top, right, bottom) = self.size, box
        return right - left > least * width and bottom - top > least * height

    def draw(self, ink: Ink, digits: Sequence[Component], top: int = 0, left: int = 0) -> list[tuple[Box, Drawing]]:
        """Draw digits, each with its box in the original. top, left: where the ink's mask starts in the reduced one."""
        strength = with_margin(ink.strength, 2)
        drawn = []
        for digit in digits:
            x, y = (
                _within(self.pixels.shape[axis], *(at * ink.scale + (top, left)[axis] for at in digit.span(axis)))
                for axis in (1, 0)
            )
            drawn.append((self.original((x[0], y[0], x[1], y[1])), draw_digit(strength, digit)))
        return drawn


def unruled(pixels: NDArray[np.uint8], search: SearchScale) -> tuple[Gray, float]:
    """The result of `dark_on_light` without the paper's ruled lines and folds."""
    gray, certainty = dark_on_light(pixels, search)
    return flatten_folds(remove_ruling(gray)), certainty


def reduced_picture(picture: Picture, max_side: int) -> ReducedPicture:
    """The picture, reduced to this longer side if it is larger. Raises ValueError if `open_picture` did not open it."""
    if isinstance(picture, Image.Image):
        valid, kind = picture.mode in ("L", "RGB") and all(picture.size), f'"{picture.mode}" {picture.size}'
    else:
        shape, dtype = np.shape(picture), np.asarray(picture).dtype
        valid, kind = dtype == np.uint8 and (len(shape) == 2 or shape[2:] == (3,)) and all(shape), f"{dtype} {shape}"
    if not valid:
        expected = 'an image of mode "L" or "RGB", or uint8 (H, W) or (H, W, 3)'
        raise ValueError(f"expected {expected}, got {kind}; call open_picture first")
    if not isinstance(picture, Image.Image) and max(np.shape(picture)) <= max_side:
        return ReducedPicture(np.asarray(picture), (1.0, 1.0))
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    pixels = np.asarray(reduce_picture(image, max_side))
    width, height = image.info.get(ORIGINAL_SIZE, image.size)  # before `open_picture` reduced it
    return ReducedPicture(pixels, (width / pixels.shape[1], height / pixels.shape[0]))


# A reduced mask may be larger than the picture by a part of its last pixel, and it may have a margin.
def _within(side: int, start: int, stop: int) -> tuple[int, int]:
    """The part of a span that lies in a picture, at least one pixel."""
    start = min(max(start, 0), side - 1)
    return start, min(max(stop, start + 1), side)
