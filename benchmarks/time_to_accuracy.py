"""Images and seconds to a score: a recipe over several seeds, against the tutorial's own time to its 99.34 %.

    python benchmarks/time_to_accuracy.py --data_dir data --config fast --seeds 5

Cold is the whole process, from the command to its end with the checkpoint saved: Python's start, imports, reading and
verifying the data, training. Warm is training alone. Each seed is tested once, after its fit, and nothing is selected
by the result. The tutorial's time is the rate of its own loop, measured in the same rounds, times the 17 epochs it took
to first reach its score. `--folder` keeps the runs.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from measurement import FitRun, benchmark_parser, fit, save_results
from mnist_lit.evaluation.statistics import spread
from mnist_lit.runs.folders import LOGS, all_runs
from mnist_lit.runs.recipes import find_recipe
from mnist_lit.runs.results import ensemble_accuracy, read_predictions
from throughput import TUTORIAL, images_per_second

TUTORIAL_IMAGES = 17 * 60_000  # that the tutorial's network had seen when it first reached TARGET
TARGET = 0.9934


def main() -> None:
    """Train and test each seed in processes of its own, the tutorial's loop in between."""
    parser = benchmark_parser(__doc__, data_dir="data", config="fast", seeds=5, steps=40)
    parser.add_argument("--precision", default="32", help="for example bf16-mixed; default: 32")
    parser.add_argument("--folder", type=Path, help="keep the runs here; by default they are removed")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        results = measure(options, options.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(options, Path(folder))
    save_results(options.output, "Time to accuracy", results)


def measure(options: Any, folder: Path) -> dict[str, Any]:
    """Measure and print the table; returns every value."""
    data_dir = str(Path(options.data_dir).resolve())
    rates, fits, tests = [], list[FitRun](), []
    fit_args = ["--config", options.config, "--data.data_dir", data_dir, "--trainer.precision", options.precision]
    for seed in range(options.seeds):
        rates.append(images_per_second(TUTORIAL, data_dir, options.steps))
        fits.append(fit(*fit_args, "--seed_everything", str(seed), folder=folder))
        run = all_runs(folder / LOGS)[-1]
        command = [sys.executable, "-m", "mnist_lit", "test", "--ckpt_path", str(run), "--data.data_dir", data_dir]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        test = read_predictions(run)
        assert test
        tests.append(test)
        print(f"seed {seed}: {test.acc:.2%}, {fits[-1].seconds:.1f} s", flush=True)
    scores, images, ensemble = [test.acc for test in tests], _images_seen(options.config), ensemble_accuracy(tests)
    cold, warm = [run.seconds for run in fits], [run.training for run in fits]
    rate = statistics.median(rates)
    tutorial_seconds = TUTORIAL_IMAGES / rate
    rows = {
        "test accuracy": str(spread(scores)),
        "their ensemble": f"{100 * ensemble:.2f} %",
        f"seeds that reach {TARGET:.2%}": f"{sum(score >= TARGET for score in scores)} of {len(scores)}",
        "images seen": f"{images:,}  ({images / 60_000:.2f} epochs)",
        "cold, seconds": _median_and_range(cold),
        "warm, seconds": _median_and_range(warm),
        "the tutorial's own, seconds": f"{tutorial_seconds:.0f}  (17 epochs at {rate:.0f} images/s)",
        "the tutorial's ÷ cold": f"{tutorial_seconds / statistics.median(cold):.1f}",
        "the tutorial's ÷ warm": f"{tutorial_seconds / statistics.median(warm):.1f}",
    }
    print(f"\n| {options.config} | |\n|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), sep="\n")
    return {
        "config": options.config,
        "precision": options.precision,
        "images": images,
        "scores": scores,
        "ensemble": ensemble,
        "tutorial_images_per_second": rates,
        "fits": [run._asdict() for run in fits],
    }


def _median_and_range(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}  ({min(values):.1f} – {max(values):.1f})"


def _images_seen(config: str) -> int:
    """The number of images that a recipe trains on in total."""
    recipe = yaml.safe_load(find_recipe(config).read_text(encoding="utf-8"))
    data, trainer = recipe["data"], recipe["trainer"]
    epochs = trainer["max_epochs"] * (60_000 - data["val_size"])
    return int(min(epochs, trainer.get("max_steps", epochs) * data["batch_size"]))


if __name__ == "__main__":
    main()
