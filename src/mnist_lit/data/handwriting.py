"""Draw digits as people write them outside MNIST: ones with a long flag and a base, curled and crossed sevens, looped
and open fours, nines with a curled tail, with any pen. A network that has never seen these shapes misreads them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.data.continental import CONTINENTAL_DRAWS, add_continental_strokes, line_coverage
from mnist_lit.data.in_memory import DIGITS
from mnist_lit.data.keyed_random import CONTINENTAL, HANDWRITING, uniform
from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import BOX_SIZE, IMAGE_SIZE

# Each style is a digit and its strokes, one string per stroke: the points of a smooth curve as x and y on a grid from 0
# to 9, y downwards. A corner is a point where one stroke ends and the next starts.
STYLES = (
    (0, ("51 20 02 06 39 77 84 51 20", "28 71")),
    (0, ("62 40 13 06 39 76 83 61 30",)),
    (1, ("06 60", "60 59")),
    (1, ("04 50", "50 59", "19 99")),
    (1, ("32 50", "50 59", "19 99")),
    (1, ("05 33 60", "60 69")),
    (1, ("26 70", "70 48", "09 99")),
    (1, ("15 44 70 81 72 49",)),
    (1, ("05 80", "80 39")),
    (1, ("04 80", "80 48", "09 89")),
    (1, ("08 40", "40 69")),
    (1, ("04 70", "70 58", "29 99")),
    (1, ("03 70", "70 49")),
    (1, ("14 41 52 59", "29 89")),
    (1, ("33 60", "60 69", "19 99")),
    (1, ("24 60", "60 58 29", "29 99")),
    (1, ("06 70", "70 49", "19 79")),
    (2, ("12 40 82 56 18 08 17 38 98",)),
    (2, ("01 80", "80 09", "09 99")),
    (2, ("02 30 72 45 09", "09 49 98")),
    (2, ("12 40 71 63 26 09", "09 99")),
    (2, ("03 21 60 73 46 09 08 27 59 98",)),
    (3, ("00 80", "80 43", "43 85 69 09")),
    (3, ("01 40 72 34", "34 75 78 49 08")),
    (3, ("00 70", "70 33", "33 74", "74 29")),
    (3, ("12 40 62 34", "34 66 38 08")),
    (3, ("02 11 30 72 44 34 75 87 58 29 07",)),
    (3, ("02 20 62 54 34 24 34 65 87 59 19 07",)),
    (3, ("10 80", "80 54", "54 86 69 19")),
    (4, ("50 23 05 07 28 46 96", "73 69")),
    (4, ("10 05 16 86", "80 79")),
    (4, ("10 05", "05 85", "71 79")),
    (4, ("40 06", "06 86", "53 49")),
    (4, ("70 06", "06 96", "70 79")),
    (4, ("20 03 25 55 71 82 64 59",)),
    (4, ("30 05 27 64 82 71 66 69",)),
    (4, ("50 05", "05 85", "82 49")),
    (4, ("60 05 06 86", "73 59")),
    (5, ("10 14", "14 53 86 59 08", "20 90")),
    (5, ("90 20", "20 14", "14 63 86 59 08")),
    (5, ("80 20 14 44 76 58 18",)),
    (5, ("10 14", "14 53 86 59 08", "10 81")),
    (6, ("80 33 06 29 68 76 45 07",)),
    (6, ("81 50 14 18 49 87 65 26",)),
    (6, ("73 81 50 23 17 39 67 46",)),
    (6, ("70 33 06 29 58 66 45 17",)),
    (7, ("03 11 31 61 90", "90 63 49", "25 85")),
    (7, ("04 01 21 61 91", "91 59")),
    (7, ("00 80", "80 39", "25 75")),
    (7, ("03 00", "00 80", "80 54 49")),
    (7, ("03 00", "00 80", "80 54 49", "35 85")),
    (7, ("05 11 32 52 90", "90 64 39", "17 86")),
    (7, ("06 02 20 32 53 80", "80 63 29", "16 76")),
    (7, ("01 80", "80 39", "08 68")),
    (7, ("01 80", "80 54 39")),
    (7, ("02 80", "80 49", "15 95")),
    (7, ("02 11 30 51 80", "80 54 49", "26 85")),
    (7, ("01 80 71 49",)),
    (7, ("13 10 80", "80 59")),
    (7, ("14 11 81", "81 39", "37 75")),
    (8, ("40 12 34 62 40", "34 06 39 76 34")),
    (8, ("82 50 12 45 87 49 07 45 82",)),
    (8, ("71 40 12 34 66 78 49 17 36 64 71",)),
    (8, ("80 50 22 35 67 79 48 27 36 64 83",)),
    (9, ("82 40 02 14 45 82", "82 86 59 18 07")),
    (9, ("81 30 03 35 82", "82 78 49 08")),
    (9, ("82 40 02 35 82", "80 79")),
    (9, ("72 40 13 45 72", "72 68 89")),
    (9, ("62 40 22 34 62", "62 76 59 28 06")),
    (9, ("62 30 13 34 62", "62 75 78 59 19 08")),
    (9, ("72 50 22 24 44 63", "72 68 49 18 07")),
    (9, ("72 40 12 24 54 72", "72 75 58 19")),
    (9, ("73 51 31 23 34 63", "73 76 59 29")),
)
STYLE_POINTS = 16  # the most that a style may have
HANDWRITING_DRAWS = 5 + 2 * STYLE_POINTS  # numbers per image: whether, style, pen, slant, width, shift of each point
STEPS = 4  # straight lines between two points of a curve
JITTER, SLANT, ASPECT = 0.7, 0.4, (0.45, 1.0)  # of a point in grid units, of x along y, and width to height
PEN = (1.4, 4.4)  # pixels
MARGIN = 3  # least distance of a line from the image's border


@dataclass(frozen=True)
class HandwritingStyles:
    """The fractions of the digits written in other styles; see `add_continental_strokes` and `vary_handwriting`."""

    continental: float = 0.0
    redrawn: float = 0.0

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise InputError if other classes than the ten digits would be redrawn."""
        if (self.continental or self.redrawn) and tuple(classes) != DIGITS:
            raise InputError("data.continental, data.handwriting: expected 0 unless the classes are the digits 0 to 9")

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor, seed: int, epoch: int | Tensor) -> Tensor:
        """Alter uint8 images (B, 28, 28) of the digits (B,); each image's (seed, epoch, index) determines how."""
        if self.continental:
            draws = uniform(seed, epoch, indices, CONTINENTAL_DRAWS, stream=CONTINENTAL)
            images = add_continental_strokes(images, labels, draws, self.continental)
        if self.redrawn:
            draws = uniform(seed, epoch, indices, HANDWRITING_DRAWS, stream=HANDWRITING)
            images = vary_handwriting(images, labels, draws, self.redrawn)
        return images


