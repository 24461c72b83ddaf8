"""A run's epochs scored on the test images after the run is over; nothing is chosen from them.

The run must have kept its epochs (`--keep_epochs true`, as the tutorial's recipe does). Its `predictions.csv` is
the last epoch's afterwards.

python benchmarks/epochs.py lightning_logs/version_0 --data_dir data
"""

import argparse
import contextlib
import io
import re
from pathlib import Path

from contest import keep
from mnist_lit.cli.main import main as mnist_lit

PUBLISHED = {1: 70.98, 5: 98.44, 10: 99.01, 15: 99.25, 20: 99.34}  # the tutorial's page, its test accuracy in %
RIGHT = re.compile(r"images +([\d,]+)\n +right +([\d,]+)")


def main() -> None:
    """Test each epoch's checkpoint and print the curve beside the published one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--data_dir", default="data", help="holds MNIST's archives")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    curve = {}
    print("| epoch | right | test/acc | the tutorial's |\n|---|---|---|---|")
    kept = options.run.joinpath("checkpoints").glob("epoch_*.ckpt")
    for epoch, path in sorted((int(path.stem.removeprefix("epoch_")), path) for path in kept):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = mnist_lit(["test", "--ckpt_path", str(path), "--data.data_dir", options.data_dir])
        told = RIGHT.search(said.getvalue())
        assert code == 0, said.getvalue()
        assert told, said.getvalue()
        images, right = (int(number.replace(",", "")) for number in told.groups())
        curve[epoch] = right
        published = f"{PUBLISHED[epoch]:.2f} %" if epoch in PUBLISHED and images == 10_000 else ""
        print(f"| {epoch} | {right:,} of {images:,} | {right / images:.2%} | {published} |", flush=True)
    keep(options.output, "Test images right after each epoch", {"right": curve})


if __name__ == "__main__":
    main()
