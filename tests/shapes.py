"""Hand-drawn circles, squares and triangles: a small dataset of pictures for tests."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CORNERS = {"circle": 40, "square": 4, "triangle": 3}


def shape(name: str, seed: int) -> Image.Image:
    """A hand-drawn circle, square or triangle, each seed another."""
    draw = np.random.default_rng([len(name), seed])
    image = Image.new("RGB", (160, 140), (int(draw.integers(215, 250)), 235, 225))
    x, y, r, turn = *draw.uniform(60, 80, 2), draw.uniform(28, 45), draw.uniform(-0.25, 0.25)
    count = CORNERS[name]
    angles = [turn + 2 * math.pi * n / count + (math.pi / 4 if count == 4 else -math.pi / 2) for n in range(count)]
    points = [(x + r * math.cos(angle), y + r * math.sin(angle)) for angle in angles]
    ImageDraw.Draw(image).line([*points, *points[:2]], fill=(30, 30, 80), width=int(draw.integers(4, 9)), joint="curve")
    return image


def shapes(where: str = "my-shapes", **counts: int) -> None:
    """Pictures a class of each split."""
    seed = 0
    for split, count in (counts or {"train": 24, "val": 6, "test": 4}).items():
        for name in CORNERS:
            place = Path(where, split, name)
            place.mkdir(parents=True)
            for number in range(count):
                shape(name, seed := seed + 1).save(place / f"{number}.png")
