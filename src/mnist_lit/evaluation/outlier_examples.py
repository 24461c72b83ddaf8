"""Synthetic images that are not digits, made from digits or from scratch: what the detector learns to reject. They
include no garments and no letters in installed fonts, so those can measure how well rejection generalizes."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from mnist_lit.evaluation.symbols import printed_symbol, symbol_path
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, fit_to_box

Images = NDArray[np.uint8]
SYMBOL_REPEATS = 4  # how often two written symbols and a printed one follow the other kinds
POLYGON_REPEATS = 4  # garments and other filled shapes have many outlines
MIRROR_SAFE, ROTATION_SAFE = (0, 1, 8), (0, 8)  # digits that stay digits when mirrored, or rotated by 90°


def make_outliers(images: Images, labels: NDArray[np.int64] | None, count: int, seed: int) -> Images:
    """`count` images that are not digits, the kinds in turn: uint8 (count, 28, 28), a pure function of the arguments.

    images, labels: digits, uint8 (N, 28, 28) and int64 (N,). Without labels, as for classes that are not digits,
    nothing is mirrored or rotated, and no symbols are drawn.

    >>> bars = np.stack([fit_to_box(np.full((9, 3), 255, np.uint8))] * 2)
    >>> make_outliers(bars, np.array([7, 4]), 12, seed=0).shape
    (12, 28, 28)
    """
    rng = np.random.default_rng(seed)
    pick = rng.choice  # along the first axis
    kinds: list[Callable[[], Images]] = [
        lambda: _stitched(pick(images), pick(images), rng),
        lambda: _fit(np.maximum(pick(images), np.roll(pick(images), rng.integers(-6, 7, 2), (0, 1)))),  # overlaid
        *(partial(make, rng) for make in (_scribble, _strokes, _texture, *[_polygon] * POLYGON_REPEATS)),
    ]
    if labels is not None:
        mirrorable, rotatable = (images[~np.isin(labels, safe)] for safe in (MIRROR_SAFE, ROTATION_SAFE))
        kinds += [lambda: pick(mirrorable)[:, ::-1]] if len(mirrorable) else []
        kinds += [lambda: _fit(np.rot90(pick(rotatable), rng.choice((1, 3))))] if len(rotatable) else []
        written, printed = (lambda: _draw_path(symbol_path(rng), rng)), (lambda: _fit(printed_symbol(rng)))
        kinds += [written, written, printed] * SYMBOL_REPEATS
    return np.stack([kinds[number % len(kinds)]() for number in range(count)]).astype(np.uint8)


def _fit(image: Images) -> Images:
    return fit_to_box(image) if image.any() else image


def _stitched(one: Images, other: Images, rng: np.random.Generator) -> Images:
    """The upper or left half of one digit with the rest of another."""
    rest = np.arange(IMAGE_SIZE) >= IMAGE_SIZE // 2
    return _fit(np.where(rest[:, None] if rng.random() < 0.5 else rest, other, one))


def _scribble(rng: np.random.Generator) -> Images:
    """A smooth wandering line: a random walk, blurred along its length until a few turns are left."""
    path = gaussian_filter(rng.normal(size=(2, 400)).cumsum(axis=1), (0, rng.uniform(4, 25)))
    low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
    return _draw_path((path - low) / np.maximum(high - low, 1e-9), rng)


def _strokes(rng: np.random.Generator) -> Images:
    """Two to four straight strokes between a few points; half of the time these lie near a 3×3 grid, as in letters."""
    points = rng.random((rng.integers(3, 7), 2))
    if rng.random() < 0.5:
        points = np.clip(np.round(points * 2) / 2 + rng.normal(0, 0.03, points.shape), 0, 1)
    along = np.linspace(0, 1, 200)[:, None]
    ends = points[rng.integers(len(points), size=(rng.integers(2, 5), 2))]  # (strokes, 2, 2)
    return _draw_path(np.concatenate([start + (end - start) * along for start, end in ends]).T, rng)


def _draw_path(path: NDArray[np.float64], rng: np.random.Generator) -> Images:
    """Draw points in the unit square, (2, N), with a round pen of random width, at four times the final size."""
    side = 4 * IMAGE_SIZE
    rows, columns = (path * (side - 25) + 12).round().astype(int)
    ink = np.zeros((side, side))
    ink[rows, columns] = 1
    sigma = rng.uniform(2, 5, 2) if rng.random() < 0.5 else rng.uniform(1.5, 7)
    ink = gaussian_filter(ink, sigma, truncate=2.5)  # two sigmas are a broad nib's
    return fit_to_box((np.minimum(ink / ink.max() * 3, 1) * 255).astype(np.uint8))


def _polygon(rng: np.random.Generator) -> Images:
    """A filled polygon of three to nine corners around the center, half of the time symmetric, with a rough surface."""
    corners = rng.integers(3, 10)
    angles, radii = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(4, 14, corners)
    outline = np.stack((np.sin(angles), np.cos(angles)), axis=1) * radii[:, None] + IMAGE_SIZE / 2
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in outline.tolist()], fill=int(rng.integers(90, 256)))
    filled = np.asarray(canvas)
    if rng.random() < 0.5:
        filled = np.maximum(filled, filled[:, ::-1])
    return np.asarray(filled * rng.uniform(rng.uniform(0.4, 1), 1, filled.shape), np.uint8)


def _texture(rng: np.random.Generator) -> Images:
    """Noise, from single pixels to blots; sometimes hard-edged, within a rectangle, or almost empty."""
    sigma = rng.choice((0, rng.uniform(0.5, 4)))
    noise = gaussian_filter(rng.random((IMAGE_SIZE, IMAGE_SIZE)), sigma)
    noise = (noise - noise.min()) / np.ptp(noise)
    if rng.random() < 0.3:
        noise = (noise > rng.uniform(0.3, 0.7)).astype(float)
    if rng.random() < 0.5:
        rows, columns = (np.abs(np.arange(IMAGE_SIZE) - 13.5) < rng.uniform(4, 14) for _ in range(2))
        noise = np.maximum(noise, rng.choice((0, 0.6))) * rows[:, None] * columns
    if rng.random() < 0.2:
        noise *= rng.random((IMAGE_SIZE, IMAGE_SIZE)) < 0.02
    return np.asarray(noise * rng.uniform(100, 255), np.uint8)
