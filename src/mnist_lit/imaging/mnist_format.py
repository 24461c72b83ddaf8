"""Convert pictures of digits to MNIST's 28×28 format. NumPy, Pillow and SciPy only; opens no files and knows nothing
about models, training or datasets."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_lit.imaging.ink import Component, Ink, find_ink
from mnist_lit.imaging.open_picture import reduce_picture
from mnist_lit.imaging.segmentation import segment_digits, segment_main_digit
from mnist_lit.imaging.stroke_width import normalize_stroke_width

BOX_SIZE, IMAGE_SIZE = 20, 28  # sides of the digit's box and of the image (LeCun et al. 1998, section III.A)
STROKE_WIDTH = (2.2, 3.2)  # mean stroke widths in the box between which half of MNIST's digits lie
DRAWN_SIZE = 100  # longer side of a digit in pixels while its strokes are normalized, before it is scaled into the box
MIN_GRAY = 0.2  # least share of gray pixels in the ink of an MNIST digit: its strokes are antialiased
DIGIT_SIDE, PAGE_SIDE = 1024, 2048  # longer side in pixels of a picture searched for one digit, and for many

Picture = Image.Image | NDArray[np.uint8]


class FoundDigit(NamedTuple):
    """A digit and its place in the picture."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels; right and bottom are exclusive
    image: NDArray[np.uint8]  # (28, 28), 0 = paper, 255 = ink


def center_digit(picture: Picture) -> NDArray[np.uint8]:
    """The one digit of a picture as uint8 (28, 28), 0 = paper, 255 = ink; all 0 if the picture is blank."""
    found = find_digit(picture)
    return found.image if found else np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def find_digit(picture: Picture) -> FoundDigit | None:
    """The one digit of a picture, None if it is blank: "L" or "RGB" from `open_picture`, or uint8 (H, W) or (H, W, 3).
    An image in MNIST's format is returned as it is."""
    return next(iter(_find(picture, DIGIT_SIDE, segment_main_digit)), None)


def find_digits(picture: Picture) -> list[FoundDigit]:
    """Every digit of a number, a line or a table of numbers, line by line from the top, each line from the left."""
    return _find(picture, PAGE_SIDE, segment_digits)


# MNIST's makers scaled each digit, aspect ratio kept, into a box of 20×20 pixels, antialiased, and shifted it so that
# its center of mass is the center of a 28×28 image (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
# applied to document recognition", section III.A). A network trained on MNIST has seen nothing else, so every other
# digit has to be placed the same way. The shift stops at the image's border: no ink is lost, even if a digit is very
# heavy on one side.
def fit_to_box(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a digit, uint8 (H, W), 0 = paper, 255 = ink, into the 20×20 box and center it by mass: uint8 (28, 28).
    Raises ValueError if there is no ink.

    >>> fit_to_box(np.full((4, 2), 255, np.uint8)).nonzero()[0].tolist()[0]  # a 20×10 bar starts in row 4
    4
    """
    picture = Image.fromarray(ink)
    if not (bounds := picture.getbbox()):
        raise ValueError("expected a digit, got an empty image")
    digit = picture.crop(bounds)
    zoom = BOX_SIZE / max(digit.size)
    width, height = (max(1, round(side * zoom)) for side in digit.size)
    box = np.asarray(digit.resize((width, height), Image.Resampling.BICUBIC))  # (≤ 20, ≤ 20)
    shifts = (IMAGE_SIZE / 2 - 0.5 - middle for middle in ndimage.center_of_mass(box))
    top, left = (min(max(round(shift), 0), IMAGE_SIZE - side) for shift, side in zip(shifts, box.shape, strict=True))
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[top : top + height, left : left + width] = box
    return image


def _find(picture: Picture, max_side: int, segment: Callable[[Ink], Sequence[Component]]) -> list[FoundDigit]:
    if mnist_digit := _in_mnist_format(np.asarray(picture)):
        return [mnist_digit]
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if not (ink := find_ink(np.asarray(reduce_picture(image, max_side)))):
        return []
    width, height = image.info.get("size", image.size)  # before `open_picture` reduced it
    x, y = width / ink.mask.shape[1], height / ink.mask.shape[0]
    strength = np.pad(ink.strength, 2)
    found = []
    for digit in segment(ink):
        box = (round(digit.left * x), round(digit.top * y), round(digit.right * x), round(digit.bottom * y))
        found.append(FoundDigit(box, _draw(strength, digit)))
    return found


def _in_mnist_format(pixels: NDArray[np.uint8]) -> FoundDigit | None:
    """A 28×28 image whose digit fills the box and is centered by mass, on plain black or white; otherwise None."""
    if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        return None
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2).round().astype(np.uint8)
    for image in (gray, 255 - gray):
        left, top, right, bottom = Image.fromarray(image).getbbox() or (0, 0, 0, 0)
        antialiased = ((image > 0) & (image < 255)).sum() > MIN_GRAY * (image > 0).sum()
        fills_box = antialiased and max(right - left, bottom - top) in (BOX_SIZE - 1, BOX_SIZE)
        if fills_box and (abs(np.array(ndimage.center_of_mass(image)) + 0.5 - IMAGE_SIZE / 2) < 1).all():
            return FoundDigit((left, top, right, bottom), image.copy())
    return None


def _draw(strength: NDArray[np.float32], digit: Component) -> NDArray[np.uint8]:
    """Draw a digit with MNIST's stroke width; the page has a margin of 2 pixels."""
    near = ndimage.binary_dilation(np.pad(digit.mask, 2), np.ones((3, 3)))
    alone = np.where(near, strength[digit.top : digit.bottom + 4, digit.left : digit.right + 4], np.float32(0))
    zoom = DRAWN_SIZE / digit.size
    height, width = (max(1, round(side * zoom)) for side in alone.shape)
    drawn = np.asarray(Image.fromarray(alone).resize((width, height), Image.Resampling.BICUBIC))
    edge = min(1.0, float(drawn.max()) / 2)  # a thin stroke that was reduced is faint
    return fit_to_box(normalize_stroke_width(drawn >= edge, BOX_SIZE, *STROKE_WIDTH).astype(np.uint8) * 255)
