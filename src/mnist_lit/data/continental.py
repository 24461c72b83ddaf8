"""Ones with an upstroke and barred sevens, as much of the world writes them and MNIST's Americans hardly did.

A network that has not seen them reads such a one as a seven, and such a seven as a four. torch only; no random state.
"""

import torch
from torch import Tensor

__all__ = ["CONTINENTAL_DRAWS", "add_continental_strokes"]

CONTINENTAL_DRAWS = 5  # uniform numbers an image: whether, where or how steep, how long, how tilted, how thick
INK_LEVEL = 100  # of 255: darker is stroke


def add_continental_strokes(images: Tensor, labels: Tensor, draws: Tensor, share: float) -> Tensor:
    """Give that share of the ones an upstroke, and of the sevens a bar.

    images: uint8 (B, 28, 28), 0 = paper; labels: int64 (B,); draws: uniform numbers (B, DRAWS). Returns uint8
    (B, 28, 28). What an image becomes does not depend on the others.

    >>> bar = torch.zeros(1, 28, 28, dtype=torch.uint8)
    >>> bar[0, 4:24, 13:15] = 255
    >>> one = add_continental_strokes(bar, torch.tensor([1]), torch.full((1, CONTINENTAL_DRAWS), 0.4), share=0.5)
    >>> int(one[0, 10, 8]) > 0, int(one[0, 10, 20])
    (True, 0)
    """
    images = images.clone()
    chosen = draws[:, 0] < share
    for label, ends in ((1, _upstroke), (7, _bar)):
        which = (chosen & (labels == label)).nonzero()[:, 0]
        if len(which):
            digits, own = images[which], draws[which]
            start, end, width = ends(digits, own)
            ink = _line(start, end, width * (0.8 + 0.4 * own[:, 4])) * 255
            images[which] = torch.maximum(digits, ink.round().to(torch.uint8))
    return images


def _upstroke(digits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From a one's upper end down to the left: where it starts and ends, (N, 2) as x and y, and its width (N,)."""
    top, bottom = _rows(digits)
    width = (digits.sum((1, 2)) / 255 / (bottom - top).clamp(min=8)).clamp(1.5, 4)
    start = torch.stack((_ink_center(digits, top + 1), top + width / 2), dim=1)
    angle, length = torch.deg2rad(25 + 45 * draws[:, 1]), 4 + 10 * draws[:, 2]
    return start, start + torch.stack((-angle.cos(), angle.sin()), dim=1) * length[:, None], width


def _bar(digits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Across a seven's stem; as `_upstroke`."""
    top, bottom = _rows(digits)
    height = (top + (bottom - top) * (0.4 + 0.25 * draws[:, 1])).round()
    middle = torch.stack((_ink_center(digits, height), height), dim=1)
    angle, half = torch.deg2rad(-20 + 30 * draws[:, 3]), 2.5 + 3.5 * draws[:, 2]
    reach = torch.stack((angle.cos(), angle.sin()), dim=1) * half[:, None]
    return middle - reach, middle + reach, torch.full_like(height, 2.6)


def _rows(digits: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last row with ink: float32 (N,) each."""
    inked = (digits > INK_LEVEL).any(dim=2).int()  # (N, 28)
    return inked.argmax(dim=1).float(), (digits.shape[1] - 1 - inked.flip(1).argmax(dim=1)).float()


def _ink_center(digits: Tensor, row: Tensor) -> Tensor:
    """Where the ink's middle is along a row and its neighbours: x, float32 (N,)."""
    rows = torch.arange(digits.shape[1], device=digits.device)
    near = (rows - row[:, None]).abs() <= 1  # (N, 28)
    ink = (digits.long() * near[:, :, None]).sum(dim=1)  # (N, 28): whole numbers, so in any order the same
    return (ink * rows).sum(dim=1) / ink.sum(dim=1).clamp(min=1)


def _line(start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """How much of each pixel a line with round ends covers, in [0, 1]: (N, 28, 28)."""
    centre = torch.arange(28.0, device=start.device)
    x, y = (centre - start[:, 0, None])[:, None, :], (centre - start[:, 1, None])[:, :, None]  # (N, 1, 28), (N, 28, 1)
    along_x, along_y = (end - start)[:, :, None, None].unbind(dim=1)  # (N, 1, 1) each
    along = ((x * along_x + y * along_y) / (along_x.square() + along_y.square())).clamp(0, 1)
    distance = ((x - along * along_x).square() + (y - along * along_y).square()).sqrt()
    return (width[:, None, None] / 2 + 0.5 - distance).clamp(0, 1)
