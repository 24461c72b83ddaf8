"""How well the shipped model reads real pictures, and how reliably it rejects images that are not digits.

    python benchmarks/reading.py --data_dir data --pictures FOLDER FOLDER --half untouched

Each folder of pictures holds a `labels.csv` with the columns file, label and kind; the label of a page has its digits,
with / between lines. The kinds are also read with borders, crops, rotations and so on. A hash of their names divides
the pictures into a half for tuning and one that stays untouched. The baseline is what most projects do: shrink the
whole picture to 28×28. The images that are not digits are drawn here: blank paper, noise, garments like
Fashion-MNIST's, handwritten letters, and letters in the fonts of this machine (`fc-list`). The detector was trained on
none of them.
"""

import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from altered_pictures import ALTERATIONS
from measurement import benchmark_parser, save_results
from mnist_lit.data.datasets import load_dataset
from mnist_lit.imaging.find_digits import center_digit
from mnist_lit.imaging.mnist_format import fit_to_box
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.inference.reader import DigitReader
from mnist_lit.system.csv_file import read_csv

Images = NDArray[np.uint8]
COUNT = 1000  # images of each kind that is not a digit
COVERAGES = (1.0, 0.9999, 0.999, 0.995, 0.99, 0.98, 0.95)
STROKES = {  # one string per stroke: its corners, as the digits x and y, on a grid 4 wide and 6 high
    "A": ("06 20 46", "13 33"),
    "C": ("41 20 02 04 26 45",),
    "E": ("40 00 06 46", "03 33"),
    "F": ("40 00 06", "03 33"),
    "H": ("00 06", "40 46", "03 43"),
    "K": ("00 06", "40 03 46"),
    "M": ("06 00 23 40 46",),
    "N": ("06 00 46 40",),
    "P": ("06 00 30 41 42 33 03",),
    "R": ("06 00 30 41 42 33 03", "23 46"),
    "T": ("00 40", "20 26"),
    "U": ("00 05 16 36 45 40",),
    "V": ("00 26 40",),
    "W": ("00 16 22 36 40",),
    "X": ("00 46", "40 06"),
    "Y": ("00 23 40", "23 26"),
    "h": ("00 06", "04 13 33 44 46"),
    "k": ("00 06", "32 04 36"),
    "m": ("06 02", "03 12 23 26", "23 32 43 46"),
    "n": ("02 06", "04 13 33 44 46"),
    "x": ("02 46", "42 06"),
}
FONT_LETTERS = "ACEFGHKLMNPRTUVWXYacdefhkmnprtuvwx"  # the others look like a digit: BDIJOQSZ and bgijloqsyz
GARMENTS = {  # outlines as x,y in 28×28 pixels
    "shirt": "6,2 11,4 17,4 22,2 27,10 22,13 21,26 7,26 6,13 1,10",
    "trousers": "8,2 20,2 23,26 16,26 14,9 12,26 5,26",
    "dress": "11,2 17,2 18,10 22,26 6,26 10,10",
    "shoe": "2,13 10,13 19,18 26,20 26,24 2,24",
    "boot": "8,2 16,2 16,16 25,20 25,25 7,25",
    "bag": "3,11 9,11 10,5 18,5 19,11 25,11 25,24 3,24",
}


def letter(rng: np.random.Generator) -> Images:
    """A handwritten letter, uint8 (28, 28): rotated, slanted, of any pen width, its corners slightly displaced."""
    strokes = STROKES[list(STROKES)[rng.integers(len(STROKES))]]
    angle = np.deg2rad(rng.uniform(-12, 12))
    slant = rng.uniform(-0.25, 0.25)
    paper = Image.new("L", (200, 200))
    pen = int(rng.integers(9, 19))
    for stroke in strokes:
        corners = np.array([[int(corner[0]) - 2, int(corner[1]) - 3] for corner in stroke.split()])  # (N, 2), x and y
        corners = corners + rng.normal(0, 0.18, (1, 2)) + rng.normal(0, 0.12, corners.shape)
        x, y = corners[:, 0] + slant * corners[:, 1], corners[:, 1]
        x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
        points = [(100 + 24 * a, 100 + 24 * b) for a, b in zip(x, y, strict=True)]
        ImageDraw.Draw(paper).line(points, fill=255, width=pen, joint="curve")
        for a, b in points:
            ImageDraw.Draw(paper).ellipse((a - pen / 2, b - pen / 2, a + pen / 2, b + pen / 2), fill=255)
    return fit_to_box(np.asarray(paper.filter(ImageFilter.GaussianBlur(2))))


