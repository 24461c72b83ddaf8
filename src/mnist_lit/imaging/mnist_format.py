"""Convert pictures of digits to MNIST's 28×28 format. NumPy, Pillow and OpenCV only; opens no files and knows nothing
about models, training or datasets."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.imaging.ink import (
    Component,
    Ink,
    corners,
    dark_on_light,
    find_ink,
    first_ink,
    frame_depths,
    refine_ink,
    share_of_rim,
)
from mnist_lit.imaging.open_picture import reduce_picture
from mnist_lit.imaging.segmentation import SECOND, best_path, line_hypotheses, single_digit_hypotheses
from mnist_lit.imaging.stroke_width import normalize_stroke_width, with_margin

BOX_SIZE, IMAGE_SIZE = 20, 28  # sides of the digit's box and of the image (LeCun et al. 1998, section III.A)
STROKE_WIDTH = (2.2, 3.2)  # mean stroke widths in the box between which half of MNIST's digits lie
DRAWN_SIZE = 100  # longer side of a digit in pixels while its strokes are normalized, before it is scaled into the box
MIN_GRAY = 0.2  # least share of gray pixels in the ink of an MNIST digit: its strokes are antialiased
MIN_INK = 200  # darkest ink of the faintest MNIST digit, which is passed on as it is
DIGIT_SIDE, PAGE_SIDE = 640, 1600  # longer side in pixels of a picture searched for one digit, and for many
DIGIT_WINDOW, PAGE_WINDOW = 0.5, 0.15  # share of the longer side; what is wider is background
DIGIT_COARSE, PAGE_COARSE = 160, 800  # longer side in pixels for the first look at the ink
DIGIT_SMALLEST, PAGE_SMALLEST = 0.25, 0.02  # share of the longer side: the smallest writing
CERTAIN = 0.9  # below it ink and paper may be mixed up

Picture = Image.Image | NDArray[np.uint8]


class FoundDigit(NamedTuple):
    """A digit and its place in the picture."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels; right and bottom are exclusive
    image: NDArray[np.uint8]  # (28, 28), 0 = paper, 255 = ink
    line: int = 1  # of the page, from the top, counted from 1
    column: int = 1  # place in that line, from the left, counted from 1


def center_digit(picture: Picture) -> NDArray[np.uint8]:
    """The one digit of a picture as uint8 (28, 28), 0 = paper, 255 = ink; all 0 if the picture is blank."""
    found = find_digit(picture)
    return found.image if found else np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def find_digit(picture: Picture) -> FoundDigit | None:
    """The one digit of a picture, None if it is blank: "L" or "RGB" from `open_picture`, or uint8 (H, W) or (H, W, 3).
    An image in MNIST's format is returned as it is."""
    return next(iter(digit_hypotheses(picture).digits()), None)


def find_digits(picture: Picture) -> list[FoundDigit]:
    """Every digit of a number, a line or a table of numbers, line by line from the top, each line from the left."""
    return page_hypotheses(picture).digits()


class Choice(NamedTuple):
    """Pieces `first` … `stop - 1` of a line of text as one digit, or as nothing."""

    first: int
    stop: int
    cost: float  # how unlikely the shape is, in nats
    digit: int | None  # its place among the digits found; None: the piece is left out


class Hypotheses(NamedTuple):
    """Digits that a picture may show. Where they exclude each other, shapes and a network's scores decide."""

    lines: list[list[Choice]]  # of text
    found: list[FoundDigit]  # what the choices look like
    beside: int = 0  # digits that seem to be beside the one that was asked for

    def choose(self, costs: Sequence[float] | None = None) -> list[tuple[int, int, int]]:
        """The digits: place in `found`, line and column. costs: how unlikely a network finds each, in nats."""
        chosen: list[tuple[int, int, int]] = []
        line = 0
        for choices in self.lines:
            total = [cost + (costs[digit] if costs and digit is not None else 0) for *_, cost, digit in choices]
            path = best_path([choice[:2] for choice in choices], total)
            digits = [digit for digit in (choices[index].digit for index in path) if digit is not None]
            line += bool(digits)
            chosen += [(digit, line, column) for column, digit in enumerate(digits, 1)]
        return chosen

    def digits(self) -> list[FoundDigit]:
        """The digits that their shapes suggest."""
        return [self.found[digit]._replace(line=line, column=column) for digit, line, column in self.choose()]


def digit_hypotheses(picture: Picture) -> Hypotheses:
    """What the one digit of a picture may be."""
    if known := _in_mnist_format(np.asarray(picture)):
        return Hypotheses([[Choice(0, 1, 0.0, 0)]], [known])
    pixels, zoom = _pixels(picture, DIGIT_SIDE)
    choices: list[Choice] = []
    found: list[FoundDigit] = []
    beside = 0
    for ink, (top, left), cost in _inks(*dark_on_light(pixels)):
        digits, more = single_digit_hypotheses(ink)
        beside = beside if cost else more
        choices += [Choice(0, 1, cost + SECOND * bool(n), len(found) + n) for n in range(len(digits))]
        found += _draw_all(ink, digits, zoom, pixels.shape, top, left)
    return Hypotheses([choices] if choices else [], found, beside)


