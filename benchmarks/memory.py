"""Peak resident memory of `mnist-lit fit` by batch size, beside the tutorial's own loop and plain Lightning at 512.

    python benchmarks/memory.py --data_dir data

`fit` sets 5,000 images aside, and validates and calibrates at its end; the other two only train. Of a process from its
start to its end, as the operating system counts it; of several processes the largest.
"""

import sys
from pathlib import Path

from contest import fit, measured, options, report
from throughput import NAMES, PLAIN, TUTORIAL

SIZES = (64, 128, 512)


def main() -> None:
    """Run each in a process of its own, in turn."""
    given = options(__doc__, steps=50, rounds=3).parse_args()
    data_dir = str(Path(given.data_dir).resolve())
    rounds: dict[str, list[float]] = {}
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(given.steps)]
    limits += ["--data.val_size", "5000", "--data.data_dir", data_dir]
    others = ["--data_dir", data_dir, "--steps", str(given.steps)]
    throughput = [sys.executable, str(Path(__file__).with_name("throughput.py"))]
    for _ in range(given.rounds):
        for size in SIZES:
            found = fit("--config", "tutorial", "--data.batch_size", str(size), *limits)
            rounds.setdefault(f"`mnist-lit fit`, {size}", []).append(found.peak_mib)
        for contestant in (TUTORIAL, PLAIN):
            _, peak, _ = measured([*throughput, "--only", contestant, *others])
            rounds.setdefault(f"{NAMES[contestant]}, 512", []).append(peak)
    report("Peak memory", "MiB", rounds, "`mnist-lit fit`, 128", given.output)


if __name__ == "__main__":
    main()
