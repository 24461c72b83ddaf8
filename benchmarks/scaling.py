"""What a fit costs against the size of the dataset and the number of devices.

    python benchmarks/scaling.py --data_dir data

Sizes: MNIST's training images repeated 1, 4 and 16 times in memory, each in a process of its own: seconds to begin an
epoch, warped images per second, peak memory. Nothing is trained there: a step costs the same at any size.
Devices: the tutorial's recipe on 1 and 2 devices with DDP; on a CPU each device is a process with an equal share of the
cores. Medians of the rounds.
"""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from measurement import benchmark_parser, fit, maxrss_mib, save_results
from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.in_memory import InMemoryDataset
from mnist_lit.datamodule import MNISTDataModule

REPEATS, BATCH, NUM_BATCHES = (1, 4, 16), 128, 200
COLUMNS = ("begin an epoch, s", "images/s", "peak MiB")


def measure_size(data_dir: str, repeats: int) -> list[float]:
    """Load and warp batches of a training set repeated so many times; returns the figures that COLUMNS names."""
    digits = load_dataset("mnist", data_dir)
    images, labels = digits.train_images.repeat(repeats, 1, 1), digits.train_labels.repeat(repeats)
    data = MNISTDataModule(batch_size=BATCH, degrees=15, scale=0.1, translate=2)
    data._loaded = InMemoryDataset(images, labels, digits.test_images, digits.test_labels)
    data.train_indices = torch.arange(len(labels))
    start = time.perf_counter()
    batches = iter(data.train_dataloader())
    next(batches)
    first = time.perf_counter()
    for _ in range(NUM_BATCHES):
        next(batches)
    rate = NUM_BATCHES * BATCH / (time.perf_counter() - first)
    return [first - start, rate, maxrss_mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)]


def main() -> None:
    """Print both tables."""
    parser = benchmark_parser(__doc__, data_dir="data", steps=40, devices=2, rounds=3)
    parser.add_argument("--only", type=int, help="measure one size in this process")
    options = parser.parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    if options.only:
        print(*measure_size(data_dir, options.only))
        return
    sizes: dict[int, list[list[float]]] = {repeats: [] for repeats in REPEATS}
    devices: dict[int, list[float]] = {count: [] for count in range(1, options.devices + 1)}
    fit_args = ["--config", "tutorial", "--data.data_dir", data_dir, "--trainer.max_steps", str(options.steps)]
    fit_args += [] if torch.cuda.is_available() else ["--trainer.accelerator", "cpu"]
    for _ in range(options.rounds):
        for repeats, rows in sizes.items():
            command = [sys.executable, __file__, "--data_dir", data_dir, "--only", str(repeats)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append([float(value) for value in run.stdout.split()])
        for count, rates in devices.items():
            strategy = ["--trainer.strategy", "ddp"] if count > 1 else []
            rates.append(fit(*fit_args, *strategy, "--trainer.devices", str(count)).images_per_second)
    print("| training images |", " | ".join(COLUMNS), "|\n|---|---|---|---|")
    for repeats, rows in sizes.items():
        medians = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {60_000 * repeats:,} |", " | ".join(f"{value:,.3g}" for value in medians), "|")
    print("\n| devices | images/s | ratio, median of rounds |\n|---|---|---|")
    for count, rates in devices.items():
        ratio = statistics.median(rate / one for rate, one in zip(rates, devices[1], strict=True))
        print(f"| {count} | {statistics.median(rates):,.0f} | {ratio:.2f} |")
    save_results(options.output, "Scaling", {"columns": COLUMNS, "sizes": sizes, "devices": devices})


if __name__ == "__main__":
    main()