def vary_handwriting(images: Tensor, labels: Tensor, draws: Tensor, fraction: float) -> Tensor:
    """Replace this fraction of the images by digits of another style, and write half as many with another pen.

    images and result: uint8 (B, 28, 28), 0 = paper; labels: int64 (B,), the digits; draws: uniform numbers
    (B, HANDWRITING_DRAWS). No image depends on another.

    >>> blank = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> one = vary_handwriting(blank, torch.tensor([1]), torch.full((1, HANDWRITING_DRAWS), 0.1), fraction=0.5)
    >>> int((one > 127).any(dim=2).sum())  # 20 pixels high
    20
    """
    images = images.clone()
    redrawn = (draws[:, 0] < fraction).nonzero()[:, 0]
    if len(redrawn):
        images[redrawn] = _draw(labels[redrawn], draws[redrawn])
    other_pen = ((draws[:, 0] >= fraction) & (draws[:, 0] < 1.5 * fraction)).nonzero()[:, 0]
    if len(other_pen):
        images[other_pen] = _vary_stroke_width(images[other_pen], draws[other_pen])
    return images


def _compile_styles() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each digit's first style, then the number of styles, (11,); all points (S, STYLE_POINTS, 2); and the four points
    and their weights that make up both ends of every line, (S, L, 2, 4) each."""
    points = torch.zeros(len(STYLES), STYLE_POINTS, 2)
    lines: list[list[tuple[list[list[int]], list[list[float]]]]] = []
    for style, (_, strokes) in enumerate(STYLES):
        names = sorted({name for stroke in strokes for name in stroke.split()})
        points[style, : len(names)] = torch.tensor([[int(name[0]), int(name[1])] for name in names]).float()
        lines.append([])
        for stroke in strokes:
            at = [names.index(name) for name in stroke.split()]
            around = [at[0], *at, at[-1]]
            for first in range(len(at) - 1):
                for step in range(STEPS):
                    ends = [_catmull_rom((step + end) / STEPS) for end in (0, 1)]
                    lines[-1].append(([around[first : first + 4]] * 2, ends))
    longest = max(map(len, lines))
    for each in lines:  # pad with lines of length 0
        last, (_, end) = each[-1]
        each += [(last, [end, end])] * (longest - len(each))
    starts = [next(i for i, (digit, _) in enumerate(STYLES) if digit == label) for label in range(10)]
    indices = torch.tensor([[four for four, _ in each] for each in lines])
    weights = torch.tensor([[ends for _, ends in each] for each in lines])
    return torch.tensor([*starts, len(STYLES)]), points, indices, weights


def _catmull_rom(t: float) -> list[float]:
    """The weights of four points in a smooth curve through the middle two, at t in [0, 1] between these."""
    return [
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (-(t**2) + t**3) / 2,
    ]


_FIRST, _POINTS, _INDICES, _WEIGHTS = _compile_styles()


# A style's points are moved a little, each on its own, and joined by a smooth curve through all of them (Catmull and
# Rom 1974). Short lines follow the curve; each pixel takes the largest coverage by any of them. As in MNIST, the longer
# side becomes 20 pixels, and the center of the ink lies in the center of the image.
def _draw(labels: Tensor, draws: Tensor) -> Tensor:
    """Digits of a random style: labels (N,), draws (N, HANDWRITING_DRAWS) → uint8 (N, 28, 28)."""
    first, points, indices, weights = (table.to(labels.device) for table in (_FIRST, _POINTS, _INDICES, _WEIGHTS))
    style = first[labels] + (draws[:, 1] * (first[labels + 1] - first[labels])).long()
    moved = points[style] + JITTER * (2 * draws[:, 5:].reshape(-1, STYLE_POINTS, 2) - 1)  # (N, STYLE_POINTS, 2)
    slant, aspect = SLANT * (2 * draws[:, 3] - 1), ASPECT[0] + (ASPECT[1] - ASPECT[0]) * draws[:, 4]
    x, y = moved[:, :, 0], moved[:, :, 1]
    moved = torch.stack((aspect[:, None] * x - slant[:, None] * y, y), dim=2)
    image = torch.arange(len(labels), device=labels.device)[:, None, None, None]
    near, weight = moved[image, indices[style]], weights[style][..., None]  # (N, L, 2, 4, 2), (N, L, 2, 4, 1)
    ends = sum(near[:, :, :, k] * weight[:, :, :, k] for k in range(4))  # (N, L, 2, 2)
    assert isinstance(ends, Tensor)
    low, high = ends.amin((1, 2)), ends.amax((1, 2))  # (N, 2)
    pen = PEN[0] + (PEN[1] - PEN[0]) * draws[:, 2]
    zoom = ((BOX_SIZE - pen) / (high - low).amax(1))[:, None]  # (N, 1)
    length = (ends[:, :, 1] - ends[:, :, 0]).square().sum(2).sqrt()[..., None]  # (N, L, 1)
    middle = (ends.mean(2) * length).sum(1) / length.sum(1)  # (N, 2)
    reach = (IMAGE_SIZE / 2 - MARGIN) / zoom  # how far the digit may extend from there
    middle = middle.minimum(low + reach).maximum(high - reach)
    ends = (ends - middle[:, None, None]) * zoom[:, :, None, None] + (IMAGE_SIZE - 1) / 2
    start, end = ends.flatten(0, 1).unbind(1)  # (N·L, 2) each
    coverage = line_coverage(start, end, pen.repeat_interleave(indices.shape[1]))
    return (coverage.view(len(labels), -1, IMAGE_SIZE, IMAGE_SIZE).amax(1) * 255).round().to(torch.uint8)


def _vary_stroke_width(images: Tensor, draws: Tensor) -> Tensor:
    """Thinner, thicker or blurred strokes, by up to one pixel on each side: uint8 (N, 28, 28)."""
    ink = images[:, None].float()
    pens = torch.stack((-F.max_pool2d(-ink, 3, 1, 1), F.max_pool2d(ink, 3, 1, 1), F.avg_pool2d(ink, 3, 1, 1)))
    pen = pens[(draws[:, 1] * 3).long(), torch.arange(len(images), device=images.device)]
    amount = draws[:, 2, None, None, None] * 0.8
    return (ink + (pen - ink) * amount)[:, 0].round().to(torch.uint8)
