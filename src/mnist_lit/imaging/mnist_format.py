"""Convert pictures of digits to MNIST's 28×28 format. NumPy, Pillow and OpenCV only; opens no files and knows nothing
about models, training or datasets."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.imaging.ink import (
    Component,
    Ink,
    border,
    corners,
    dark_on_light,
    find_ink,
    first_ink,
    frame_depths,
    has_full_side,
    label_components,
    refine_ink,
    share_of_rim,
)
from mnist_lit.imaging.open_picture import reduce_picture
from mnist_lit.imaging.segmentation import (
    SECOND,
    SPECK,
    WIDTH,
    SingleDigit,
    best_path,
    components,
    line_hypotheses,
    single_digit_hypotheses,
)
from mnist_lit.imaging.sheet import find_sheet
from mnist_lit.imaging.stroke_width import Mask, normalize_stroke_width, with_margin

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
CROPPED, RIM_INK, MARGIN = 0.9, 0.5, 0.25  # shares: of the sides a cropped digit spans; ink on its border; added margin
SMALL, STRONG = 28, 100  # a picture that may be all edges: its largest shorter side in pixels, least range of grays
HIGH = 0.6  # least height of a cropped number's digits, as a share of the picture's shorter side
MAIN = 0.8  # least share of the ink in the largest piece of a digit that may be alone on a page
SAME = 0.3  # share of a digit's gray levels by which another may differ if it is the same
LIGHTEST = 0.9  # quantile of the gray levels on its border that is paper

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


class FoundInk(NamedTuple):
    """Ink that may be that of the one digit."""

    ink: Ink
    top: int = 0  # of its mask in the picture, in pixels
    left: int = 0
    cost: float = 0.0  # how unlikely, in nats


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
    alone: Sequence[tuple[float, int]] = ()  # one digit instead of all the lines: cost, place in `found`

    def choose(self, costs: Sequence[float] | None = None) -> list[tuple[int, int, int]]:
        """The digits: place in `found`, line and column. costs: how unlikely a network finds each, in nats."""
        chosen: list[tuple[int, int, int]] = []
        for line in self.lines:
            totals = [cost + (costs[digit] if costs and digit is not None else 0) for *_, cost, digit in line]
            path = best_path([choice[:2] for choice in line], totals)
            digits = [digit for digit in (line[index].digit for index in path) if digit is not None]
            number = chosen[-1][1] + 1 if chosen else 1
            chosen += [(digit, number, column) for column, digit in enumerate(digits, 1)]
        alone = min(((cost + (costs[digit] if costs else 0), digit) for cost, digit in self.alone), default=None)
        others = [digit for digit, *_ in chosen]
        if alone and (not others or (costs and self._has_parts(*alone, others, [costs[digit] for digit in others]))):
            return [(alone[1], 1, 1)]
        return chosen

    def _has_parts(self, cost: float, digit: int, others: Sequence[int], costs: Sequence[float]) -> bool:
        """Whether most of the others lie within a digit and are less likely than that one."""
        left, top, right, bottom = self.found[digit].box
        boxes = np.array([self.found[other].box for other in others])
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        within = (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
        return bool(cost < np.median(costs) and within.mean() >= 0.5)

    def digits(self) -> list[FoundDigit]:
        """The digits that their shapes suggest."""
        return [self.found[digit]._replace(line=line, column=column) for digit, line, column in self.choose()]


def digit_hypotheses(picture: Picture) -> Hypotheses:
    """What the one digit of a picture may be."""
    return _on_sheet(picture, _digit_hypotheses)


def page_hypotheses(picture: Picture) -> Hypotheses:
    """What the digits of a page may be."""
    return _on_sheet(picture, _page_hypotheses)


def _on_sheet(picture: Picture, hypotheses: Callable[[Picture], Hypotheses]) -> Hypotheses:
    """The hypotheses about the sheet of paper that a photo shows, or else about the whole picture."""
    if known := _in_mnist_format(np.asarray(picture)):
        return Hypotheses([[Choice(0, 1, 0.0, 0)]], [known])
    pixels, zoom = _pixels(picture, PAGE_SIDE)
    sheet = find_sheet(pixels)
    on_sheet = hypotheses(sheet.pixels) if sheet else None
    if not sheet or not on_sheet or not on_sheet.found:
        return hypotheses(picture)
    found = []
    for digit in on_sheet.found:
        left, top, right, bottom = sheet.in_picture(digit.box)
        box = round(left * zoom[0]), round(top * zoom[1]), round(right * zoom[0]), round(bottom * zoom[1])
        found.append(digit._replace(box=box))
    return on_sheet._replace(found=found)


def _digit_hypotheses(picture: Picture, least: float = 0.0) -> Hypotheses:
    """See `digit_hypotheses`. least: share of the ink that its largest piece must have."""
    pixels, zoom = _pixels(picture, DIGIT_SIDE)
    choices: list[Choice] = []
    found: list[FoundDigit] = []
    beside = 0
    gray, certainty = dark_on_light(pixels)
    inks = [(one, single_digit_hypotheses(one.ink)) for one in _inks(gray, certainty)]
    for (ink, top, left, cost), (digits, more) in _with_thin_strokes(gray, inks):
        beside = beside if cost else more
        enough = least * np.count_nonzero(ink.mask)
        choices += [
            Choice(0, 1, cost + SECOND * bool(n), len(found) + n)
            for n, one in enumerate(digits)
            if not least or label_components(one.mask)[1][1:, 4].max() >= enough
        ]
        found += _draw_all(ink, digits, zoom, pixels.shape, top, left)
    return Hypotheses([choices] if choices else [], found, beside)


# Looked at as a page, a single thick digit falls apart: its strokes are wider than the window in which a page's paper
# is estimated. So the picture is looked at as one digit, too. That does not count if it sees digits beside it, if the
# digit's largest piece has too little of the ink, or if the page shows the same digit.
def _page_hypotheses(picture: Picture) -> Hypotheses:
    """See `page_hypotheses`."""
    pixels, zoom = _pixels(picture, PAGE_SIDE)
    gray, _ = dark_on_light(pixels)
    margin = 0
    look = first_ink(gray, PAGE_WINDOW, PAGE_COARSE)
    if look and _is_cropped_line(look[0].mask):
        margin = max(1, round(MARGIN * min(gray.shape)))
        gray = _with_margin_of(look[1], gray, margin)
        look = first_ink(gray, PAGE_WINDOW, PAGE_COARSE)
    single = _digit_hypotheses(picture, MAIN if look else 0)
    if not look:
        return single
    ink = refine_ink(gray, *look, PAGE_WINDOW, PAGE_SMALLEST)
    digits: list[Component] = []
    lines: list[list[Choice]] = []
    for segments in line_hypotheses(ink):
        lines.append([])
        for first, stop, digit, cost in segments:
            lines[-1].append(Choice(first, stop, cost, len(digits) if digit else None))
            digits += [digit] if digit else []
    found = _draw_all(ink, digits, zoom, pixels.shape, -margin, -margin)
    return Hypotheses(lines, found + single.found, alone=_alone(single, found))


def _alone(single: Hypotheses, found: Sequence[FoundDigit]) -> list[tuple[float, int]]:
    """See `Hypotheses.alone`. found: a page's digits, which come before those of `single`."""
    alone = []
    images = np.array([digit.image for digit in found], np.float32).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    for *_, cost, place in single.lines[0] if single.lines and not single.beside else ():
        (left, top, right, bottom), image, *_ = single.found[place or 0]
        wide = math.log(max(right - left, 1) / max(bottom - top, 1))  # two that touch are wider than high
        if not (abs(images - image).sum(axis=(1, 2)) < SAME * image.sum()).any():  # or the page's path has judged it
            alone.append((cost + WIDTH * max(0.0, wide), len(found) + (place or 0)))
    return alone


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