def find_fonts() -> list[str]:
    """The machine's text fonts with Latin letters; empty without fontconfig."""
    try:
        listed = subprocess.run(["fc-list", ":lang=en", "file"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    files = sorted(line.strip().rstrip(":") for line in listed.splitlines())
    return [file for file in files if file.endswith((".ttf", ".otf")) and "Math" not in file]


def font_letter(rng: np.random.Generator, fonts: list[str]) -> Images:
    """A letter in a random font, uint8 (28, 28)."""
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], 80)
    paper = Image.new("L", (200, 200))
    ImageDraw.Draw(paper).text((100, 100), FONT_LETTERS[rng.integers(len(FONT_LETTERS))], 255, font, anchor="mm")
    return fit_to_box(np.asarray(paper))


def garment(rng: np.random.Generator) -> Images:
    """A filled, textured outline of Fashion-MNIST's size, uint8 (28, 28)."""
    outline = GARMENTS[list(GARMENTS)[rng.integers(len(GARMENTS))]]
    paper = Image.new("L", (28, 28))
    corners = [tuple(float(v) + rng.normal(0, 0.7) for v in corner.split(",")) for corner in outline.split()]
    ImageDraw.Draw(paper).polygon(corners, fill=int(rng.integers(90, 256)))
    return (np.asarray(paper) * rng.uniform(rng.uniform(0.4, 1), 1, (28, 28))).astype(np.uint8)


def non_digits() -> dict[str, Images]:
    """Kind → uint8 (1000, 28, 28) images that are not digits."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 60, (COUNT, 1, 1)) + np.zeros((COUNT, 28, 28))
    kinds = {
        "blank": np.clip(gray + rng.normal(0, 3, gray.shape), 0, 255).astype(np.uint8),
        "uniform noise": rng.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8),
        "garments": np.stack([garment(rng) for _ in range(COUNT)]),
        "letters": np.stack([letter(rng) for _ in range(COUNT)]),
    }
    if fonts := find_fonts():
        print(f"\nLetters in fonts: {FONT_LETTERS} in {len(fonts)} fonts")
        kinds["letters in fonts"] = np.stack([font_letter(rng, fonts) for _ in range(COUNT)])
    else:
        print("\nLetters in fonts: skipped, fc-list finds no fonts")
    return kinds


def resize(picture: Image.Image) -> Images:
    """The baseline, uint8 (28, 28): convert to grayscale, shrink to 28×28, invert if the paper is light."""
    gray = np.asarray(picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR))
    return 255 - gray if np.median(gray) > 127 else gray


class Labeled(NamedTuple):
    """A picture and what it shows."""

    path: Path
    label: str
    kind: str


def labeled_pictures(folders: Sequence[Path], half: str) -> list[Labeled]:
    """The pictures of the folders in that half: tuning, untouched, or both."""
    rows = [
        Labeled(folder / row["file"], row["label"], row["kind"]) for folder in folders for row in read_labels(folder)
    ]
    tuning = [md5(row.path.name.encode()).digest()[-1] % 2 == 0 for row in rows]
    return [row for row, tuned in zip(rows, tuning, strict=True) if half == "both" or tuned == (half == "tuning")]


def read_labels(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's labels.csv that have a label."""
    return [row for row in read_csv(folder / "labels.csv") if row["label"]]


def count_readings(reader: DigitReader, pictures: Sequence[Labeled]) -> dict[str, dict[str, int]]:
    """Per kind: the numbers of pictures of one digit, of correct and rejected ones, and so on."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for path, label, kind in pictures:
        picture = open_picture(path)
        reading = reader.read(picture)
        best = reader.labels[int(reader.classify(resize(picture)[None])[0].argmax())]
        counts[kind] += Counter(
            {
                "pictures": 1,
                "rejected": reading.status == "rejected",
                "right": reading.status == "ok" and reading.digit == label,
                "right, were nothing rejected": reading.digit == label,
                "right when resized": best == label,
            }
        )
    return {kind: dict(count) for kind, count in counts.items()}


def count_altered(reader: DigitReader, pictures: Sequence[Labeled]) -> dict[str, dict[str, float]]:
    """Per alteration and kind: the fraction that is read correctly of those that are without the alteration."""
    right: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in ALTERATIONS}
    for path, label, kind in pictures:
        pixels = np.asarray(open_picture(path).convert("RGB"))
        known = reader.read(pixels)
        for name, alter in ALTERATIONS.items():
            if (known.digit, known.status) == (label, "ok"):
                reading = reader.read(np.ascontiguousarray(alter(pixels, known.box)))
                right[name][kind].append((reading.digit, reading.status) == (label, "ok"))
    return {name: {kind: float(np.mean(each)) for kind, each in kinds.items()} for name, kinds in right.items()}


def read_page(reader: DigitReader, path: Path) -> str:
    """The accepted digits, with / between lines."""
    lines: dict[int, str] = defaultdict(str)
    for reading in reader.read_many(path):
        lines[reading.line] += reading.digit if reading.status == "ok" else ""
    return "/".join(lines[number] for number in sorted(lines))


def count_pages(labels: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Recall and precision of the digits read, in order, and the fraction of pages that are right throughout."""
    wanted = found = matched = complete = 0
    for label, text in zip(labels, texts, strict=True):
        wanted += len(label.replace("/", ""))
        found += len(text.replace("/", ""))
        matched += longest_common_subsequence(label.replace("/", ""), text.replace("/", ""))
        complete += text == label
    return {"recall": matched / wanted, "precision": matched / max(found, 1), "pages": complete / len(labels)}