def page_hypotheses(picture: Picture) -> Hypotheses:
    """What the digits of a page may be."""
    if known := _in_mnist_format(np.asarray(picture)):
        return Hypotheses([[Choice(0, 1, 0.0, 0)]], [known])
    pixels, zoom = _pixels(picture, PAGE_SIDE)
    gray, _ = dark_on_light(pixels)
    if not (ink := find_ink(gray, PAGE_WINDOW, PAGE_SMALLEST, PAGE_COARSE)):
        return digit_hypotheses(picture)._replace(beside=0)  # one digit, with strokes wider than those of any page
    digits: list[Component] = []
    lines: list[list[Choice]] = []
    for segments in line_hypotheses(ink):
        lines.append([])
        for first, stop, digit, cost in segments:
            lines[-1].append(Choice(first, stop, cost, len(digits) if digit else None))
            digits += [digit] if digit else []
    return Hypotheses(lines, _draw_all(ink, digits, zoom, pixels.shape))


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
    shifts = (IMAGE_SIZE / 2 - 0.5 - middle for middle in _center_of_mass(box))
    top, left = (min(max(round(shift), 0), IMAGE_SIZE - side) for shift, side in zip(shifts, box.shape, strict=True))
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[top : top + height, left : left + width] = box
    return image


def _pixels(picture: Picture, max_side: int) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The picture's pixels, reduced; and how many of the original ones each stands for, across and down."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    pixels = np.asarray(reduce_picture(image, max_side))
    width, height = image.info.get("size", image.size)  # before `open_picture` reduced it
    return pixels, (width / pixels.shape[1], height / pixels.shape[0])


def _inks(gray: NDArray[np.uint8], certainty: float) -> list[tuple[Ink, tuple[int, int], float]]:
    """What the ink of one digit, dark on light, may be: the ink, its top and left, and its cost. More than one if there
    is a frame, or if ink and paper may be mixed up."""
    first = first_ink(gray, DIGIT_WINDOW, DIGIT_COARSE)
    inks = [(refine_ink(gray, *first, DIGIT_WINDOW, DIGIT_SMALLEST), (0, 0), 0.0)] if first else []
    if not first or certainty < CERTAIN or corners(first[0].mask) > 2:
        inverse = find_ink(255 - gray, DIGIT_WINDOW, DIGIT_SMALLEST)
        mixed_up = not inks or corners(inks[0][0].mask) > 2  # no digit covers three corners of its picture
        if inverse:
            inks = [(ink, at, SECOND * mixed_up) for ink, at, _ in inks]
            inks.append((inverse, (0, 0), SECOND * (not mixed_up)))
    if first and any(depths := frame_depths(inks[0][0].mask)):
        mask, scale = inks[0][0].mask, inks[0][0].scale
        top, bottom, left, right = (round(scale * (depth + bool(depth))) for depth in depths)
        part = slice(top, len(gray) - bottom), slice(left, gray.shape[1] - right)
        inside = find_ink(gray[part], DIGIT_WINDOW, DIGIT_SMALLEST) if min(gray[part].shape) > 2 else None
        if inside:
            ring = np.pad(mask, 1)[depths[0] + 1 : -depths[1] - 1, depths[2] + 1 : -depths[3] - 1]
            alone = sum(map(bool, depths)) > 1 or share_of_rim(ring) == 0
            inks = [(ink, at, cost + SECOND * alone) for ink, at, cost in inks]
            inks.append((inside, (top, left), SECOND * (not alone)))
    return inks


def _draw_all(
    ink: Ink,
    digits: Sequence[Component],
    zoom: tuple[float, float],
    shape: tuple[int, ...],
    top: int = 0,
    left: int = 0,
) -> list[FoundDigit]:
    strength = with_margin(ink.strength, 2)
    found = []
    for digit in digits:  # a reduced mask may be larger than the picture by a part of its last pixel
        x = [round(min(at * ink.scale + left, shape[1]) * zoom[0]) for at in (digit.left, digit.right)]
        y = [round(min(at * ink.scale + top, shape[0]) * zoom[1]) for at in (digit.top, digit.bottom)]
        box = (x[0], y[0], x[1], y[1])
        found.append(FoundDigit(box, _draw(strength, digit)))
    return found


def _center_of_mass(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Row and column of an image (H, W) with ink."""
    ink = image.astype(np.float64)
    rows, columns = (float(ink.sum(axis=1 - axis) @ np.arange(image.shape[axis])) for axis in (0, 1))
    return rows / float(ink.sum()), columns / float(ink.sum())


def _in_mnist_format(pixels: NDArray[np.uint8]) -> FoundDigit | None:
    """A 28×28 image whose digit fills the box and is centered by mass, on plain black or white; otherwise None."""
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
            return FoundDigit((left, top, right, bottom), image.copy())
    return None


def _draw(strength: NDArray[np.float32], digit: Component) -> NDArray[np.uint8]:
    """Draw a digit with MNIST's stroke width; the page has a margin of 2 pixels."""
    near = cv2.dilate(with_margin(digit.mask.view(np.uint8), 2), np.ones((3, 3), np.uint8))
    alone = strength[digit.top : digit.bottom + 4, digit.left : digit.right + 4] * near
    zoom = DRAWN_SIZE / digit.size
    height, width = (max(1, round(side * zoom)) for side in alone.shape)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    drawn = cv2.resize(alone, (width, height), interpolation=how)
    edge = min(1.0, float(drawn.max()) / 2)  # a thin stroke that was reduced is faint
    return fit_to_box(normalize_stroke_width(drawn >= edge, BOX_SIZE, *STROKE_WIDTH).astype(np.uint8) * 255)
