"""`mnist-lit predict` on a folder of many pictures, beside decoding them with Pillow alone.

    python benchmarks/predict.py

The pictures are the embedded digits, enlarged and saved as PNG files. Each command runs in a process of its own, whose
start and end count. It also prints the peak memory of the largest process.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from measurement import benchmark_parser, measure_command, report
from mnist_lit.data.datasets import load_dataset

PREDICT, DECODE = "mnist-lit predict", "Pillow, decoding alone"
DECODE_PROGRAM = (
    "import sys, pathlib; from PIL import Image; [Image.open(f).load() for f in pathlib.Path(sys.argv[1]).iterdir()]"
)


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Write `count` pictures of `side`×`side` pixels: dark digits on light, slightly noisy paper."""
    data = load_dataset("digits", "")
    images = np.concatenate([data.train_images.numpy(), data.test_images.numpy()])
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = Image.fromarray(235 - (images[number % len(images)] * 0.8).astype(np.uint8))
        noisy = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) + rng.normal(0, 3, (side, side))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.png")


def main() -> None:
    """Run both in turn."""
    options = benchmark_parser(__doc__, rounds=3, files=10_000, side=112).parse_args()
    rates: dict[str, list[float]] = {PREDICT: [], DECODE: []}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        folder.mkdir()
        write_pictures(folder, options.files, options.side)
        predict = [sys.executable, "-m", "mnist_lit", "predict", str(folder), "--model", "pretrained"]
        commands = {
            PREDICT: [*predict, "--output", str(Path(temporary) / "rows.csv")],
            DECODE: [sys.executable, "-c", DECODE_PROGRAM, str(folder)],
        }
        for _ in range(options.rounds):
            for name, command in commands.items():
                seconds, peaks[name], _ = measure_command(command)
                rates[name].append(options.files / seconds)
    title = f"Reading {options.files:,} files of {options.side}×{options.side}"
    report(title, "files/s", rates, DECODE, options.output)
    print(f"\nPeak memory: {', '.join(f'{name} {peak:.0f} MiB' for name, peak in peaks.items())}")


if __name__ == "__main__":
    main()
