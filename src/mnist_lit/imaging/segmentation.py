"""Divide the ink of a page into digits, without ruled lines, frames and dust: several hypotheses where the ink alone
does not tell. NumPy and OpenCV only."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mnist_lit.imaging.boxes import box_lines, frame_lines, frames
from mnist_lit.imaging.components import (
    MAX_ASPECT,
    MAX_COMPONENTS,
    MAX_FRAGMENT,
    MAX_SPECK,
    Component,
    box_overlaps,
    components,
    erase,
    overlaps,
    strokes_across,
    typical_height,
    union,
)
from mnist_lit.imaging.gray import Strength
from mnist_lit.imaging.hypotheses import Choice
from mnist_lit.imaging.ink import Ink
from mnist_lit.imaging.marks import find_blanks, find_commas, find_signs
from mnist_lit.imaging.ruling import ruled_lines
from mnist_lit.imaging.stroke_width import Mask, ink_distances, stroke_width
from mnist_lit.imaging.text_lines import find_drawings, lines_with_heights

MAX_CHOICES = 1000  # hypotheses about a page; if there are more, each component is read as one digit
MAX_NOISE_HEIGHT = 4  # typical height in pixels of the components of noise
# Fractions of the picture's side.
MIN_TABLE_LINE, MIN_SHORT_LINE = 0.25, 0.1  # shortest ruled line; shortest one if it is far longer than the digits
MIN_BESIDE_DRAWING = 0.01  # smallest writing beside a drawing
# Fractions of the page's typical digit height.
MAX_STRAIGHT_STROKE, MIN_UNDERLINE = 2.0, 3.0  # longest stroke of a digit; shortest line below a column of numbers
MIN_WIDE = 0.8  # least width of a component that may be two digits
MIN_BLOT = 2.5  # least height of a blot
MIN_TWO_LINES, MAX_TWO_LINES = 1.45, 3.0  # height of a component that may belong to two lines of text
MAX_BESIDE, MAX_LINE_OVERLAP = 4.0, 0.25  # greatest distance of writing beside such a component; overlap of the lines
# Of a component or a piece of it.
MAX_BESIDE_OTHER = 0.8  # greatest vertical overlap of two strokes of a digit, as a fraction of the taller one's height
MAX_STRAIGHT_STROKES = 2  # of a digit
# Of a dash, which is nearly straight: greatest thickness and least length, as multiples of its median thickness, and
# least fraction of its convex hull that has ink.
MAX_DASH, MIN_DASH_LENGTH, MIN_DASH_INK = 1.5, 2.5, 0.75
MIN_LINE_INK = 0.8  # least fraction of an underline's ink in its straight line
MIN_UNBROKEN = 0.9  # least fraction of a short line's length that has ink
MIN_RULED_INK = 0.1  # least fraction of a ruled line's ink that does not belong to a digit
MIN_DISK = 0.85  # least diameter of a circle inside a disk, as a fraction of its longer side
MAX_FAINT = 2.0  # greatest strength of ink that may be the blur between two digits
MAX_JOINT = 3.5  # stroke widths: thickest joint of two touching digits, for each stroke that it crosses
MIN_FROM_SIDE = 0.3  # least distance from a cut through two strokes to the piece's sides, as a fraction of its width
MAX_PIECES = 4  # of one digit
MAX_SCRAP = 0.05  # fraction of a piece's usual ink below which a part of it is left out
# Costs of a hypothesis in nats, to be compared with the network's log-probabilities.
CUT_COSTS = (0.5, 1.0)  # per side that is cut through one stroke, and through two
GAP_COST = 6.0  # per gap as wide as a digit is tall
HEIGHT_COST, WIDTH_COST = 2.0, 4.0  # per factor e in height beyond a factor of 1.6, and in width to height beyond 0.8
OVERLAP_COST, MAX_OVERLAP = 4.0, 0.1  # per overlap as wide as the narrower component; greatest one without a cost
MIN_UNLIKELY = 3.0  # least cost of several pieces that are not tried as one digit
MARK_COST, MARK_PART_COST = 4.0, 1.5  # of reading a comma or a sign as a digit, and as a part of one
BLANK_COST, BLANK_PART_COST = 1.0, 0.5  # of leaving out a line below a digit, and of reading it as a part of the digit
SKIP_COST = 2.0  # of leaving out a piece that is far shorter or taller than the page's digits


# Digits start as the connected components of the ink, but the two differ in four ways.
# - A ruled line joins everything it crosses: remove it first. A 1 or the stem of a 4 is a straight line, too, so remove
#   only lines that run from the border past the digit or are far longer than the digits.
# - A pen that is lifted leaves fragments, and neighbors touch. Recognition decides what belongs together, as in
#   heuristic over-segmentation (LeCun et al. 1998, section V): a line of text is cut into pieces, a few neighboring
#   pieces at a time are classified as if they were a digit, and the sequence of digits with the highest total score
#   wins. Pieces are components, parted where only faint ink joins tall strokes; a wide one is also cut where its
#   column sums are smallest (projection profile, Casey and Lecolinet 1996).
# - Dust, frames and dashes are not digits: compare sizes with the typical digit of the page, not with fixed pixels.
def line_hypotheses(ink: Ink) -> tuple[list[Component], list[list[Choice]]]:
    """The digits that a page may have, and for each line of text, from the top, every group of neighboring pieces that
    may be one of them, or nothing."""
    all_ink = components(ink.mask)
    if len(all_ink) == MAX_COMPONENTS and typical_height(all_ink) < MAX_NOISE_HEIGHT:
        return [], []
    written, typical = _writing(*_without_lines(all_ink, ink), ink.mask.shape)
    drawings, height = find_drawings(written, typical)
    digits_and_marks = [one for one in written if one not in drawings]
    text = lines_with_heights(_without_joins(digits_and_marks, height), height)
    if drawings:
        ink = ink._replace(stroke=stroke_width(erase(ink.mask, drawings)))
        text += lines_with_heights(drawings, typical)
        text.sort(key=lambda line: float(np.mean([one.top + one.bottom for one in line[0]])))
    digits: list[Component] = []
    lines: list[list[Choice]] = []
    for line, height in text:
        lines.append(_choices(line, height, ink, digits))
        if sum(map(len, lines)) > MAX_CHOICES:
            indices = itertools.count()
            single = [[Choice(n, n + 1, 0.0, next(indices)) for n in range(len(line))] for line, _ in text]
            return [one for line, _ in text for one in line], single
    return digits, lines


def _without_lines(all_ink: Sequence[Component], ink: Ink) -> tuple[Sequence[Component], float]:
    """The components of a page's ink without ruled lines and the sides of boxes, and their typical height."""
    lines = _ruled_lines(all_ink, ink)
    boxed = [line for frame in frames(all_ink) for line in frame_lines(frame, ink.stroke)]
    boxed += box_lines(all_ink, ink.stroke)
    unruled = components(erase(ink.mask, lines + boxed)) if lines or boxed else all_ink
    for _ in range(2):  # digits that lost their straight strokes look small at first
        typical = typical_height(unruled) or typical_height(all_ink)
        long = [line for line in lines if line.size > MAX_STRAIGHT_STROKE * typical]
        if len(long) == len(lines):
            break
        lines = long
        unruled = components(erase(ink.mask, lines + boxed)) if lines or boxed else all_ink
    return unruled, typical


