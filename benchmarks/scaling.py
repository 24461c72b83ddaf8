"""What a fit costs against the size of the dataset and the number of devices.

    python benchmarks/scaling.py --data_dir data

Sizes: MNIST's training images once, 4 and 16 times over in memory, in a process each: seconds to begin an epoch, warped
images a second, peak memory. Nothing is trained there: a step costs the same whatever the size.
Devices: the tutorial's recipe by 1 and 2 of them, DDP; on CPUs each is a process on an even share of the cores.
Medians of the rounds.
"""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from contest import fit, keep, mebibytes, options
from mnist_lit.data.datasets import InMemoryDataset, load_dataset
from mnist_lit.datamodule import MNISTDataModule

TIMES, BATCH, BATCHES = (1, 4, 16), 128, 200
COLUMNS = ("begin an epoch, s", "images/s", "peak MiB")


def size(data_dir: str, times: int) -> list[float]:
    """The figures of a training set so many times as large, in the order of COLUMNS."""
    digits = load_dataset("mnist", data_dir)
    images, labels = digits.train_images.repeat(times, 1, 1), digits.train_labels.repeat(times)
    data = MNISTDataModule(batch_size=BATCH, degrees=15, scale=0.1, translate=2, elastic=2)
    data.digits = InMemoryDataset(images, labels, digits.test_images, digits.test_labels)
    data.train_indices = torch.arange(len(labels))
    begun = time.perf_counter()
    batches = iter(data.train_dataloader())
    data.on_after_batch_transfer(next(batches), 0)
    first = time.perf_counter()
    for _ in range(BATCHES):
        data.on_after_batch_transfer(next(batches), 0)
    rate = BATCHES * BATCH / (time.perf_counter() - first)
    peak = mebibytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return [first - begun, rate, peak]


def main() -> None:
    """Print both tables."""
    parser = options(__doc__, steps=40, devices=2, rounds=3)
    parser.add_argument("--only", type=int, help="one size, in this process")
    given = parser.parse_args()
    data_dir = str(Path(given.data_dir).resolve())
    if given.only:
        print(*size(data_dir, given.only))
        return
    sizes: dict[int, list[list[float]]] = {times: [] for times in TIMES}
    devices: dict[int, list[float]] = {number: [] for number in range(1, given.devices + 1)}
    place = ["--config", "tutorial", "--data.data_dir", data_dir, "--trainer.max_steps", str(given.steps)]
    place += [] if torch.cuda.is_available() else ["--trainer.accelerator", "cpu"]
    for _ in range(given.rounds):
        for times, rows in sizes.items():
            alone = [sys.executable, __file__, "--data_dir", data_dir, "--only", str(times)]
            said = subprocess.run(alone, capture_output=True, text=True, check=True).stdout
            rows.append([float(value) for value in said.split()])
        for number, rates in devices.items():
            several = ["--trainer.strategy", "ddp"] if number > 1 else []
            rates.append(fit(*place, *several, "--trainer.devices", str(number)).images_per_second)
    print("| training images |", " | ".join(COLUMNS), "|\n|---|---|---|---|")
    for times, rows in sizes.items():
        medians = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {60_000 * times:,} |", " | ".join(f"{value:,.3g}" for value in medians), "|")
    print("\n| devices | images/s | ratio, median of rounds |\n|---|---|---|")
    for number, rates in devices.items():
        ratio = statistics.median(rate / one for rate, one in zip(rates, devices[1], strict=True))
        print(f"| {number} | {statistics.median(rates):,.0f} | {ratio:.2f} |")
    found = {"columns": COLUMNS, "sizes": sizes, "devices": devices}
    keep(given.output, "Scaling", found)


if __name__ == "__main__":
    main()
