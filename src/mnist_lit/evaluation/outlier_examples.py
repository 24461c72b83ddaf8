"""Pictures that are no digit, made from digits and from nothing: what a reader must learn to refuse.

No letter and no garment is among them, so that these can tell how well refusing carries over. NumPy, Pillow, SciPy.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from mnist_lit.imaging.mnist_format import IMAGE_SIZE, fit_to_box

__all__ = ["make_outliers"]

Images = NDArray[np.uint8]
SAME_MIRRORED, SAME_TURNED = (0, 1, 8), (0, 8)  # digits that stay digits


def make_outliers(images: Images, labels: NDArray[np.int64] | None, count: int, seed: int) -> Images:
    """`count` pictures that are no digit: uint8 (count, 28, 28), a pure function of its arguments.

    images, labels: digits, uint8 (N, 28, 28) and int64 (N,). In equal parts digits mirrored, turned by a quarter,
    stitched from two halves or written over each other, scribbles, straight strokes between a few points, filled
    outlines, and textures from fine noise to blots. Without labels, as for what is no digit either, nothing is mirrored
    or turned.

    >>> from mnist_lit.imaging.mnist_format import fit_to_box
    >>> bars = np.stack([fit_to_box(np.full((9, 3), 255, np.uint8))] * 2)
    >>> make_outliers(bars, np.array([7, 4]), 12, seed=0).shape
    (12, 28, 28)
    """
    draw = np.random.default_rng(seed)
    kinds: list[Callable[[], Images]] = [
        lambda: _stitched(_any(images, draw), _any(images, draw), draw),
        lambda: _overlaid(_any(images, draw), _any(images, draw), draw),
        lambda: _scribble(draw),
        lambda: _strokes(draw),
        lambda: _shape(draw),
        lambda: _texture(draw),
    ]
    if labels is not None:
        mirrorable, turnable = (images[~np.isin(labels, same)] for same in (SAME_MIRRORED, SAME_TURNED))
        kinds += [lambda: _any(mirrorable, draw)[:, ::-1]] if len(mirrorable) else []
        kinds += [lambda: _placed(np.rot90(_any(turnable, draw), draw.choice((1, 3))))] if len(turnable) else []
    return np.stack([kinds[number % len(kinds)]() for number in range(count)]).astype(np.uint8)


def _any(images: Images, draw: np.random.Generator) -> Images:
    chosen: Images = images[draw.integers(len(images))]
    return chosen


def _stitched(one: Images, other: Images, draw: np.random.Generator) -> Images:
    """The upper or left half of one digit with the rest of another."""
    half = one.copy()
    middle = IMAGE_SIZE // 2
    where = (slice(middle, None), slice(None)) if draw.random() < 0.5 else (slice(None), slice(middle, None))
    half[where] = other[where]
    return _placed(half)


def _overlaid(one: Images, other: Images, draw: np.random.Generator) -> Images:
    return _placed(np.maximum(one, np.roll(other, draw.integers(-6, 7, 2), (0, 1))))


def _scribble(draw: np.random.Generator) -> Images:
    """A smooth line that wanders: a random walk of a few turns, smoothed, drawn with a round pen."""
    steps = draw.normal(size=(2, 400)).cumsum(axis=1)
    path = gaussian_filter(steps, (0, draw.uniform(4, 25)))
    low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
    return _drawn((path - low) / np.maximum(high - low, 1e-9), draw)


def _strokes(draw: np.random.Generator) -> Images:
    """Two to four straight strokes between some of a few points; half of the time these are corners and middles."""
    points = draw.random((draw.integers(3, 7), 2))
    if draw.random() < 0.5:
        points = np.clip(np.round(points * 2) / 2 + draw.normal(0, 0.03, points.shape), 0, 1)
    along = np.linspace(0, 1, 200)[:, None]
    ends = points[draw.integers(len(points), size=(draw.integers(2, 5), 2))]  # (N, 2, 2)
    return _drawn(np.concatenate([start + (end - start) * along for start, end in ends]).T, draw)


def _shape(draw: np.random.Generator) -> Images:
    """A filled outline with three to nine corners around its middle, often the same on both sides, somewhat rough."""
    corners = draw.integers(3, 10)
    angles = np.sort(draw.uniform(0, 2 * np.pi, corners))
    radius = draw.uniform(4, 14, corners)
    outline = np.stack((np.sin(angles), np.cos(angles)), axis=1) * radius[:, None] + IMAGE_SIZE / 2
    picture = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in outline.tolist()], fill=int(draw.integers(90, 256)))
    filled = np.asarray(picture)
    if draw.random() < 0.5:
        filled = np.maximum(filled, filled[:, ::-1])
    shape: Images = (filled * draw.uniform(draw.uniform(0.4, 1), 1, filled.shape)).astype(np.uint8)
    return shape


def _drawn(path: NDArray[np.float64], draw: np.random.Generator) -> Images:
    """Points in the unit square, (2, N), gone through with a round pen."""
    side = 4 * IMAGE_SIZE
    rows, columns = (path * (side - 25) + 12).round().astype(int)
    ink = np.zeros((side, side))
    ink[rows, columns] = 1
    ink = gaussian_filter(ink, draw.uniform(2.5, 5))
    return fit_to_box((np.minimum(ink / ink.max() * 3, 1) * 255).astype(np.uint8))


def _texture(draw: np.random.Generator) -> Images:
    """Noise from pixel to blot size, as it is, hard-edged, or within a rectangle."""
    sigma = draw.choice((0, draw.uniform(0.5, 4)))
    noise = gaussian_filter(draw.random((IMAGE_SIZE, IMAGE_SIZE)), sigma)
    noise = (noise - noise.min()) / np.ptp(noise)
    if draw.random() < 0.3:
        noise = (noise > draw.uniform(0.3, 0.7)).astype(float)
    if draw.random() < 0.5:
        rows, columns = (np.abs(np.arange(IMAGE_SIZE) - 13.5) < draw.uniform(4, 14) for _ in range(2))
        noise = np.maximum(noise, draw.choice((0, 0.6))) * rows[:, None] * columns
    if draw.random() < 0.2:
        noise *= draw.random((IMAGE_SIZE, IMAGE_SIZE)) < 0.02  # next to nothing
    texture: Images = (noise * draw.uniform(100, 255)).astype(np.uint8)
    return texture


def _placed(image: Images) -> Images:
    return fit_to_box(image) if image.any() else image
