"""How well the shipped model reads what people write, and refuses what is no digit.

    python benchmarks/reading.py --data_dir data --pictures FOLDER FOLDER

Each folder of pictures holds a `labels.csv` with the columns file, label, kind. Squeezing a picture to 28×28 stands
beside the reader: it is what most projects do. What is no digit is drawn here: blank paper, noise, garments as
Fashion-MNIST has them, and letters in a hand's strokes; none of it is what the detector learnt from.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from contest import keep, options
from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import center_digit, fit_to_box
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.inference.reader import DigitReader

Images = NDArray[np.uint8]
COUNT = 1000  # of each kind of what is no digit
COVERAGES = (1.0, 0.9999, 0.999, 0.995, 0.99, 0.98, 0.95)
STROKES = {  # corners in a box of 4 wide and 6 high, a stroke each
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
GARMENTS = {  # outlines in 28×28
    "shirt": "6,2 11,4 17,4 22,2 27,10 22,13 21,26 7,26 6,13 1,10",
    "trousers": "8,2 20,2 23,26 16,26 14,9 12,26 5,26",
    "dress": "11,2 17,2 18,10 22,26 6,26 10,10",
    "shoe": "2,13 10,13 19,18 26,20 26,24 2,24",
    "boot": "8,2 16,2 16,16 25,20 25,25 7,25",
    "bag": "3,11 9,11 10,5 18,5 19,11 25,11 25,24 3,24",
}


def letter(draw: np.random.Generator) -> Images:
    """A capital or small letter in a hand's strokes: slanted, of any pen, corners a little off."""
    strokes = STROKES[list(STROKES)[draw.integers(len(STROKES))]]
    turn = np.deg2rad(draw.uniform(-12, 12))
    slant = draw.uniform(-0.25, 0.25)
    paper = Image.new("L", (200, 200))
    pen = int(draw.integers(9, 19))
    for stroke in strokes:
        corners = np.array([[int(corner[0]) - 2, int(corner[1]) - 3] for corner in stroke.split()])
        corners = corners + draw.normal(0, 0.18, (1, 2)) + draw.normal(0, 0.12, corners.shape)
        x = corners[:, 0] + slant * corners[:, 1]
        x, y = x * np.cos(turn) - corners[:, 1] * np.sin(turn), x * np.sin(turn) + corners[:, 1] * np.cos(turn)
        points = [(100 + 24 * a, 100 + 24 * b) for a, b in zip(x, y, strict=True)]
        ImageDraw.Draw(paper).line(points, fill=255, width=pen, joint="curve")
        for a, b in points:
            ImageDraw.Draw(paper).ellipse((a - pen / 2, b - pen / 2, a + pen / 2, b + pen / 2), fill=255)
    return fit_to_box(np.asarray(paper.filter(ImageFilter.GaussianBlur(2))))


def garment(draw: np.random.Generator) -> Images:
    """A filled outline with some texture, as large as Fashion-MNIST's."""
    outline = GARMENTS[list(GARMENTS)[draw.integers(len(GARMENTS))]]
    paper = Image.new("L", (28, 28))
    corners = [tuple(float(v) + draw.normal(0, 0.7) for v in corner.split(",")) for corner in outline.split()]
    ImageDraw.Draw(paper).polygon(corners, fill=int(draw.integers(90, 256)))
    return (np.asarray(paper) * draw.uniform(draw.uniform(0.4, 1), 1, (28, 28))).astype(np.uint8)


def nothings() -> dict[str, Images]:
    """Each kind of what is no digit, uint8 (1000, 28, 28) each."""
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 60, (COUNT, 1, 1)) + np.zeros((COUNT, 28, 28))
    return {
        "blank": np.clip(grey + draw.normal(0, 3, grey.shape), 0, 255).astype(np.uint8),
        "uniform noise": draw.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8),
        "garments": np.stack([garment(draw) for _ in range(COUNT)]),
        "letters": np.stack([letter(draw) for _ in range(COUNT)]),
    }