def _ruled_lines(all_ink: Sequence[Component], ink: Ink) -> list[Component]:
    """The ruled lines of a page that are not digits."""
    straight = ruled_lines(ink.mask, ink.stroke, MIN_SHORT_LINE)
    if not straight:
        return []
    lines = [line for line in straight if line.size >= MIN_TABLE_LINE * ink.mask.shape[line.axis]]
    clear = [one for one in all_ink if one.clear_of_border(ink.mask.shape)]
    held = {one: sum(map(one.contains, lines)) for one in clear}
    others = typical_height([one for one in clear if not held[one]])
    if not others:  # as in a crop of a few large digits, which have straight strokes themselves
        few = [one for one in clear if held[one] <= MAX_STRAIGHT_STROKES]
        others = typical_height([one for one in few if not _is_underline(one, lines)])
    # The bars of sevens in a row leave gaps, unlike a short line below a column of numbers.
    short = [line for line in straight if line not in lines and line.mask.any(axis=1 - line.axis).mean() > MIN_UNBROKEN]
    lines += [line for line in short if others and line.size > MIN_UNDERLINE * others]
    # A 1, or digits in a row or a column, may look like a ruled line: each stands alone and is about as tall as the
    # others.
    tall = [one for one in clear if MAX_FRAGMENT * others <= one.height and one.size <= MAX_STRAIGHT_STROKE * others]
    rest = erase(ink.mask, tall)
    return [line for line in lines if np.count_nonzero(rest[line.where] & line.mask) > MIN_RULED_INK * line.area]


def _is_underline(one: Component, lines: Sequence[Component]) -> bool:
    """Whether a component is hardly more than one of these lines, and horizontal."""
    return any(line.axis == 1 and one.contains(line) and line.area > MIN_LINE_INK * one.area for line in lines)


