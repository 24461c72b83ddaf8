"""MNIST's format: 28×28 pixels, the digit in a box of 20×20, centered by mass, with strokes of the usual width. NumPy,
Pillow and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.imaging.components import Component
from mnist_lit.imaging.stroke_width import normalize_stroke_width, with_margin

BOX_SIZE, IMAGE_SIZE = 20, 28  # sides of the digit's box and of the image (LeCun et al. 1998, section III.A)
STROKE_WIDTH = (2.2, 3.2)  # mean stroke widths in the box between which half of MNIST's digits lie
DRAWN_SIZE = 100  # longer side of a digit in pixels while its strokes are normalized, before it is scaled into the box
MIN_GRAY = 0.2  # least fraction of gray pixels in the ink of an MNIST digit: its strokes are antialiased
MIN_INK = 200  # the darkest pixel of the faintest MNIST digit
EDGE_BAND = 0.25  # half the width of a band of strengths around that of a stroke's edge, as a fraction of it
# Of the edges in a drawn digit, in pixels: width from which they count as blurred, and the greatest that is sharpened.
MIN_BLURRED_EDGE, MAX_SHARPENED_EDGE = 12, 25
SHARPENING = 3  # strength of the unsharp mask
ROTATION_ZOOM = 3  # enlargement of a digit that is rotated
ROTATION_INK = 0.15  # the palest ink kept then, as a fraction of the darkest

DigitImage = NDArray[np.uint8]  # (28, 28), 0 = paper, 255 = ink


# MNIST's makers scaled each digit, aspect ratio kept, into a box of 20×20 pixels, antialiased, and shifted it so that
# its center of mass is the center of a 28×28 image (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
# applied to document recognition", section III.A). A network trained on MNIST has seen nothing else, so every other
# digit has to be placed the same way. The shift stops at the image's border: no ink is lost, even if a digit is very
# heavy on one side.
def fit_to_box(ink: NDArray[np.uint8]) -> DigitImage:
    """Scale a digit, uint8 (H, W), 0 = paper, 255 = ink, into the 20×20 box and center it by mass. Raises
    ValueError if there is no ink.

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
    shifts = (IMAGE_SIZE / 2 - 0.5 - middle for middle in _center_of_mass(box))
    top, left = (min(max(round(shift), 0), IMAGE_SIZE - side) for shift, side in zip(shifts, box.shape, strict=True))
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[top : top + height, left : left + width] = box
    return image


def rotate(image: DigitImage, degrees: float) -> DigitImage:
    """A digit in MNIST's format, rotated counterclockwise and fitted to the box again."""
    side = ROTATION_ZOOM * IMAGE_SIZE
    enlarged = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    rotated = np.asarray(cv2.warpAffine(enlarged, matrix, (side, side)), np.uint8)
    rotated[rotated < ROTATION_INK * rotated.max()] = 0  # the faint rim would make the digit smaller
    return fit_to_box(rotated)


class Drawing(NamedTuple):
    """A digit alone, as it lies in the picture, scaled to DRAWN_SIZE."""

    strength: NDArray[np.float32]  # (H, W), see `Ink`; the longer side of the ink is DRAWN_SIZE
    edges: float  # their width in pixels

    @property
    def is_blurred(self) -> bool:
        """Whether the digit seems out of focus."""
        return self.edges >= MIN_BLURRED_EDGE

    def image(self) -> DigitImage:
        """The digit in MNIST's format and stroke width."""
        return _with_usual_strokes(self.strength)

    # In a picture that is out of focus, ink fills loops and gaps. Unsharp masking opens them again.
    def sharpened(self) -> DigitImage:
        """The same, sharpened."""
        sigma = min(self.edges, MAX_SHARPENED_EDGE) / 2
        blurred = cv2.GaussianBlur(self.strength, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        return _with_usual_strokes(self.strength + SHARPENING * (self.strength - blurred))


def draw_digit(strength: NDArray[np.float32], digit: Component) -> Drawing:
    """Draw a digit alone. strength: see `Ink`, (H, W), with a margin of 2 pixels."""
    near = cv2.dilate(with_margin(digit.mask.view(np.uint8), 2), np.ones((3, 3), np.uint8))
    inked = strength[digit.top : digit.bottom + 4, digit.left : digit.right + 4] * near
    zoom = DRAWN_SIZE / digit.size
    height, width = (max(1, round(side * zoom)) for side in inked.shape)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    drawn = np.asarray(cv2.resize(inked, (width, height), interpolation=how), np.float32)
    return Drawing(drawn, _width_of_edges(drawn))


def _with_usual_strokes(drawn: NDArray[np.float32]) -> DigitImage:
    """The strengths of a drawn digit's ink (H, W) in MNIST's format with strokes of the usual width."""
    ink = drawn >= _edge(drawn)
    return fit_to_box(normalize_stroke_width(ink, BOX_SIZE, *STROKE_WIDTH).astype(np.uint8) * 255)


def _edge(drawn: NDArray[np.float32]) -> float:
    """The strength above which a drawn digit is ink: reducing a thin stroke makes it faint."""
    return min(1.0, float(drawn.max()) / 2)


def _width_of_edges(drawn: NDArray[np.float32]) -> float:
    """How many pixels it takes from paper to ink: the area of a band of strengths around the edge, divided by the
    outline's length, and extrapolated from the strengths in the band to all."""
    edge = _edge(drawn)
    ink = (drawn >= edge).view(np.uint8)
    outline = ink.sum() - cv2.erode(ink, np.ones((3, 3), np.uint8)).sum()
    band = ((drawn > (1 - EDGE_BAND) * edge) & (drawn < (1 + EDGE_BAND) * edge)).sum()
    return float(band / max(outline, 1)) * float(drawn.max()) / (2 * EDGE_BAND * edge) if edge else 0.0


def as_mnist_image(pixels: NDArray[np.uint8]) -> DigitImage | None:
    """uint8 (28, 28) or (28, 28, 3) as a digit's image if the digit fills the box and is centered by mass on plain
    black or white; None for any other picture."""
    if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        return None
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2).round().astype(np.uint8)
    for image in (gray, 255 - gray):
        left, top, right, bottom = Image.fromarray(image).getbbox() or (0, 0, 0, 0)
        antialiased = ((image > 0) & (image < 255)).sum() > MIN_GRAY * (image > 0).sum()
        fills_box = (
            antialiased and image.max() >= MIN_INK and max(right - left, bottom - top) in (BOX_SIZE - 1, BOX_SIZE)
        )
        if fills_box and (abs(np.array(_center_of_mass(image)) + 0.5 - IMAGE_SIZE / 2) < 1).all():
            return image.copy()
    return None


def _center_of_mass(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Row and column of an image (H, W) with ink."""
    ink = image.astype(np.float64)
    rows, columns = (float(ink.sum(axis=1 - axis) @ np.arange(image.shape[axis])) for axis in (0, 1))
    return rows / float(ink.sum()), columns / float(ink.sum())
