"""Find digits in pictures: the one digit, or every digit of a page. Opens no files and knows nothing about models."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_lit.imaging.border import MAX_ALONG, MAX_CONTACT, border, border_contact
from mnist_lit.imaging.components import MAX_SPECK, Component, label_components
from mnist_lit.imaging.digit_ink import CROP_MARGIN, MAX_EXTENDED, add_margin, digit_inks, fills_picture
from mnist_lit.imaging.gray import DIGIT, PAGE, Gray, downscaled
from mnist_lit.imaging.hypotheses import Box, Choice, FoundDigit, Hypotheses
from mnist_lit.imaging.ink import Ink, coarse_ink, edge_sharpness, follow_faint_strokes, refine_ink
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, DigitImage, Drawing, as_mnist_image
from mnist_lit.imaging.reduced_picture import Picture, ReducedPicture, reduced_picture, unruled
from mnist_lit.imaging.segmentation import MAX_CHOICES, line_hypotheses
from mnist_lit.imaging.shadows import is_at_border, is_light, is_smooth, is_strip
from mnist_lit.imaging.sharp_edges import narrow_window, sharp_part
from mnist_lit.imaging.sheet import Sheet, upright_sheet
from mnist_lit.imaging.single_digit import MIN_OTHER_HEIGHT, SECOND_COST
from mnist_lit.imaging.stroke_width import Mask

DIGIT_SIDE, PAGE_SIDE = 640, 1600  # longer side in pixels of a picture searched for one digit, and for many
MIN_CROPPED_HEIGHT = 0.6  # of a cropped number's digits, as a fraction of the picture's shorter side
MAX_PAGE_DIGIT = 0.15  # longer side, as a fraction of the picture's, below which a digit is read better as on a page
MIN_TALLEST = 1.8  # least height of a digit among words, in heights of a letter
MIN_FILLING = 0.9  # least fraction of a picture's width and height that its digit spans if it is cropped to the digit
# Least sharpness of the edges of ink in a large photo and on a page.
MIN_PHOTO_SHARPNESS, MIN_PAGE_SHARPNESS = 0.2, 0.4
MIN_EMPTY, MIN_DARK_EMPTY = 0.5, 0.65  # least fraction of a picture that empty sheets, and dark ones, cover alone
MIN_OVERLAP = 0.5  # least intersection over union of the digit's box and the one around the sharp edges
MIN_PIECE = 0.5  # least size of a digit beside a shadow, as a fraction of the size of both together
MIN_MAIN_INK = 0.8  # least fraction of a page's ink in the largest piece of a digit that may be alone on it
SHARPENED_COST = 0.5  # in nats, of reading one blurred digit as sharpened


def center_digit(picture: Picture) -> DigitImage:
    """The one digit of a picture as uint8 (28, 28), 0 = paper, 255 = ink; all 0 if the picture is blank."""
    found = find_digit(picture)
    return found.image if found else np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def find_digit(picture: Picture) -> FoundDigit | None:
    """The one digit of a picture; None if it is blank. picture: "L" or "RGB" from `open_picture`, or uint8 (H, W) or
    (H, W, 3). An image in MNIST's format is returned unchanged. Raises ValueError for any other kind of picture."""
    return next(iter(digit_hypotheses(picture).digits()), None)


def digit_hypotheses(picture: Picture) -> Hypotheses:
    """Hypotheses about the one digit of a picture."""
    reduced = reduced_picture(picture, PAGE_SIDE)
    if found := _among_shadows(picture, reduced):
        return found

    def hypotheses(part: Picture, reduced_part: ReducedPicture) -> Hypotheses:
        found = None if reduced_part is reduced else _among_shadows(part, reduced_part)  # the whole has been tried
        return found or _digit_hypotheses(part, reduced_part)

    first, *others = _on_sheets(picture, reduced, hypotheses)
    return first._replace(beside=first.beside + sum(1 + other.beside for other in others))


