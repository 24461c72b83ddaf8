"""Draw letters and symbols that a detector of digits must learn to reject: as strokes, or with Pillow's own font."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import make_interp_spline
from scipy.ndimage import affine_transform, gaussian_filter

# One string per symbol: strokes separated by commas, each the points of a smooth curve as x and y on a grid from 0 to
# 9, y downwards. A corner is a point where one stroke ends and the next starts; a single point is a dot.
# Left out because they look like a digit: D O o Q ° (0), I i J j l | / \ (1), Z z (2), З Э (3), y Ч (4), S s $ (5),
# b б σ (6), > ] (7), B β (8), g q and a single-story a (9).
SYMBOLS = (
    *("09 40,40 89,26 66", "09 22 50 72 89,15 75", "09 40,40 89", "09 40,40 89,89 09"),  # A, A, Λ, Δ
    *("82 50 12 05 28 59 87", "81 40 03 06 49 88", "60 20 03 06 29 69"),  # C
    *("00 09,00 80,04 64,09 89", "71 30 12 44,44 05 18 59 88", "72 40 04 07 49 79,04 64"),  # E, ε, є
    *("00 09,00 80,04 64", "00 09,00 70"),  # F, Γ
    *("82 50 12 05 28 59 87,87 85,85 55", "00 09,80 89,04 84", "00 09,00 80,80 89"),  # G, H, Π
    *("00 09,80 05,34 89", "00 09,73 06,35 79", "00 09,09 79", "00 05 28 79"),  # K, k, L, L
    *("09 00,00 45,45 80,80 89", "09 20,20 46,46 70,70 99", "09 00,00 89,89 80", "00 09,09 80,80 89"),  # M, M, N, И
    *("00 09,00 60 82 64 05", "00 09,02 40 73 46 05", "00 09,00 60 82 64 05,45 89", "80 89,80 20 02 24 85,45 09"),
    *("00 80,40 49", "00 09,04 84"),  # T, ⊢
    *("00 05 28 58 85 80", "00 49,49 80", "00 04 49 84 80", "00 20 48 69 89,80 09"),  # U, V, V, x
    *("00 29,29 43,43 69,69 90", "00 17 39 44,44 59 87 80", "00 05 28 45,41 45,45 68 85 80"),  # W, W, Ш
    *("00 89,80 09", "00 44,80 44,44 49", "00 49,80 49,24 64"),  # X, Y, ∀
    *("12 40 72 79,75 35 17 39 76", "75 35 07 39 77,80 89", "05 85,85 72 41 12 05 18 49 87"),  # a, d, e
    *("81 50 33 39,04 74", "00 09,05 34 64 77 79", "02 09,04 32 72 85 89", "01 09,04 31 70"),  # f, h, n, r
    *("03 09,05 22 43 49,45 62 83 89", "30 37 59 88,03 73", "00 05 28 58 76,80 89"),  # m, t, u
    *("80 56 28 05 12 42 69 89", "00 30 79,44 09", "01 90,30 39,60 67 89", "21 05 18 38 45,45 58 78 95 71"),  # α λ π ω
    *("80 00,00 54,54 09,09 89", "43 13 05 27 47 67 85 73 43,40 49", "00 04 36 66 84 80,40 49"),  # Σ Φ Ψ
    *("09 29,29 05 22 50 72 95 79,79 99", "00 80,14 74,09 89", "50 59,00 44,44 09,90 54,54 99"),  # Ω Ξ Ж
    *("00 09,09 99,50 59,90 99", "00 09,05 35,60 32 37 69 97 92 60", "40 49,03 83,43 09,43 89"),  # Ш Ю 木
    *("02 82,05 85,30 59", "20 29,24 76", "40 43 09,43 89", "04 84,40 49,09 89"),  # キ ト 人 土
    *("40 48,04 84", "05 85", "05 85,41,49", "03 83,06 86", "03 83,06 86,70 19", "05 23 45 67 84"),  # + - ÷ = ≠ ~
    *("02 20 62 74 46,49", "02 20 50 72 54 46,49", "40 46,49", "41", "43,49"),  # ? ? ! . :
    *("89 22 40 62 06 28 59 86", "65 43 25 36 56 65,64 66 85 82 50 12 05 28 59 78"),  # & @
    *("20 19,60 59,03 83,06 86", "80 09,20 11 23 31 20,67 58 69 78 67", "40 48,12 76,72 16"),  # # % *
    *("50 22 27 59", "10 42 47 19", "60 20,20 29,29 69", "81 05,05 89", "09 30,30 69"),  # ( ) [ < ^
    *("05 15,15 29,29 60,60 90", "05 39,39 90", "82 50 13 16 59 87,03 63,06 66"),  # √ ✓ €
    *("00 44,80 44,44 49,14 74,17 77", "04 84,51 84,57 84", "40 49,13 40,73 40"),  # ¥ → ↑
    # More shapes of the letters that are most often misread as digits.
    *("00 06 29 69 86 80", "00 07 29 69 87 80", "00 04 27 57 84 80", "00 06 18 49 78 86 80"),  # U
    *("00 05 28 58 85 80,80 89", "00 06 28 58 86,80 89", "00 05 38 79,80 89"),  # u
    *("81 40 03 06 49 88,88 85,85 55", "82 50 12 05 28 59 87,89 85,85 55"),  # G
    *("71 40 03 06 49 78,79 75,75 45", "81 50 13 06 38 68 87,87 84,84 54"),  # G
    *("00 45,90 45,45 49", "00 43,80 43,43 49", "00 46,80 46,46 49"),  # Y
    *("00 09,09 69", "00 09,09 89", "20 09,09 79"),  # L
    *("09 40,40 89,15 75", "09 40,40 89,16 76", "19 40,40 79,26 66", "09 30 50 89,15 75"),  # A
    *("11 40 71 79,74 35 16 38 76", "12 40 72 79,74 24 06 28 75"),  # a
    *("02 30 62 69,64 24 06 28 65", "12 40 71 78 89,74 44 16 38 75"),  # a
)
PRINTED = "ACEFGHKLMNPRTUVWXYacdefhkmnprtuvwx&@#%?!+=*"  # drawn with Pillow's font
CONFUSED, TIMES = "AGLUYau", 4  # the letters most often misread as digits, drawn four times as often as the others
JITTER, SLANT, ROTATION, ASPECT = 0.4, 0.35, 0.2, (0.5, 1.2)  # of a point in grid units, of x along y, radians, x to y
SERIF_FRACTION, SERIF = 0.35, (0.6, 1.6)  # fraction of the symbols with serifs, and half their length in grid units
STROKE_POINTS = 150  # points per stroke
FONT_SIZE, SIDE = 64, 112  # pixels


def symbol_path(rng: np.random.Generator) -> NDArray[np.float64]:
    """The points of a random symbol in the unit square, (2, N) as rows, columns: slanted, rotated, a bit deformed."""
    jitter = rng.normal(0, JITTER, (10, 10, 2))  # of each grid point, so that strokes that meet still do
    strokes = [_curve(stroke, jitter) for stroke in SYMBOLS[rng.integers(len(SYMBOLS))].split(",")]
    if rng.random() < SERIF_FRACTION:
        half = np.linspace(-1, 1, STROKE_POINTS)[:, None] * (rng.uniform(*SERIF), 0)
        strokes += [end + half for stroke in strokes for end in (stroke[0], stroke[-1])]
    x, y = np.concatenate(strokes).T
    x = x * rng.uniform(*ASPECT) + y * rng.uniform(-SLANT, SLANT)
    angle = rng.uniform(-ROTATION, ROTATION)
    path = np.stack((y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)))
    low, size = path.min(axis=1, keepdims=True), np.ptp(path, axis=1)
    return np.asarray((path - low) / size.max())


def printed_symbol(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A character of Pillow's own font, uint8 (112, 112): slanted, rotated, bolder or thinner."""
    image, middle = Image.new("L", (SIDE, SIDE)), SIDE / 2
    characters = PRINTED + CONFUSED * (TIMES - 1)
    character, bold = characters[rng.integers(len(characters))], int(rng.integers(6))
    ImageDraw.Draw(image).text((middle, middle), character, 255, _font(), anchor="mm", stroke_width=bold)
    angle = rng.uniform(-ROTATION, ROTATION)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [rng.uniform(-SLANT, SLANT), 1 / rng.uniform(*ASPECT)]])
    ink = affine_transform(np.asarray(image, float), matrix, middle - matrix @ (middle, middle), order=1)
    # Blurred differently along each axis and cut off at some level: thicker or thinner strokes, contrast between them.
    ink = gaussian_filter(ink, rng.uniform(0.3, 3, 2))
    ink = (ink / ink.max() - rng.uniform(0.15, 0.6)) * 4 + 0.5
    return np.asarray(ink.clip(0, 1) * 255, np.uint8)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def _curve(stroke: str, jitter: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth curve through a stroke's points: (STROKE_POINTS, 2)."""
    grid = np.array([[int(digit) for digit in point] for point in stroke.split()])
    points = grid + jitter[grid[:, 0], grid[:, 1]]
    if len(points) == 1:
        angle = np.linspace(0, 20, STROKE_POINTS)[:, None]
        return np.asarray(points + angle / 40 * np.concatenate((np.cos(angle), np.sin(angle)), axis=1))  # a spiral
    along = np.linspace(0, len(points) - 1, STROKE_POINTS)
    curve = make_interp_spline(np.arange(len(points)), points, k=min(3, len(points) - 1))
    return np.asarray(curve(along))