def _writing(found: Sequence[Component], typical: float, shape: tuple[int, ...]) -> tuple[list[Component], float]:
    """The components of a page that are not dust, holes, frames or ink along its border, and their typical height."""
    _, written = find_drawings([one for one in found if one.size >= MIN_BESIDE_DRAWING * max(shape)], typical)
    sized = [one for one in found if MAX_SPECK * written <= one.size < 4 * typical and not _is_hole(one)]
    around = frames(sized)
    typical = typical_height([one for one in sized if one not in around]) or typical
    writing = [
        one
        for one in sized
        if (one.clear_of_border(shape) or one.height > MAX_FRAGMENT * typical) and one not in around
    ]
    return writing, typical


def _is_hole(one: Component) -> bool:
    """Whether a component is about as wide as it is tall, and filled, as a punched hole or a bullet is."""
    square = min(one.height, one.width) >= MIN_DISK * one.size
    return square and 2 * float(ink_distances(one.mask).max()) >= MIN_DISK * one.size


# Where lines of text are as close as on ruled paper, a digit may touch the one below. Unlike a tall 1, the two have
# different lines of text beside their upper and lower half.
def _without_joins(found: Sequence[Component], typical: float) -> list[Component]:
    """The components, with those that belong to two lines of text cut between the lines."""
    tall = [
        one
        for one in found
        if MIN_TWO_LINES * typical <= one.height <= MAX_TWO_LINES * typical and one.width < one.height
    ]
    usual = [one.box for one in found if MAX_FRAGMENT * typical <= one.height < MIN_TWO_LINES * typical]
    if not tall or not usual:
        return list(found)
    parts = [_cut_between_lines(one, np.array(usual), typical) if one in tall else [one] for one in found]
    return list(itertools.chain.from_iterable(parts))


def _cut_between_lines(one: Component, usual: NDArray[np.int64], typical: float) -> list[Component]:
    """The parts of a component above and below the row where the least ink joins them, if some of the writing beside it
    is above that row, and the rest below; else the component itself. usual: boxes (N, 4)."""
    down, across = box_overlaps(one, usual).T
    tops, _, bottoms, _ = usual[(down > 0) & (-across <= MAX_BESIDE * typical)].T - one.top
    inked = one.mask.sum(axis=1, dtype=np.float32)
    margin, overlap = round(MAX_FRAGMENT * typical), MAX_LINE_OVERLAP * typical
    rows = np.arange(margin, one.height - margin)
    for row in rows[np.lexsort((abs(rows - one.height / 2), inked[rows]))].tolist():
        above, below = bottoms <= row + overlap, tops >= row - overlap
        if above.any() and below.any() and (above ^ below).all():
            return components(one.mask[:row], one.top, one.left) + components(one.mask[row:], one.top + row, one.left)
    return [one]


def _choices(line: Sequence[Component], typical: float, ink: Ink, digits: list[Component]) -> list[Choice]:
    """The hypotheses about one line of text. digits: those of the page so far; the line's are appended."""
    pieces: list[tuple[Component, int, float]] = []  # with its component's number, and the cost of the cut on its left
    for number, one in enumerate(line):
        for index, part in enumerate(_split_at_faint_ink(one, typical, ink.strength)):
            (leftmost, _), *others = _cut_at_minima(part, typical, ink.stroke)
            pieces.append((leftmost, number, CUT_COSTS[0] if index else 0.0))
            pieces += [(piece, number, cost) for piece, cost in others]
    numbers = [number for _, number, _ in pieces]
    between = [_overlap_cost(line[a], line[b]) if a != b else 0.0 for a, b in itertools.pairwise(numbers)]
    separations = [0.0, *between, 0.0]
    blanks, signs = find_blanks(line, typical), find_signs(line, typical, ink.stroke)
    marks = find_commas(line, typical) + signs
    choices = []
    for first in range(len(pieces)):
        for stop in range(first + 1, min(first + MAX_PIECES, len(pieces)) + 1):
            group = pieces[first:stop]
            parts = [part for part, *_ in group]
            width = max(part.right for part in parts) - min(part.left for part in parts)
            height = max(part.bottom for part in parts) - min(part.top for part in parts)
            if stop > first + 1 and width > MAX_ASPECT * max(height, typical):
                break
            cuts = group[0][2] + (pieces[stop][2] if stop < len(pieces) else 0.0)
            neighbors = [(one, other) for (one, a, _), (other, b, _) in itertools.pairwise(group) if a != b]
            gaps = sum(min(max(0, -overlaps(one, other)[1]) / typical, 1) for one, other in neighbors)
            tall, wide = abs(math.log(height / typical)) - 0.5, math.log(width / height) + 0.2
            cost = cuts + GAP_COST * gaps + HEIGHT_COST * max(0.0, tall) + WIDTH_COST * max(0.0, wide)
            if stop > first + 1 and cost > MIN_UNLIKELY:
                continue
            cost += (separations[first] + separations[stop]) / 2
            mark, blank = (any(part in others for part in parts) for others in (marks, blanks))
            single = stop == first + 1
            cost += mark * (MARK_COST if single else MARK_PART_COST) + blank * (0 if single else BLANK_PART_COST)
            choices.append(Choice(first, stop, cost, len(digits)))
            digits.append(union(parts))
            if single and (parts[0] in signs or not MAX_FRAGMENT * typical <= height <= MIN_BLOT * typical):
                choices.append(Choice(first, stop, 0.0 if mark else BLANK_COST if blank else SKIP_COST, None))
    return choices