def page_hypotheses(picture: Picture) -> list[Hypotheses]:
    """Hypotheses about the digits of a page: one entry for each sheet of paper."""
    reduced = reduced_picture(picture, PAGE_SIDE)
    usual = _on_sheets(picture, reduced, _page_hypotheses)
    part = _writing(reduced)
    found = [digit for each in usual for digit in each.digits()]
    if not part or (found and all(_is_within(digit.box, part.box) for digit in found)):
        return usual
    within = _on_sheet(part.sheet, reduced, _page_hypotheses)
    return [within] if within.found else usual


# What is written has sharp edges, and shadows have soft ones. If all that is sharp in a photo lies close together, that
# is the writing, unless it is a sheet of paper. Other supposed sheets are the light from a window.
def _among_shadows(picture: Picture, reduced: ReducedPicture) -> Hypotheses | None:
    """Hypotheses about the one digit of a photo whose sharp edges lie close together; None for other pictures. If the
    likeliest digit is elsewhere, the part of the photo with these edges is read without its shadows. See `_on_sheets`
    for the parameters."""
    part = _writing(reduced)
    if not part:
        return None
    usual = _digit_hypotheses(picture, reduced)
    likeliest = usual.digits()
    if likeliest and _overlap(likeliest[0].box, part.box) >= MIN_OVERLAP:
        return usual
    within = _on_sheet(part.sheet, reduced, _digit_hypotheses)
    if not within.found:
        return usual
    less_likely = [
        choice._replace(cost=choice.cost + SECOND_COST, digit=choice.digit + len(within.found))
        for choice in itertools.chain(*usual.lines)
        if choice.digit is not None
    ]
    return Hypotheses([within.lines[0] + less_likely], within.found + usual.found, within.beside)


class _Writing(NamedTuple):
    """The part of a photo with its sharp edges."""

    box: Box  # of the edges
    sheet: Sheet  # in the reduced picture: the part with a margin and without shadows