def longest_common_subsequence(one: str, other: str) -> int:
    """How many characters both texts have in the same order."""
    best = [0] * (len(other) + 1)
    for letter in one:
        before = best.copy()
        for place, candidate in enumerate(other, 1):
            best[place] = before[place - 1] + 1 if letter == candidate else max(before[place], best[place - 1])
    return best[-1]


def accuracy_by_coverage(reader: DigitReader, images: Images, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy on the test images that the threshold accepts, and on the least outlying fraction of them."""
    probs, outliers = reader.classify(images)
    right = probs.argmax(axis=1) == labels
    order = outliers.argsort()
    accepted = outliers <= reader.threshold
    return {
        "at the threshold": {"coverage": float(accepted.mean()), "accuracy": float(right[accepted].mean())},
        "curve": {fraction: float(right[order[: round(fraction * len(order))]].mean()) for fraction in COVERAGES},
    }


def accuracy_as_pictures(reader: DigitReader, images: Images, labels: NDArray[np.int64]) -> dict[str, float]:
    """The test images' accuracy as they are, and converted by `center_digit` like any picture; nothing is rejected."""
    centered = np.stack([center_digit(image) for image in images])
    accuracy = {
        name: float((reader.classify(version)[0].argmax(axis=1) == labels).mean())
        for name, version in (("as they are", images), ("through center_digit", centered))
    }
    return {**accuracy, "images unchanged": float((centered == images).all(axis=(1, 2)).mean())}


def main() -> None:
    """Print the tables."""
    parser = benchmark_parser(__doc__, data_dir="data", model="pretrained")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders with a labels.csv each")
    parser.add_argument("--half", choices=("tuning", "untouched", "both"), default="both", help="which pictures")
    options = parser.parse_args()
    reader = DigitReader.load(options.model)
    pictures = labeled_pictures(options.pictures, options.half)
    single = [picture for picture in pictures if len(picture.label) == 1]
    results: dict[str, Any] = {"half": options.half, "pictures": count_readings(reader, single), "rejected": {}}
    print(f"{reader.path}\n\n| Pictures | n | right | right if nothing were rejected | rejected | resized |")
    print("|---|---|---|---|---|---|")
    columns = ("right", "right, were nothing rejected", "rejected", "right when resized")
    for kind, count in results["pictures"].items():
        fractions = " | ".join(f"{count.get(name, 0) / count['pictures']:.2%}" for name in columns)
        print(f"| {kind} | {count['pictures']} | {fractions} |")
    if single:
        results["altered"] = count_altered(reader, single)
        kinds = list(results["altered"]["as it is"])
        print(f"\n| Alteration, right of those that are right as they are | {' | '.join(kinds)} |")
        print("|---" * (len(kinds) + 1) + "|")
        for name, fractions in results["altered"].items():
            print(f"| {name} | {' | '.join(f'{fractions[kind]:.1%}' for kind in kinds)} |")
    if pages := [picture for picture in pictures if len(picture.label) > 1]:
        texts = [read_page(reader, page.path) for page in pages]
        results["pages"] = count_pages([page.label for page in pages], texts)
        _print_fractions(results["pages"], f"{len(pages)} pages")
    print("\n| Not a digit | rejected |\n|---|---|")
    results["fonts"] = len(find_fonts())
    for kind, images in non_digits().items():
        results["rejected"][kind] = float((reader.classify(images)[1] > reader.threshold).mean())
        print(f"| {kind} | {results['rejected'][kind]:.1%} |")
    data = load_dataset("mnist", options.data_dir)
    images, labels = data.test_images.numpy(), data.test_labels.numpy()
    results["coverage"] = accuracy_by_coverage(reader, images, labels)
    results["as_pictures"] = accuracy_as_pictures(reader, images, labels)
    _print_fractions(results["coverage"]["at the threshold"], "MNIST's test images at the threshold")
    _print_fractions(results["coverage"]["curve"], "Accuracy by coverage")
    _print_fractions(results["as_pictures"], "MNIST's test images as pictures")
    save_results(options.output, "Reading", results)


def _print_fractions(fractions: Mapping[Any, float], title: str) -> None:
    print(f"\n| {title} | |\n|---|---|")
    print(*(f"| {name} | {fraction:.3%} |" for name, fraction in fractions.items()), sep="\n")


if __name__ == "__main__":
    main()
