"""Images a second of `mnist-lit fit` and of the tutorial's own loop, on the tutorial's recipe.

python benchmarks/throughput.py --data_dir data
"""

import argparse
import subprocess
import sys
from pathlib import Path

from contest import fit, report


def main() -> None:
    """Run the contestants in turn, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="data", help="holds MNIST's archives")
    parser.add_argument("--steps", type=int, default=118, help="of 512 images; 118 are an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        import tutorial_loop

        print(tutorial_loop.train(options.data_dir, options.steps))
        return
    data_dir = str(Path(options.data_dir).resolve())
    rounds: dict[str, list[float]] = {"mnist-lit fit": [], "the tutorial's loop": []}
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(options.steps)]
    alone = [sys.executable, __file__, "--only", "tutorial", "--data_dir", data_dir, "--steps", str(options.steps)]
    for _ in range(options.rounds):
        rounds["mnist-lit fit"].append(fit("--config", "tutorial", "--data.data_dir", data_dir, *limits))
        twin = subprocess.run(alone, capture_output=True, text=True, check=True)
        rounds["the tutorial's loop"].append(float(twin.stdout))
    report("Training", "images/s", rounds, "the tutorial's loop", options.output)


if __name__ == "__main__":
    main()
