"""From a digit's ink to 28×28, placed as MNIST's makers placed theirs. NumPy and Pillow only.

Knows nothing about models, training or datasets.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BOX", "SIDE", "place"]

BOX, SIDE = 20, 28  # the digit's box and the image's side (LeCun et al. 1998, section III.A)


def place(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a digit into the 20×20 box, aspect kept, and centre it by mass in 28×28.

    ink: uint8 (H, W), 0 = paper, 255 = ink. Returns uint8 (28, 28). Raises ValueError where there is no ink.

    >>> place(np.full((4, 2), 255, np.uint8)).nonzero()[0].tolist()[0]  # a 20×10 bar from row 4
    4
    """
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("want a digit, got an empty image")
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    zoom = BOX / max(digit.shape)
    height, width = (max(1, round(length * zoom)) for length in digit.shape)
    box = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC))  # (≤ 20, ≤ 20)
    mass = box.sum(dtype=np.int64)
    top, left = (
        int(
            np.clip(
                round(SIDE / 2 - float(box.sum(axis=1 - axis) @ (np.arange(length) + 0.5) / mass)), 0, SIDE - length
            )
        )
        for axis, length in enumerate(box.shape)
    )
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = box
    return image