def squeezed(picture: Image.Image) -> Images:
    """What most projects do: grey, dark paper if need be inverted to it, scaled to 28×28."""
    grey = np.asarray(picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR))
    return 255 - grey if np.median(grey) > 127 else grey


def read(reader: DigitReader, folder: Path) -> dict[str, dict[str, int]]:
    """By kind: how many pictures, read right, rejected, in error, and right when squeezed."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with folder.joinpath("labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            count = counts[row["kind"]]
            count["pictures"] += 1
            try:
                picture = open_picture(folder / row["file"])
            except InputError:
                count["errors"] += 1
                continue
            reading = reader.read(picture)
            count["rejected"] += reading.status == "rejected"
            count["right"] += reading.status == "ok" and reading.digit == row["label"]
            count["right, were nothing rejected"] += reading.digit == row["label"]
            best = int(reader.classify(squeezed(picture)[None])[0].argmax())
            count["right when squeezed"] += reader.labels[best] == row["label"]
    return {kind: dict(count) for kind, count in counts.items()}


def coverage(reader: DigitReader, images: Images, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy against coverage on the test images: where the most outlying are left out, and at the threshold."""
    probabilities, outliers = reader.classify(images)
    right = probabilities.argmax(axis=1) == labels
    order = outliers.argsort()
    accepted = outliers <= reader.threshold
    return {
        "at the threshold": {"coverage": float(accepted.mean()), "accuracy": float(right[accepted].mean())},
        "curve": {share: float(right[order[: round(share * len(order))]].mean()) for share in COVERAGES},
    }


def through_the_door(reader: DigitReader, images: Images, labels: NDArray[np.int64]) -> dict[str, float]:
    """The test images' accuracy as they are, and as pictures that come in through `pixels`; nothing is rejected."""
    door = np.stack([center_digit(image) for image in images])
    accuracy = {
        name: float((reader.classify(part)[0].argmax(axis=1) == labels).mean())
        for name, part in (("as they are", images), ("through pixels", door))
    }
    return {**accuracy, "images unchanged": float((door == images).all(axis=(1, 2)).mean())}


def main() -> None:
    """Print the tables."""
    parser = options(__doc__, model="pretrained")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders with a labels.csv each")
    asked = parser.parse_args()
    reader = DigitReader.load(asked.model)
    print(
        f"{reader.path}\n\n| Pictures | n | right | were nothing rejected | rejected | squeezed |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    found: dict[str, Any] = {"pictures": {}}
    for folder in asked.pictures:
        for kind, count in read(reader, folder).items():
            found["pictures"][f"{folder.name}: {kind}"] = count
            n = count["pictures"]
            shares = (
                f"{count.get(name, 0) / n:.2%}"
                for name in ("right", "right, were nothing rejected", "rejected", "right when squeezed")
            )
            print(f"| {folder.name}: {kind} | {n} | {' | '.join(shares)} |")
    print("\n| No digit | rejected |\n|---|---|")
    found["rejected"] = {}
    for kind, images in nothings().items():
        found["rejected"][kind] = float((reader.classify(images)[1] > reader.threshold).mean())
        print(f"| {kind} | {found['rejected'][kind]:.1%} |")
    data = load_dataset("mnist", asked.data_dir)
    images, labels = data.test_images.numpy(), data.test_labels.numpy()
    found["coverage"] = coverage(reader, images, labels)
    found["door"] = through_the_door(reader, images, labels)
    _print(found["coverage"]["at the threshold"], "MNIST's test images at the threshold")
    _print(found["coverage"]["curve"], "Accuracy by coverage")
    _print(found["door"], "MNIST's test images as pictures")
    keep(asked.output, "Reading", found)


def _print(values: Mapping[Any, float], title: str) -> None:
    print(f"\n| {title} | |\n|---|---|")
    print(*(f"| {name} | {value:.3%} |" for name, value in values.items()), sep="\n")


if __name__ == "__main__":
    main()
