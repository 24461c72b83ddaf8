"""Draw ones with an upstroke and sevens with a bar: common in much of the world, but rare in MNIST, whose
writers were American. A network that has never seen them reads such a one as a seven and such a seven as a four."""

import torch
from torch import Tensor

CONTINENTAL_DRAWS = 5  # uniform numbers per image: whether, position or slope, length, tilt, thickness
INK_LEVEL = 100  # of 255; above it a pixel belongs to a stroke


def add_continental_strokes(images: Tensor, labels: Tensor, draws: Tensor, fraction: float) -> Tensor:
    """Add an upstroke to this fraction of the ones, and a bar to this fraction of the sevens, each drawn on its own.
    images and result: uint8 (B, 28, 28), 0 = paper; labels: int64 (B,); draws: uniform numbers (B, CONTINENTAL_DRAWS).

    >>> stem = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> stem[0, 4:24, 13:15] = 255
    >>> one = add_continental_strokes(stem, torch.tensor([1]), torch.full((1, CONTINENTAL_DRAWS), 0.4), fraction=0.5)
    >>> int(one[0, 10, 8]) > 0, int(one[0, 10, 20])
    (True, 0)
    """
    images = images.clone()
    chosen = draws[:, 0] < fraction
    for label, stroke in ((1, _upstroke), (7, _bar)):
        selected = (chosen & (labels == label)).nonzero()[:, 0]
        if len(selected):
            digits, numbers = images[selected], draws[selected]
            start, end, width = stroke(digits, numbers)
            ink = line_coverage(start, end, width * (0.8 + 0.4 * numbers[:, 4])) * 255
            images[selected] = torch.maximum(digits, ink.round().to(torch.uint8))
    return images


def _upstroke(digits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A stroke from the top of a one down to the left: start and end (N, 2) as x and y, and width (N,), in pixels."""
    top, bottom = _ink_rows(digits)
    width = (digits.sum((1, 2)) / 255 / (bottom - top).clamp(min=8)).clamp(1.5, 4)
    start = torch.stack((_ink_center(digits, top + 1), top + width / 2), dim=1)
    angle, length = torch.deg2rad(25 + 45 * draws[:, 1]), 4 + 10 * draws[:, 2]
    return start, start + torch.stack((-angle.cos(), angle.sin()), dim=1) * length[:, None], width


def _bar(digits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A stroke across the stem of a seven; returns what `_upstroke` returns."""
    top, bottom = _ink_rows(digits)
    height = (top + (bottom - top) * (0.4 + 0.25 * draws[:, 1])).round()
    middle = torch.stack((_ink_center(digits, height), height), dim=1)
    angle, half = torch.deg2rad(-20 + 30 * draws[:, 3]), 2.5 + 3.5 * draws[:, 2]
    reach = torch.stack((angle.cos(), angle.sin()), dim=1) * half[:, None]
    return middle - reach, middle + reach, torch.full_like(height, 2.6)


def _ink_rows(digits: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last row with ink: float32 (N,) each."""
    has_ink = (digits > INK_LEVEL).any(dim=2).int()  # (N, 28)
    return has_ink.argmax(dim=1).float(), (digits.shape[1] - 1 - has_ink.flip(1).argmax(dim=1)).float()


def _ink_center(digits: Tensor, row: Tensor) -> Tensor:
    """The mean x of the ink in a row and its two neighbors: float32 (N,)."""
    rows = torch.arange(digits.shape[1], device=digits.device)
    near = (rows - row[:, None]).abs() <= 1  # (N, 28)
    ink = (digits.long() * near[:, :, None]).sum(dim=1)  # (N, 28); integer sums are exact in any order
    return (ink * rows).sum(dim=1) / ink.sum(dim=1).clamp(min=1)


# An anti-aliased line as a distance field: project each pixel center onto the segment, clamp the projection to its ends
# (which makes them round), and let coverage fall from 1 to 0 over one pixel around half the line's width.
def line_coverage(start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """The fraction of each pixel that a line with round ends covers: (N, 28, 28), in [0, 1]."""
    center = torch.arange(28.0, device=start.device)
    x, y = (center - start[:, 0, None])[:, None, :], (center - start[:, 1, None])[:, :, None]  # (N, 1, 28), (N, 28, 1)
    dx, dy = (end - start)[:, :, None, None].unbind(dim=1)  # (N, 1, 1) each
    length = (dx.square() + dy.square()).clamp(min=1e-9)  # squared; a point has none
    along = ((x * dx + y * dy) / length).clamp(0, 1)  # (N, 28, 28), 0 at the start, 1 at the end
    distance = ((x - along * dx).square() + (y - along * dy).square()).sqrt()
    return (width[:, None, None] / 2 + 0.5 - distance).clamp(0, 1)