def _inks(gray: NDArray[np.uint8], certainty: float) -> list[FoundInk]:
    """What the ink of one digit, dark on light, may be. More than one if it is cropped, if there is a frame, or if ink
    and paper may be mixed up."""
    first = first_ink(gray, DIGIT_WINDOW, DIGIT_COARSE)
    rim = share_of_rim(first[0].mask) if first else 0.0
    doubtful = not first or certainty < CERTAIN or corners(first[0].mask) > 2
    other = first_ink(255 - gray, DIGIT_WINDOW, DIGIT_COARSE) if doubtful or rim > RIM_INK else None
    cropped = _cropped_inks(gray, first, other if certainty < CERTAIN or rim > RIM_INK else None)
    inks = [FoundInk(refine_ink(gray, *first, DIGIT_WINDOW, DIGIT_SMALLEST))] if first else []
    if doubtful and other:
        inverse = refine_ink(255 - gray, *other, DIGIT_WINDOW, DIGIT_SMALLEST)
        mixed_up = not inks or corners(inks[0].ink.mask) > 2  # no digit covers three corners of its picture
        inks = [one._replace(cost=SECOND * mixed_up) for one in inks]
        inks.append(FoundInk(inverse, cost=SECOND * (not mixed_up)))
    if first and any(depths := frame_depths(inks[0].ink.mask)):
        mask, scale = inks[0].ink.mask, inks[0].ink.scale
        top, bottom, left, right = (round(scale * (depth + bool(depth))) for depth in depths)
        part = slice(top, len(gray) - bottom), slice(left, gray.shape[1] - right)
        inside = find_ink(gray[part], DIGIT_WINDOW, DIGIT_SMALLEST) if min(gray[part].shape) > 2 else None
        if inside:
            ring = np.pad(mask, 1)[depths[0] + 1 : -depths[1] - 1, depths[2] + 1 : -depths[3] - 1]
            alone = sum(map(bool, depths)) > 1 or share_of_rim(ring) == 0
            cost = 0.0 if alone else inks[0].cost + SECOND
            inks = [one._replace(cost=one.cost + SECOND * alone) for one in inks]
            inks.append(FoundInk(inside, top, left, cost))
    return cropped + [one._replace(cost=one.cost + SECOND * bool(cropped)) for one in inks]


