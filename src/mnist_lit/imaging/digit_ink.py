"""The ink of a picture's one digit, which may be cropped, framed, in a shadow, or lighter than what surrounds it:
several hypotheses. NumPy and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np

from mnist_lit.imaging.border import border, border_coverage, frame_depths, from_each_side, has_full_side, inked_corners
from mnist_lit.imaging.components import clear_of_border, label_components
from mnist_lit.imaging.gray import DIGIT, PAGE, Gray
from mnist_lit.imaging.ink import Ink, coarse_ink, find_ink, follow_faint_strokes, refine_ink
from mnist_lit.imaging.single_digit import CUT_OFF_WEIGHT, SECOND_COST, SingleDigit, single_digit_hypotheses
from mnist_lit.imaging.stroke_width import Mask

MIN_CERTAINTY = 0.9  # below this, ink and paper may be swapped
MIN_SPANNED = 0.9  # fraction of each side that a cropped digit spans
MAX_RIM_INK = 0.5  # fraction of the border that a cropped digit covers
MAX_RIM = 0.12  # depth of the rim in which a cell's lines run, as a fraction of the side
MAX_CROSSING = 0.1  # fraction of these lines' ink that may lie inside the rim
CROP_MARGIN = 0.25  # margin that is added to a cropped digit, as a fraction of the longer side
MAX_ALL_EDGES_SIDE = 28  # shorter side in pixels of the largest picture that may be all edges
MIN_ALL_EDGES_RANGE = 100  # least range of such a picture's gray levels
MAX_EXTENDED = 2.0  # greatest size of a digit with its faint strokes, as a multiple of that without
FRAME_BLUR = 1  # pixels between a frame and the paper inside it
PAPER_QUANTILE = 0.9  # of the gray levels on the border; taken as paper


class FoundInk(NamedTuple):
    """Ink that may be that of the one digit."""

    ink: Ink
    top: int = 0  # where its mask starts in the picture, in pixels; negative if the mask has a margin
    left: int = 0
    cost: float = 0.0  # how unlikely, in nats

    def less_likely(self, ranks: int = 1) -> "FoundInk":
        """The same ink, ranked lower."""
        return self._replace(cost=self.cost + SECOND_COST * ranks)


def digit_inks(gray: Gray, certainty: float) -> list[tuple[FoundInk, SingleDigit]]:
    """Hypotheses about the ink of the one digit, dark on light, with the digits in each. certainty: that ink and paper
    are not swapped; see `dark_on_light`."""
    first = coarse_ink(gray, DIGIT)
    rim = border_coverage(first.mask) if first else 0.0
    doubtful = not first or not first.mask.any() or certainty < MIN_CERTAINTY or inked_corners(first.mask) > 2
    other = coarse_ink(255 - gray, DIGIT) if doubtful or rim > MAX_RIM_INK else None
    cropped = _cropped_inks(gray, first, other if certainty < MIN_CERTAINTY or rim > MAX_RIM_INK else None)
    inks = [FoundInk(refine_ink(gray, first, DIGIT))] if first else []
    if doubtful and other:
        inverse = FoundInk(refine_ink(255 - gray, other, DIGIT))
        swapped = not inks or inked_corners(inks[0].ink.mask) > 2  # no digit covers three corners of its picture
        inks = [*(one.less_likely(swapped) for one in inks), inverse.less_likely(not swapped)]
    if first:
        inks = _with_framed_ink(gray, inks)
    inks = cropped + [one.less_likely(bool(cropped)) for one in inks]
    found = [(one, single_digit_hypotheses(one.ink)) for one in inks]
    # Try only one of these: if the digit is joined to a shadow, faint ink that continues it is the shadow's edge.
    return _with_thin_strokes(gray, found) or _with_faint_strokes(found) or found


def _with_framed_ink(gray: Gray, inks: list[FoundInk]) -> list[FoundInk]:
    """The inks and, if the first one frames the picture, the ink inside; that is likelier if the first is a frame."""
    mask, scale = inks[0].ink.mask, inks[0].ink.scale
    depths = frame_depths(mask)
    top, bottom, left, right = (round(scale * (depth + bool(depth))) for depth in depths)
    part = slice(top, len(gray) - bottom), slice(left, gray.shape[1] - right)
    inside = find_ink(gray[part], DIGIT) if any(depths) and min(gray[part].shape) > 2 else None
    if not inside:
        return inks
    ring = mask[depths[0] : len(mask) - depths[1], depths[2] : mask.shape[1] - depths[3]]
    is_frame = sum(map(bool, depths)) > 1 or not _touches(ring, depths)
    framed = FoundInk(inside, top, left, 0.0 if is_frame else inks[0].cost + SECOND_COST)
    return [*(one.less_likely(is_frame) for one in inks), framed]


def _touches(ring: Mask, depths: tuple[int, int, int, int]) -> bool:
    """Whether the ink inside a frame of those depths, see `frame_depths`, is joined to it."""
    lines = (rows[min(FRAME_BLUR, len(rows) - 1)] for rows in from_each_side(ring))
    return any(line.any() for line, depth in zip(lines, depths, strict=True) if depth)


def _with_faint_strokes(found: list[tuple[FoundInk, SingleDigit]]) -> list[tuple[FoundInk, SingleDigit]]:
    """The inks with their digits and the likeliest ink with its faint strokes; empty if its digit has none."""
    if not found:
        return []
    likeliest, digits = min(found, key=lambda one: one[0].cost)
    faint = follow_faint_strokes(likeliest.ink) if digits.hypotheses else None
    extended = single_digit_hypotheses(faint).hypotheses[:1] if faint else []
    if not faint or not extended or extended[0].size > MAX_EXTENDED * digits.hypotheses[0].size:
        return []
    return [*found, (likeliest._replace(ink=faint), SingleDigit(extended, digits.beside))]


# A shadow that is narrower than the window looks like a thick stroke. With a page's smaller window, it is background.
def _with_thin_strokes(gray: Gray, found: list[tuple[FoundInk, SingleDigit]]) -> list[tuple[FoundInk, SingleDigit]]:
    """The inks with their digits and the ink of thin strokes, which comes first if the first ink covers a corner; empty
    unless the first one's digit touches the border."""
    if not found:
        return []
    first, digits = found[0]
    if first.top or not border_coverage(first.ink.mask) or _is_clear(first.ink, digits):
        return []
    ink = find_ink(gray, PAGE)
    thin = single_digit_hypotheses(ink) if ink else None
    if not ink or not thin or not _is_clear(ink, thin):
        return []
    if not inked_corners(first.ink.mask):
        return [*found, (FoundInk(ink).less_likely(), thin)]
    return [(FoundInk(ink), thin), *((one.less_likely(), others) for one, others in found)]


