"""How well the shipped model reads photos of whole pages, all drawn here: ruled paper, shadows, sheets on a table.

    python benchmarks/pages.py --data_dir data
    python benchmarks/pages.py --data_dir data --one  # one digit in each photo, from 3 to 40 % of its height

The digits are MNIST's training images, which the shipped model was trained on: this measures how digits are found and
told apart on any background, not how well they are recognized. `KINDS` says what is special about each kind of page.
A page depends on the seed, its kind and its number alone. `reading.py` reads photos of real pages.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from measurement import benchmark_parser, save_results
from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.in_memory import InMemoryDataset
from mnist_lit.inference.reader import DigitReader
from mnist_lit.system.csv_file import csv_text
from reading import count_pages, read_page

Random = np.random.Generator
Array = NDArray[Any]  # paper, scene: (H, W, 3), 0 … 255; ink: (H, W), 0 … 1; light, x and y: (H, W)
PENS = ((30, 30, 40), (30, 40, 120), (70, 70, 75), (20, 20, 20), (120, 30, 40))  # RGB
RULINGS = ((0.55, 0.7, 0.9), (0.8, 0.8, 0.8), (0.7, 0.8, 0.75))  # RGB, as fractions of the paper's color
WORDS = (
    "Please",
    "write",
    "each",
    "number",
    "below",
    "Date",
    "Name",
    "Phone",
    "Total",
    "Amount",
    "Solve",
    "for",
    "Room",
)
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


class Kind(NamedTuple):
    """What is special about a page; the default is a blank sheet with dark ink that fills the picture, in daylight."""

    gap: tuple[float, float] = (0.1, 0.9)  # between digits, as a fraction of their size
    pens: tuple[float, ...] = (0.35, 0.5, 0.62)  # from thick to thin, see `strokes`
    faint: bool = False  # the ink
    pressure: float = 1  # least fraction of the ink's contrast where the pen hardly touches the paper
    ruling: str = ""  # "lines", "squares" or "dots"
    line: tuple[float, float] = (0.01, 0.04)  # thickness of its lines, radius of its dots; fractions of a digit's size
    dark: float = 1  # times the lines' brightness
    words: bool = False  # printed above and below the writing
    shows_through: bool = False  # what is written on the back
    table: Callable[[Random, Array], Array] | None = None  # that the sheet lies on
    hand: bool = False  # over the sheet, but no digit
    turned: float = 0  # the camera, in degrees
    cut_off: bool = False  # a part of the sheet, but no digit, is out of view
    light: Callable[[Random, Array, Array], Any] = lambda rng, x, y: 1  # times daylight
    noise: tuple[float, float] = (1, 4)  # gray levels
    blur: tuple[float, float] = (0.5, 1.8)  # pixels
    zoom: float = 1


def write(rng: Random, data: InMemoryDataset, kind: Kind) -> tuple[Array, int, str]:
    """One to five lines of up to nine digits: ink, size of the digits in pixels, and text with / between lines."""
    height, width = (1600, 1200) if rng.random() < 0.6 else (1200, 1600)
    size = int(np.exp(rng.uniform(np.log(45), np.log(180))))
    gap, level = rng.uniform(*kind.gap), rng.choice(kind.pens)
    ink, lines, top = np.zeros((height, width), np.float32), [], rng.uniform(0.08, 0.3) * height
    for _ in range(rng.integers(1, 6)):
        left, text = int(rng.uniform(0.07, 0.3) * width), ""
        for index in rng.integers(len(data.train_labels), size=rng.integers(3, 10)):
            digit = strokes(data.train_images[index].numpy(), size * rng.uniform(0.85, 1.15) / 20, level)
            digit = pressed(rng, digit, kind.pressure)
            upper, right = int(top + size * rng.normal(0.75, 0.05) - len(digit) / 2), left + digit.shape[1]
            if right > 0.93 * width:
                break
            ink[upper : upper + len(digit), left:right] += digit
            text += str(int(data.train_labels[index]))
            left = right + int(size * gap * rng.uniform(0.6, 1.4))
        lines.append(text)
        top += size * rng.uniform(1.5, 2.5)
        if top + 1.7 * size > 0.93 * height:
            break
    return ink.clip(0, 1), size, "/".join(lines)


def write_one(rng: Random, data: InMemoryDataset, kind: Kind) -> tuple[Array, int, str]:
    """One digit, from 3 to 40 % of the page's height: see `write`."""
    shape = (1600, 1200) if rng.random() < 0.6 else (1200, 1600)
    size = int(shape[0] * np.exp(rng.uniform(np.log(0.03), np.log(0.4))))
    index = rng.integers(len(data.train_labels))
    digit = strokes(data.train_images[index].numpy(), size / 20, rng.choice(kind.pens))
    digit = pressed(rng, digit, kind.pressure)
    ink, (rows, columns) = np.zeros(shape, np.float32), digit.shape
    top, left = (int(rng.uniform(0.1, 0.9 - used / side) * side) for used, side in zip(digit.shape, shape, strict=True))
    ink[top : top + rows, left : left + columns] = digit
    return ink, max(size, 45), str(int(data.train_labels[index]))