def _writing(picture: ReducedPicture) -> _Writing | None:
    """The part of a large picture with its sharp edges if these lie close together, and not along a sheet's outline."""
    if max(picture.pixels.shape[:2]) <= DIGIT_SIDE:
        return None
    scale = -(-max(picture.page.shape) // PAGE.coarse_side)
    sharp = sharp_part(downscaled(picture.page, scale))
    if not sharp:
        return None
    left, top, right, bottom = (scale * at for at in sharp.box)
    box, size = picture.original((left, top, right, bottom)), max(right - left, bottom - top)
    if size < PAGE.min_size * max(picture.page.shape) or is_at_border(box, picture):
        return None
    sheets = (sheet.in_picture((0, 0, *sheet.pixels.shape[1::-1])) for sheet in picture.sheets)
    if any(_overlap(picture.original(sheet), box) >= MIN_OVERLAP for sheet in sheets):
        return None
    margin = round(CROP_MARGIN * size)
    columns, rows = slice(max(0, left - margin), right + margin), slice(max(0, top - margin), bottom + margin)
    sheet = upright_sheet(picture.page, columns, rows)
    return _Writing(box, sheet._replace(pixels=sharp.levels.stretched(sheet.pixels)))


def _is_within(one: Box, other: Box) -> bool:
    """Whether the middle of a box lies in another one."""
    x, y = (one[0] + one[2]) / 2, (one[1] + one[3]) / 2
    return other[0] <= x < other[2] and other[1] <= y < other[3]


def _overlap(one: Box, other: Box) -> float:
    """The intersection over union of two boxes."""
    (left, top, right, bottom), areas = one, [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    width, height = min(right, other[2]) - max(left, other[0]), min(bottom, other[3]) - max(top, other[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum(areas) - both)


def _on_sheets(
    picture: Picture, reduced: ReducedPicture, hypotheses: Callable[[Picture, ReducedPicture], Hypotheses]
) -> list[Hypotheses]:
    """The hypotheses about each sheet of paper in a photo or, if none is written on, about the whole picture. reduced:
    the picture, reduced to `PAGE_SIDE`. hypotheses: from these two."""
    if (image := as_mnist_image(reduced.pixels)) is not None:
        box = Image.fromarray(image).getbbox() or (0, 0, 0, 0)
        return [Hypotheses([[Choice(0, 1, 0.0, 0)]], [FoundDigit(box, image)], in_mnist_format=True)]
    written: list[Hypotheses] = []
    for sheet in reduced.sheets:
        if sum(len(each.found) for each in written) >= MAX_CHOICES:
            break
        on_sheet = _on_sheet(sheet, reduced, hypotheses)
        if on_sheet.found:
            written.append(on_sheet)
    if written:
        return written
    whole = hypotheses(reduced.pixels if reduced.scale == (1, 1) else picture, reduced)
    # What lies around an empty sheet is not writing, unless the sheet is the inside of a zero.
    if _cover_most(reduced.sheets, reduced.pixels):
        is_enlarged = any(reduced.is_filled(digit.box, MIN_FILLING) for digit in whole.digits())
        return [whole if is_enlarged else Hypotheses([], [])]
    return [whole]


def _on_sheet(
    sheet: Sheet, picture: ReducedPicture, hypotheses: Callable[[Picture, ReducedPicture], Hypotheses]
) -> Hypotheses:
    """The hypotheses about a sheet of a reduced picture. See `_on_sheets`."""
    on_sheet = hypotheses(sheet.pixels, reduced_picture(sheet.pixels, PAGE_SIDE))
    found = [digit._replace(box=picture.original(sheet.in_picture(digit.box))) for digit in on_sheet.found]
    return on_sheet._replace(found=found)


def _cover_most(sheets: Sequence[Sheet], pixels: NDArray[np.uint8]) -> bool:
    """Whether sheets cover so much of a picture that nothing else is written on. One that is darker than the border may
    be a picture or a colored box that is printed on a page."""
    around = np.median(border(pixels), axis=0).sum()
    areas = [math.prod(sheet.pixels.shape[:2]) / math.prod(pixels.shape[:2]) for sheet in sheets]
    is_light = [np.median(sheet.pixels, axis=(0, 1)).sum() > around for sheet in sheets]
    return sum(itertools.compress(areas, is_light)) >= MIN_EMPTY or sum(areas) >= MIN_DARK_EMPTY


def _coarse_hypotheses(picture: Picture, min_main_ink: float = 0.0) -> Hypotheses:
    """Hypotheses about the one digit of the reduced picture. min_main_ink: least fraction of the ink that a digit's
    largest piece must hold."""
    reduced = reduced_picture(picture, DIGIT_SIDE)
    gray, certainty = unruled(reduced.pixels, DIGIT)
    if max(reduced.scale) > 1 and edge_sharpness(gray) < MIN_PHOTO_SHARPNESS:
        return Hypotheses([], [])
    inks = digit_inks(gray, certainty)
    beside = next((digits.beside for ink, digits in inks if not ink.cost), 0)
    drawn: list[tuple[int, float, Box, Drawing]] = []
    for number, ((ink, top, left, cost), (digits, _)) in enumerate(inks):
        least = min_main_ink * np.count_nonzero(ink.mask)
        ranked = [(rank, one) for rank, one in enumerate(digits) if not least or _largest_area(one) >= least]
        boxes = reduced.draw(ink, [one for _, one in ranked], top, left)
        drawn += [(number, cost + SECOND_COST * bool(rank), *one) for (rank, _), one in zip(ranked, boxes, strict=True)]
    if max(reduced.scale) > 1:  # a line of squared paper or the edge of a table
        drawn = [one for one in drawn if not is_strip(one[2], reduced)]
    sharp = {number for number, _, box, drawing in drawn if not (drawing.is_blurred or is_at_border(box, reduced))}
    choices: list[Choice] = []
    found: list[FoundDigit] = []
    for number, cost, box, drawing in drawn:
        # Blurred ink at the border may be a shadow if other ink is sharp.
        may_be_shadow = bool(sharp - {number}) and drawing.is_blurred and is_at_border(box, reduced)
        images = [drawing.image(), drawing.sharpened()] if drawing.is_blurred else [drawing.image()]
        for index, image in enumerate(images):
            choices.append(Choice(0, 1, cost + SECOND_COST * may_be_shadow + SHARPENED_COST * index, len(found)))
            found.append(FoundDigit(box, image))
    hypotheses = Hypotheses([choices] if choices else [], found, beside)
    thresholds = [one.ink.threshold for one, _ in inks]
    if found and is_light(gray, certainty, thresholds, hypotheses.digits()[0].box, reduced):
        return Hypotheses([], [])
    return hypotheses


# A page is searched in more detail and with a smaller window, which finds small digits, and digits beside the edge of a
# shadow, more reliably. So a large picture is also searched as a page, and so is one whose digit may be joined to ink
# at the border. The result counts if the page has exactly one digit.
def _digit_hypotheses(picture: Picture, reduced: ReducedPicture) -> Hypotheses:
    """See `digit_hypotheses`, and `_on_sheets` for the parameters."""
    single = _coarse_hypotheses(picture)
    likeliest = next(iter(single.digits()), None)
    gap = reduced.border_distance(likeliest.box) if likeliest else 0.0
    beside_shadow = gap > 1 >= min((reduced.border_distance(digit.box) for digit in single.found), default=gap)
    is_large = max(reduced.pixels.shape[:2]) > (DIGIT.coarse_side if beside_shadow else DIGIT_SIDE)
    page = _segmented_page(reduced.page) if is_large else None
    if not page:
        return single
    chosen = Hypotheses(page.lines, []).choose()
    if len(chosen) != 1:
        return _with_tallest(single, page, [page.digits[one.digit] for one in chosen], reduced)
    digits = page.drawn(reduced).digits()
    if not likeliest:
        return single if is_strip(digits[0].box, reduced) else Hypotheses([[Choice(0, 1, 0.0, 0)]], digits)
    size, of_page = (max(box[2] - box[0], box[3] - box[1]) for box in (likeliest.box, digits[0].box))
    small = MAX_PAGE_DIGIT * max(reduced.size)
    if beside_shadow and of_page < max(MIN_PIECE * size, small):
        return single
    unlikely = (gap <= 1 and not reduced.is_filled(likeliest.box, MIN_FILLING)) or size <= small
    choices = [Choice(0, 1, 0 if unlikely or beside_shadow else SECOND_COST, 0)]
    for index, (*_, cost, _) in enumerate(single.lines[0], 1):
        choices.append(Choice(0, 1, cost + SECOND_COST * unlikely, index))
    return Hypotheses([choices], digits + single.found)


# In a photo of a form, the words around a digit may look like the largest digit. They are lower than the digit. And a
# row of joined digits may look like one digit.
def _with_tallest(
    single: Hypotheses, page: "_Page", chosen: Sequence[Component], picture: ReducedPicture
) -> Hypotheses:
    """The hypotheses about one digit and, less likely, the tallest digit of a page if it is far taller than most, and
    not at the border, where the edges of shadows are. If it is not, the others count as digits beside the one."""
    heights = np.array([digit.height for digit in chosen])
    if not single.found or not len(heights):
        return single
    beside = int(np.count_nonzero(heights > MIN_OTHER_HEIGHT * heights.max())) - 1
    if heights.max() < MIN_TALLEST * np.median(heights):
        return single._replace(beside=max(single.beside, beside))
    tallest = page._replace(digits=[chosen[int(heights.argmax())]], lines=[[Choice(0, 1, SECOND_COST, 0)]])
    drawn = tallest.drawn(picture)
    if is_at_border(drawn.found[0].box, picture):
        return single
    found = [digit._replace(more_beside=beside - single.beside) for digit in drawn.found]
    more = [choice._replace(digit=index) for index, choice in enumerate(drawn.lines[0], len(single.found))]
    return single._replace(lines=[[*single.lines[0], *more]], found=single.found + found)


# Read as a page, a single thick digit falls apart: its strokes are wider than the window in which a page's paper is
# estimated. So the picture is also read as one digit, unless the digit's largest piece has too little of the ink.
def _page_hypotheses(picture: Picture, reduced: ReducedPicture) -> Hypotheses:
    """See `page_hypotheses`, and `_on_sheets` for the parameters."""
    segmented = _segmented_page(reduced.page)
    single = _coarse_hypotheses(picture, MIN_MAIN_INK)
    if not segmented:
        return single
    page = segmented.drawn(reduced)
    wholes = [(choice.cost, index) for line in single.lines for index, choice in enumerate(line, len(page.found))]
    return Hypotheses(page.lines, page.found + single.found, whole_page=wholes)


class _Page(NamedTuple):
    """The digits that a page may have, before they are drawn."""

    ink: Ink
    digits: list[Component]
    lines: list[list[Choice]]  # for each line of text, the choices between them
    margin: int  # pixels around the page that the ink's mask includes

    def drawn(self, picture: ReducedPicture) -> Hypotheses:
        """Hypotheses with each digit drawn, and once more with faint strokes unless these join it to other ink."""
        offset = -self.margin, -self.margin
        drawn = picture.draw(self.ink, self.digits, *offset)
        out_of_focus = sum(drawing.is_blurred for _, drawing in drawn) > len(drawn) / 2
        lines = self.lines
        if faint := follow_faint_strokes(self.ink):
            extended = _extended_digits(self.digits, self.ink, faint)[: max(0, MAX_CHOICES - len(drawn))]
            drawn += picture.draw(faint, [digit for _, digit in extended], *offset)
            numbers = {index: number for number, (index, _) in enumerate(extended, len(self.digits))}
            lines = [
                line + [choice._replace(digit=numbers[choice.digit]) for choice in line if choice.digit in numbers]
                for line in lines
            ]
        found = []
        for box, drawing in drawn:
            sharp = out_of_focus and drawing.is_blurred
            found.append(FoundDigit(box, drawing.sharpened() if sharp else drawing.image()))
        return Hypotheses(lines, found)


def _segmented_page(gray: Gray) -> _Page | None:
    """Hypotheses about the digits in each line of text; None if there is no ink."""
    if is_smooth(gray) and edge_sharpness(gray, PAGE) < MIN_PAGE_SHARPNESS:
        return None
    margin = 0
    rough = coarse_ink(gray, PAGE)
    if rough and _is_cropped_line(rough.mask):
        margin = max(1, round(CROP_MARGIN * min(gray.shape)))
        gray = add_margin(gray, rough.paper, margin)
        rough = coarse_ink(gray, PAGE)
    if not rough:
        return None
    ink = refine_ink(gray, *narrow_window(gray, rough, PAGE))
    return _Page(ink, *line_hypotheses(ink), margin)


def _extended_digits(digits: Sequence[Component], ink: Ink, faint: Ink) -> list[tuple[int, Component]]:
    """The index of each digit that no faint strokes join to other ink, and the digit with its faint strokes."""
    labels, stats = label_components(faint.mask)
    inked = np.bincount(labels[ink.mask], minlength=len(stats))  # the area of the usual ink in each
    found = []
    for index, digit in enumerate(digits):
        parts = np.unique(labels[digit.where][digit.mask])
        left, top = stats[parts, :2].min(axis=0).tolist()
        right, bottom = (stats[parts, :2] + stats[parts, 2:4]).max(axis=0).tolist()
        if inked[parts].sum() == digit.area and max(right - left, bottom - top) <= MAX_EXTENDED * digit.size:
            found.append((index, Component(top, left, bottom, right, np.isin(labels[top:bottom, left:right], parts))))
    return found


def _is_cropped_line(mask: Mask) -> bool:
    """Whether a picture's ink fills it and is a single line of text: then ink along its border belongs to a digit, not
    to the edge of a page."""
    if not fills_picture(mask):
        return False
    labels, stats = label_components(mask)
    contact, along = border_contact(labels, stats)
    written = ((contact <= MAX_CONTACT) | (along <= MAX_ALONG))[1:]  # the rest may be a shadow
    heights = stats[1:, 3][written | ~written.any()]
    return bool(np.median(heights[heights >= MAX_SPECK * heights.max()]) > MIN_CROPPED_HEIGHT * min(mask.shape))


def _largest_area(digit: Component) -> int:
    """The area of a digit's largest piece, in pixels."""
    return int(label_components(digit.mask)[1][1:, 4].max())