# A shadow that is narrower than the window looks like a thick stroke. In the window of a page it is background.
def _with_thin_strokes(
    gray: NDArray[np.uint8], found: list[tuple[FoundInk, SingleDigit]]
) -> list[tuple[FoundInk, SingleDigit]]:
    """Inks with their digits, and that of thin strokes if the first one's digit touches the border: the first choice
    if that covers a corner."""
    first, digits = found[0] if found else (None, None)
    if not first or not digits or first.top or not share_of_rim(first.ink.mask) or _is_clear(first.ink, digits):
        return found
    ink = find_ink(gray, PAGE_WINDOW, PAGE_SMALLEST, PAGE_COARSE)
    thin = single_digit_hypotheses(ink) if ink else None
    if not ink or not thin or not _is_clear(ink, thin):
        return found
    if not corners(first.ink.mask):
        return [*found, (FoundInk(ink, cost=SECOND), thin)]
    return [(FoundInk(ink), thin), *((one._replace(cost=one.cost + SECOND), others) for one, others in found)]


def _is_clear(ink: Ink, digits: SingleDigit) -> bool:
    """Whether there is a digit, and clear of the picture's border."""
    return bool(digits.hypotheses) and digits.hypotheses[0].clear_of_border(ink.mask.shape)


# A digit that was cropped tightly touches the border, where tables, shadows and ruled lines are looked for. With a
# margin of paper around the picture it is like any other.
def _cropped_inks(
    gray: NDArray[np.uint8], first: tuple[Ink, NDArray[np.uint8]] | None, other: tuple[Ink, NDArray[np.uint8]] | None
) -> list[FoundInk]:
    """The ink of a digit that fills the picture, dark on light or the reverse; none if it does not seem to. first and
    other: a first look at the picture, and at its inverse if ink and paper may be mixed up."""
    versions = [(gray, first[1])] if first and _fills_picture(first[0].mask) else []
    inverse = 255 - gray
    if first and other and not has_full_side(first[0].mask) and _fills_picture(other[0].mask):
        versions.append((inverse, other[1]))
    elif not first and min(gray.shape) <= SMALL and np.ptp(gray) >= STRONG:  # it all seemed to be noise
        order = (gray, inverse) if border(gray).mean() > gray.mean() else (inverse, gray)  # paper is around the ink
        versions = [(one, np.full((1, 1), np.quantile(border(one), LIGHTEST), np.uint8)) for one in order]
    margin = max(2, round(MARGIN * max(gray.shape)))
    framed = [_with_margin_of(paper, version, margin) for version, paper in versions]
    inks = [ink for picture in framed if (ink := find_ink(picture, DIGIT_WINDOW, DIGIT_SMALLEST))]
    return [FoundInk(ink, -margin, -margin, SECOND * bool(place)) for place, ink in enumerate(inks)]


def _fills_picture(mask: Mask) -> bool:
    """Whether a picture's ink reaches nearly from border to border in both directions, without covering the border."""
    spans = (np.ptp(np.flatnonzero(mask.any(axis=axis))) + 1 for axis in (1, 0)) if mask.any() else (0, 0)
    reaches = all(span >= CROPPED * side for span, side in zip(spans, mask.shape, strict=True))
    return reaches and share_of_rim(mask) <= RIM_INK and not has_full_side(mask)


def _is_cropped_line(mask: Mask) -> bool:
    """Whether a picture's ink fills it and is a single line of text: what lies along its border is then a digit, and
    not the edge of a page."""
    if not _fills_picture(mask):
        return False
    heights = np.array([one.height for one in components(mask)])
    return bool(np.median(heights[heights >= SPECK * heights.max()]) > HIGH * min(mask.shape))


def _with_margin_of(paper: NDArray[np.uint8], gray: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """The picture (H, W) inside a margin of that paper, which may be reduced: (H + 2 · margin, W + 2 · margin)."""
    around = cv2.resize(paper, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    framed = np.asarray(cv2.copyMakeBorder(around, margin, margin, margin, margin, cv2.BORDER_REPLICATE), np.uint8)
    framed[margin:-margin, margin:-margin] = gray
    return framed


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
        x = [round(min(max(at * ink.scale + left, 0), shape[1]) * zoom[0]) for at in (digit.left, digit.right)]
        y = [round(min(max(at * ink.scale + top, 0), shape[0]) * zoom[1]) for at in (digit.top, digit.bottom)]
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