def strokes(image: Array, zoom: float, level: float) -> Array:
    """A digit's strokes, enlarged, crisp and cropped; level, from 0 to 1, makes them thinner."""
    large = cv2.resize(image.astype(np.float32), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(large, (0, 0), max(0.3, 0.35 * zoom))
    peaks = cv2.GaussianBlur(cv2.dilate(smooth, np.ones((int(4 * zoom), int(4 * zoom)))), (0, 0), 2 * zoom)
    ink = np.clip((smooth / np.maximum(peaks, 0.5 * smooth.max()) - level) * zoom * 1.5 + 0.5, 0, 1)
    left, top, width, height = cv2.boundingRect((ink > 0.5).astype(np.uint8))
    return np.asarray(ink[top : top + height, left : left + width])


def pressed(rng: Random, ink: Array, least: float) -> Array:
    """A digit's ink (H, W) with a contrast that varies smoothly from `least` to 1."""
    if least == 1:
        return ink
    grid = rng.uniform(least, 1, (4, 4)).astype(np.float32)
    return np.asarray(ink * cv2.resize(grid, ink.shape[::-1], interpolation=cv2.INTER_LINEAR))


def draw_sheet(rng: Random, ink: Array, size: int, kind: Kind) -> Array:
    """Paper with its ruling, what shows through, and the ink."""
    color = rng.uniform(150, 245) * rng.uniform(0.93, 1, 3)
    sheet = np.full((*ink.shape, 3), color, np.float32)
    if kind.ruling == "dots":
        places = np.indices(ink.shape) / (size * rng.uniform(0.35, 0.9)) + rng.uniform(0, 1, (2, 1, 1))
        far = np.hypot(*(places % 1 - 0.5))
        sheet[far < rng.uniform(*kind.line) / 0.6] *= rng.uniform(0.4, 0.85)
    elif kind.ruling:
        period = size * (rng.uniform(0.35, 0.8) if kind.ruling == "squares" else rng.uniform(1, 1.6))
        fractions = np.array(RULINGS[rng.integers(3)]) * rng.uniform(0.85, 1.05, 3)
        line, width = kind.dark * fractions, max(1, size * rng.uniform(*kind.line))
        for view in (sheet, sheet.swapaxes(0, 1))[: 2 if kind.ruling == "squares" else 1]:
            view[(np.arange(len(view)) + rng.uniform(0, period)) % period < width] *= line
        if kind.ruling == "lines" and rng.random() < 0.5:  # a red margin
            sheet[:, ink.shape[1] // 10 :][:, : int(width)] *= (0.95, 0.6, 0.6)
    if kind.words:
        page = Image.new("L", ink.shape[::-1], 255)
        for top in (0.02, 0.94):
            text = " ".join(rng.choice(WORDS, rng.integers(3, 7)))
            place = rng.uniform(0.05, 0.3) * page.width, top * page.height
            ImageDraw.Draw(page).text(place, text, 40, ImageFont.load_default(0.02 * page.height + 8))
        sheet *= np.asarray(page)[..., None] / 255
    if kind.shows_through:  # upside down
        sheet *= 1 - rng.uniform(0.03, 0.1) * cv2.GaussianBlur(ink[::-1], (0, 0), 4)[..., None]
    pen = color * rng.uniform(0.6, 0.78) if kind.faint else PENS[rng.integers(len(PENS))]
    return np.asarray(sheet + (np.minimum(pen, sheet) - sheet) * ink[..., None])


def place(rng: Random, ink: Array, kind: Kind) -> Array:
    """The homography (3, 3) from the sheet to the picture; drawn again until all of the writing is in view."""
    sides = np.array(ink.shape[::-1])
    left, top, width, height = cv2.boundingRect((ink > 0.5).astype(np.uint8))
    while True:
        whole = 0.75 if kind.turned else 1.02  # of the sheet's size
        scale, degrees, tilt = (rng.uniform(0.65, 0.95), 5, 0.03) if kind.table else (whole, 3, 0)
        turn = cv2.getRotationMatrix2D((0, 0), rng.normal(kind.turned, degrees), scale)[:, :2]
        corners = (CORNERS - 0.5) * sides @ turn + sides * (0.5 + tilt * rng.uniform(-1, 1, (4, 2)))
        if kind.cut_off:
            corners[:, 0] += sides[0] * rng.choice([-1, 1]) * ((1 - scale) / 2 + rng.uniform(0.03, 0.12))
        matrix = cv2.getPerspectiveTransform((CORNERS * sides).astype(np.float32), corners.astype(np.float32))
        written = cv2.perspectiveTransform(CORNERS[None] * (width, height) + (left, top), matrix)
        if (written > 0).all() and (written < sides).all():
            return np.asarray(matrix)


def lay(rng: Random, sheet: Array, ink: Array, kind: Kind) -> Array:
    """The sheet as the camera sees it, on its table and with a hand if there are any."""
    matrix, size = place(rng, ink, kind), ink.shape[::-1]
    if not kind.table:
        return np.asarray(cv2.warpPerspective(sheet, matrix, size, borderMode=cv2.BORDER_REPLICATE))
    covered = cv2.warpPerspective(np.ones_like(ink), matrix, size)
    lit = 1 - 0.4 * cv2.GaussianBlur(np.roll(covered, 8, (0, 1)), (0, 0), 8)  # outside the sheet's own shadow
    scene = cv2.warpPerspective(sheet, matrix, size) + kind.table(rng, sheet) * ((1 - covered) * lit)[..., None]
    if kind.hand:
        scene[draw_hand(rng, cv2.warpPerspective(ink, matrix, size))] = rng.uniform(0.6, 1) * np.array([200, 150, 120])
    return np.asarray(scene)


def draw_hand(rng: Random, ink: Array) -> Array:
    """The outline (H, W) of a palm and four fingers from the left or right that reach as far as the writing allows."""
    (height, width), reach = ink.shape, 0.3
    while True:
        x, y, reach = rng.choice([0.0, width]), rng.uniform(0.3, 0.9) * height, 0.98 * reach
        hand, length, degrees = np.zeros(ink.shape, np.uint8), reach * width, rng.uniform(-30, 30) + (180 if x else 0)
        cv2.ellipse(hand, ((x, y), (1.4 * length, 0.5 * length), degrees), 1, -1)
        for angle in np.deg2rad(degrees + np.array([-22, -8, 6, 20])):
            tip = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
            cv2.line(hand, (int(x), int(y)), tip, 1, int(0.13 * length) + 1)
        if not ink[hand > 0].any():
            return hand > 0


def wood(rng: Random, sheet: Array) -> Array:
    """A table of any color, with a grain."""
    noise = rng.normal(0, rng.uniform(3, 20), (len(sheet) // 8, 4))
    grain = np.asarray(cv2.resize(noise, sheet.shape[1::-1], interpolation=cv2.INTER_CUBIC))
    return np.clip(rng.uniform(40, 200, 3) + grain[..., None], 0, 255)


def cluttered(rng: Random, sheet: Array) -> Array:
    """A wooden table with three to eight round things, partly under the sheet."""
    table = wood(rng, sheet)
    for _ in range(rng.integers(3, 9)):
        center, axes = rng.uniform(0, sheet.shape[1::-1]), rng.uniform((40, 20), (400, 300))
        cv2.ellipse(table, (center.tolist(), axes.tolist(), rng.uniform(0, 180)), rng.uniform(20, 240, 3).tolist(), -1)
    return table


def shadow(rng: Random, x: Array, y: Array) -> Array:
    """It covers one side of a straight edge, sharp or soft."""
    return np.asarray(1 - rng.uniform(0.2, 0.6) / (1 + np.exp(x / rng.uniform(0.003, 0.05))))


def creased(rng: Random, x: Array, y: Array) -> Array:
    """Bright or dark along two folds."""
    folds = [rng.choice([-1, 1]) * rng.uniform(0.06, 0.15) * np.exp(-((place / 0.003) ** 2) / 2) for place in (x, y)]
    return np.asarray(1 + folds[0] + folds[1])


def folded(rng: Random, x: Array, y: Array) -> Array:
    """Panels between three folds, each tilted towards the light or away from it."""
    light = np.ones_like(x)
    for from_fold in (x + 0.17, x - 0.17, y):
        light *= 1 + rng.choice([-1, 1]) * rng.uniform(0.06, 0.15) * (1 - 4 * from_fold).clip(0, 1) * (from_fold > 0)
        light *= 1 - rng.uniform(0.1, 0.25) * np.exp(-((from_fold / 0.003) ** 2) / 2)
    return light


def phone_shadow(rng: Random, x: Array, y: Array) -> Array:
    """A phone's shadow that reaches into the picture from one side, with soft edges."""
    soft = rng.uniform(0.003, 0.015)
    inside = np.minimum(0.22 - np.abs(x), y) / soft
    return np.asarray(1 - rng.uniform(0.3, 0.6) / (1 + np.exp(-inside.clip(-50, 50))))


def fingers(rng: Random, x: Array, y: Array) -> Array:
    """The shadows of four fingers side by side."""
    light = np.ones_like(x)
    for place in (-0.12, -0.04, 0.04, 0.12):
        inside = np.minimum(0.025 - np.abs(x - place), y - rng.uniform(-0.1, 0.1)) / rng.uniform(0.003, 0.012)
        light = np.minimum(light, 1 - rng.uniform(0.4, 0.6) / (1 + np.exp(-inside.clip(-50, 50))))
    return light


def window(rng: Random, x: Array, y: Array) -> Array:
    """Sunlight through a window of four panes."""
    inside = (0.18 - np.maximum(np.abs(np.abs(x) - 0.22), np.abs(np.abs(y) - 0.22))) / rng.uniform(0.002, 0.01)
    return np.asarray(1 - rng.uniform(0.3, 0.6) / (1 + np.exp(inside.clip(-50, 50))))


def blinds(rng: Random, x: Array, y: Array) -> Array:
    """Stripes of sunlight."""
    inside = (np.abs(x / rng.uniform(0.08, 0.2) % 1 - 0.5) - 0.25) / rng.uniform(0.01, 0.06)
    return np.asarray(1 - rng.uniform(0.3, 0.5) / (1 + np.exp(-inside)))


KINDS = {
    "plain": Kind(),
    "thin-pen": Kind(pens=(0.85,)),
    "faint": Kind(faint=True),
    "uneven-pressure": Kind(pressure=0.1),
    "touching": Kind(gap=(-0.02, -0.02)),
    "ruled": Kind(ruling="lines"),
    "squared": Kind(ruling="squares"),
    "squared-dark": Kind(ruling="squares", dark=0.5),
    "squared-thick": Kind(ruling="squares", line=(0.04, 0.08)),
    "dotted": Kind(ruling="dots", line=(0.02, 0.05)),
    "printed-words": Kind(words=True),
    "show-through": Kind(shows_through=True),
    "creased": Kind(light=creased),
    "folded": Kind(light=folded),
    "shadow": Kind(light=shadow),
    "phone-shadow": Kind(light=phone_shadow),
    "fingers": Kind(light=fingers),
    "window": Kind(light=window),
    "blinds": Kind(light=blinds),
    "lamp": Kind(light=lambda rng, x, y: 1 + 0.8 * np.exp(-(x**2 + y**2) / rng.uniform(0.02, 0.1))),  # a bright spot
    "dim": Kind(light=lambda rng, x, y: rng.uniform(0.25, 0.5), noise=(3, 8)),
    "grainy": Kind(light=lambda rng, x, y: rng.uniform(0.3, 0.6), noise=(20, 40), blur=(0.8, 1.4)),
    "blurred": Kind(blur=(2, 4)),
    "out-of-focus": Kind(blur=(4, 6)),
    "turned": Kind(turned=12),
    "small": Kind(zoom=0.35),
    "table": Kind(table=wood),
    "table-ruled": Kind(table=wood, ruling="lines"),
    "table-squared": Kind(table=wood, ruling="squares"),
    "table-shadow": Kind(table=wood, light=shadow),
    "table-hand": Kind(table=wood, hand=True),
    "table-cut-off": Kind(table=wood, cut_off=True),
    "table-clutter": Kind(table=cluttered),
    "table-white": Kind(table=lambda rng, sheet: np.full(sheet.shape, np.median(sheet) * rng.uniform(0.75, 1.1))),
}


def photograph(rng: Random, scene: Array, kind: Kind) -> Image.Image:
    """The scene in its light, with the noise and the blur of a camera."""
    x, y = places(rng, scene.shape)
    daylight = (1 - rng.uniform(0.05, 0.35) * (x + 0.5)) * (1 - rng.uniform(0, 0.4) * (x**2 + y**2))
    light = daylight * kind.light(rng, *places(rng, scene.shape))
    noisy = scene * light[..., None] + rng.normal(0, rng.uniform(*kind.noise), (*light.shape, 1))
    picture = cv2.GaussianBlur(noisy.clip(0, 255).astype(np.uint8), (0, 0), rng.uniform(*kind.blur))
    return Image.fromarray(cv2.resize(picture, None, fx=kind.zoom, fy=kind.zoom, interpolation=cv2.INTER_AREA))


def places(rng: Random, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """x and y (H, W), as fractions of the picture's sides, from a random point near its middle in any direction."""
    angle, center = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7, 2)
    x, y = np.meshgrid(np.linspace(0, 1, shape[1]) - center[0], np.linspace(0, 1, shape[0]) - center[1])
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def draw_page(
    data: InMemoryDataset, name: str, seed: int, number: int, path: Path, write: Callable[..., Any] = write
) -> str:
    """Save one page, or a page with one digit, as a JPEG file; returns its text."""
    rng, kind = np.random.default_rng([seed, number, *name.encode()]), KINDS[name]
    ink, size, text = write(rng, data, kind)
    scene = lay(rng, draw_sheet(rng, ink, size, kind), ink, kind)
    photograph(rng, scene, kind).save(path, quality=int(rng.integers(60, 95)))
    return str(text)


def read_one(reader: DigitReader, path: Path) -> str:
    """What a picture's one digit is; empty if it is rejected."""
    reading = reader.read(path)
    return reading.digit if reading.status == "ok" else ""


def main() -> None:
    """Draw the pages, read them and print the table."""
    parser = benchmark_parser(__doc__, data_dir="data", model="pretrained", pages=20, seed=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="default: all")
    parser.add_argument("--one", action="store_true", help="draw one digit in each photo, and read it as one")
    parser.add_argument("--save", type=Path, help="keep the photos and labels.csv in this folder, for `reading.py`")
    options = parser.parse_args()
    reader, data = DigitReader.load(options.model), load_dataset("mnist", options.data_dir)
    writes, reads = (write_one, read_one) if options.one else (write, read_page)
    rows, results = [("file", "label", "kind")], {}
    print("| Kind | pages | digits | recall | precision | entirely right |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.save or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in options.kinds:
            files = [folder / f"{kind}_{number:02}.jpg" for number in range(options.pages)]
            labels = [draw_page(data, kind, options.seed, number, file, writes) for number, file in enumerate(files)]
            rows += [(file.name, label, kind) for file, label in zip(files, labels, strict=True)]
            texts = [reads(reader, file) for file in files]
            counts = count_pages(labels, texts)
            digits = sum(len(label.replace("/", "")) for label in labels)
            read = zip(files, labels, texts, strict=True)
            wrong = {file.name: f"{label} read as {text}" for file, label, text in read if label != text}
            results[kind] = {"digits": digits, **counts, "wrong": wrong}
            fractions = f"{counts['recall']:.1%} | {counts['precision']:.1%} | {options.pages - len(wrong)}"
            print(f"| {kind} | {options.pages} | {digits} | {fractions} |", flush=True)
        (folder / "labels.csv").write_text(csv_text(rows), encoding="utf-8", newline="")
    settings = {name: getattr(options, name) for name in ("seed", "pages", "one")}
    save_results(options.output, "Pages", {**settings, "kinds": results})


if __name__ == "__main__":
    main()