def _overlap_cost(one: Component, other: Component) -> float:
    """The cost of reading neighbors as two digits if one is partly above the other, as the strokes of an open 4 are.
    Two digits of which one leans over the other, in contrast, overlap vertically for nearly all of their height."""
    down, across = overlaps(one, other)
    if not 0 < down < MAX_BESIDE_OTHER * max(one.height, other.height):
        return 0.0
    return OVERLAP_COST * max(0.0, across / min(one.width, other.width) - MAX_OVERLAP)


def _split_at_faint_ink(component: Component, typical: float, strength: Strength) -> list[Component]:
    """The parts of a component from left to right, each around a tall part, if only faint ink joins the tall parts;
    else the component itself. strength: the page's."""
    top, left, mask = component.top, component.left, component.mask
    strong = components(mask & (strength[component.where] > MAX_FAINT))
    tall = [part for part in strong if part.height >= MAX_FRAGMENT * typical]
    if len(tall) < 2:
        return [component]
    apart = erase(np.ones(mask.shape, bool), tall).view(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(apart, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    parts = [union(components(mask & (nearest == number), top, left)) for number in range(1, len(tall) + 1)]
    return sorted(parts, key=lambda part: part.left)


def _is_dash(mask: Mask, profile: NDArray[Any], strokes: NDArray[np.int64]) -> bool:
    """Whether a component is a single, nearly straight stroke from left to right. profile: the thickness of its ink in
    each column, smoothed; strokes: how many strokes cross each column."""
    thickness = float(np.median(profile))
    if (strokes != 1).any() or profile.max() > MAX_DASH * thickness or len(profile) <= MIN_DASH_LENGTH * thickness:
        return False
    hull = cv2.convexHull(cv2.findNonZero(mask.view(np.uint8)))
    return bool(np.count_nonzero(mask) > MIN_DASH_INK * cv2.contourArea(hull))


def _cut_at_minima(component: Component, typical: float, stroke: float) -> list[tuple[Component, float]]:
    """The pieces of a component from left to right, each with the cost of the cut on its left. Cuts lie at deep minima
    of the column sums: through a single stroke, or through two, as in a loop, in the middle of a piece that is still
    wide. Returns the component itself if it is narrow, short, a dash or nowhere thin enough."""
    top, left, mask = component.top, component.left, component.mask
    wide = MIN_WIDE * max(typical, 0.7 * component.height)
    if component.width < wide or component.height < MAX_FRAGMENT * typical:
        return [(component, 0.0)]
    profile = cv2.blur(mask.sum(axis=0, dtype=np.float32)[None], (max(1, round(stroke)), 1))[0]
    strokes = strokes_across(mask.T)  # of each column
    if _is_dash(mask, profile, strokes):
        return [(component, 0.0)]
    deepest = profile.argsort(kind="stable")
    margin = max(2, round(0.2 * component.height))
    cuts: dict[int, float] = {}
    for crossed, cost in enumerate(CUT_COSTS, 1):
        thin = (strokes == crossed) & (profile <= crossed * MAX_JOINT * stroke)
        for column in deepest[thin[deepest]].tolist():
            first = max((cut for cut in cuts if cut <= column), default=0)
            stop = min((cut for cut in cuts if cut > column), default=component.width)
            apart = min(column - first, stop - column)
            in_middle = stop - first >= wide and apart >= MIN_FROM_SIDE * (stop - first)
            if apart >= margin and (crossed == 1 or in_middle) and len(cuts) < 2 * component.width / component.height:
                cuts[column] = cost
    edges = [0, *sorted(cuts), component.width]
    pieces = []
    for start, stop in itertools.pairwise(edges):
        if parts := components(mask[:, start:stop], top, left + start):
            inked = [part for part in parts if part.area > MAX_SCRAP * component.area / len(edges)]
            pieces.append((union(inked or parts), cuts.get(start, 0.0)))
    return pieces