def _is_clear(ink: Ink, digits: SingleDigit) -> bool:
    """Whether there is a digit, and it does not touch the picture's border."""
    return bool(digits.hypotheses) and digits.hypotheses[0].clear_of_border(ink.mask.shape)


# A tightly cropped digit touches the border, where we look for tables, shadows and ruled lines. With a margin of paper
# around the picture, it is like any other digit.
def _cropped_inks(gray: Gray, first: Ink | None, other: Ink | None) -> list[FoundInk]:
    """The ink of a digit that fills the picture, dark on light or the reverse; empty if no digit seems to. first and
    other: `coarse_ink` of the picture, and of its inverse if ink and paper may be swapped."""
    versions, inverse = [], 255 - gray
    if first and fills_picture(first.mask) and not _has_clear_digit(first.mask):
        versions.append((gray, first.paper))
    if first and other and not has_full_side(first.mask) and fills_picture(other.mask):
        versions.append((inverse, other.paper))
    elif (
        not first and min(gray.shape) <= MAX_ALL_EDGES_SIDE and np.ptp(gray) >= MIN_ALL_EDGES_RANGE
    ):  # `coarse_ink` took everything for noise
        order = (gray, inverse) if border(gray).mean() > gray.mean() else (inverse, gray)  # paper is around the ink
        versions = [(one, np.full((1, 1), np.quantile(border(one), PAPER_QUANTILE), np.uint8)) for one in order]
    margin = max(2, round(CROP_MARGIN * max(gray.shape)))
    framed = [add_margin(version, paper, margin) for version, paper in versions]
    inks = [ink for picture in framed if (ink := find_ink(picture, DIGIT))]
    return [FoundInk(ink, -margin, -margin).less_likely(index > 0) for index, ink in enumerate(inks)]


def _has_clear_digit(mask: Mask) -> bool:
    """Whether what seems to be the digit is clear of the border, and all other ink that fills the picture runs along
    its sides, as the lines of a cell do."""
    labels, stats = label_components(mask)
    clear = clear_of_border(stats[1:], mask.shape)
    areas = stats[1:, 4] * np.where(clear, 1, CUT_OFF_WEIGHT)
    inner = labels[tuple(slice(round(MAX_RIM * side), round((1 - MAX_RIM) * side)) for side in mask.shape)]
    crossing = np.bincount(inner.ravel(), minlength=len(stats))[1:][~clear].sum()
    return bool(clear[areas.argmax()] and crossing <= MAX_CROSSING * stats[1:, 4][~clear].sum())


def fills_picture(mask: Mask) -> bool:
    """Whether a picture's ink reaches nearly from border to border in both directions, without covering the border."""
    _, _, width, height = cv2.boundingRect(mask.view(np.uint8))
    reaches = height >= MIN_SPANNED * mask.shape[0] and width >= MIN_SPANNED * mask.shape[1]
    return reaches and border_coverage(mask) <= MAX_RIM_INK and not has_full_side(mask)


def add_margin(gray: Gray, paper: Gray, margin: int) -> Gray:
    """The picture (H, W) with a margin of `paper`, which may be smaller: (H + 2 · margin, W + 2 · margin)."""
    around = cv2.resize(paper, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    framed = np.asarray(cv2.copyMakeBorder(around, margin, margin, margin, margin, cv2.BORDER_REPLICATE), np.uint8)
    framed[margin:-margin, margin:-margin] = gray
    return framed
