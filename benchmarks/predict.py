"""`mnist-lit predict` on a folder of many pictures, beside opening them with Pillow alone.

    python benchmarks/predict.py

The pictures are the embedded digits, drawn four times as large, as PNG files; each command is a process of its own.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from contest import measured, options, report
from mnist_lit.data.datasets import load_dataset

DECODE = (
    "import sys, pathlib; from PIL import Image; [Image.open(f).load() for f in pathlib.Path(sys.argv[1]).iterdir()]"
)


def write(folder: Path, count: int, side: int) -> None:
    """`count` pictures, dark on light and slightly rough."""
    data = load_dataset("digits", "")
    images = np.concatenate([data.train_images.numpy(), data.test_images.numpy()])
    draw = np.random.default_rng(0)
    for number in range(count):
        picture = Image.fromarray(235 - (images[number % len(images)] * 0.8).astype(np.uint8))
        rough = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) + draw.normal(0, 3, (side, side))
        Image.fromarray(rough.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.png")


def main() -> None:
    """Run in turn; images a second, start and end of the process included."""
    asked = options(__doc__, rounds=3, files=10_000, side=112).parse_args()
    rates: dict[str, list[float]] = {"mnist-lit predict": [], "Pillow, decoding alone": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        write(folder, asked.files, asked.side)
        program = [sys.executable, "-m", "mnist_lit", "predict", str(folder), "--model", "pretrained"]
        commands = {
            "mnist-lit predict": [*program, "--output", str(Path(place) / "rows.csv")],
            "Pillow, decoding alone": [sys.executable, "-c", DECODE, str(folder)],
        }
        for _ in range(asked.rounds):
            for name, command in commands.items():
                rates[name].append(asked.files / measured(command)[0])
    report(
        f"Reading {asked.files:,} files of {asked.side}×{asked.side}",
        "files/s",
        rates,
        "Pillow, decoding alone",
        asked.output,
    )


if __name__ == "__main__":
    main()
