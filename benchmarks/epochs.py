"""Score every epoch of a finished run on the test images, for comparison with the published curve.

    python benchmarks/epochs.py lightning_logs/version_0 --data_dir data

Nothing is selected by these scores. The run must have kept its epochs (`--keep_epochs true`, as the tutorial's recipe
does).
"""

import contextlib
import io
from pathlib import Path

from measurement import benchmark_parser, save_results
from mnist_lit.cli.main import main as mnist_lit
from mnist_lit.runs.folders import predictions_name
from mnist_lit.runs.results import read_predictions

PUBLISHED = {1: 70.98, 5: 98.44, 10: 99.01, 15: 99.25, 20: 99.34}  # epoch → test accuracy in %, on the tutorial's page


def main() -> None:
    """Test each epoch's checkpoint and print the curve beside the published one."""
    parser = benchmark_parser(__doc__, data_dir="data")
    parser.add_argument("run", type=Path, help="the run's folder")
    options = parser.parse_args()
    curve = {}
    print("| epoch | right | test/acc | the tutorial's |\n|---|---|---|---|")
    checkpoints = options.run.joinpath("checkpoints").glob("epoch_*.ckpt")
    for epoch, path in sorted((int(path.stem.removeprefix("epoch_")), path) for path in checkpoints):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = mnist_lit(["test", "--ckpt_path", str(path), "--data.data_dir", options.data_dir])
        test = read_predictions(options.run, predictions_name(path, None))
        assert code == 0, output.getvalue()
        assert test, output.getvalue()
        images, curve[epoch] = len(test.labels), test.right
        published = f"{PUBLISHED[epoch]:.2f} %" if epoch in PUBLISHED and images == 10_000 else ""
        print(f"| {epoch} | {test.right:,} of {images:,} | {test.acc:.2%} | {published} |", flush=True)
    save_results(options.output, "Test images right after each epoch", {"right": curve})


if __name__ == "__main__":
    main()
