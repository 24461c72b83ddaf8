"""Images and seconds until a score: a recipe over several seeds, and the tutorial's own time to its 99.34 %.

    python benchmarks/time_to_accuracy.py --data_dir data --config fast --seeds 5

Cold is from the command to the end of its process, the checkpoint saved: Python's start, imports, reading and checking
the data, training. Warm is training alone. Each seed is tested once, after its fit, and nothing is chosen from that.
The tutorial's time is the rate of its own loop, measured in the same rounds, times the 17 epochs after which it first
reached its score. `--folder` keeps the runs there.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from contest import Fit, fit, keep, options
from mnist_lit.evaluation.statistics import spread
from mnist_lit.runs.folders import LOGS, all_runs
from mnist_lit.runs.recipes import find_recipe
from mnist_lit.runs.results import ensemble_accuracy, read_predictions

TUTORIAL_IMAGES = 17 * 60_000
TARGET = 0.9934


def main() -> None:
    """Train and test each seed in processes of their own, the tutorial's loop in between."""
    parser = options(__doc__, config="fast", seeds=5, steps=40)
    parser.add_argument("--precision", default="32", help="of training, as bf16-mixed where the processor has it")
    parser.add_argument("--folder", type=Path, help="keeps the runs; else they are removed")
    given = parser.parse_args()
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        found = measure(given, given.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(given, Path(folder))
    keep(given.output, "Time to accuracy", found)


def measure(given: Any, folder: Path) -> dict[str, Any]:
    """Print the table; returns every figure."""
    data_dir = str(Path(given.data_dir).resolve())
    rates, fits, tests = [], list[Fit](), []
    throughput = [sys.executable, str(Path(__file__).with_name("throughput.py"))]
    for seed in range(given.seeds):
        twin = [*throughput, "--only", "tutorial", "--data_dir", data_dir, "--steps", str(given.steps)]
        rates.append(float(subprocess.run(twin, capture_output=True, text=True, check=True).stdout))
        place = ["--config", given.config, "--data.data_dir", data_dir, "--trainer.precision", given.precision]
        fits.append(fit(*place, "--seed_everything", str(seed), folder=folder))
        run = all_runs(folder / LOGS)[-1]
        test = [sys.executable, "-m", "mnist_lit", "test", "--ckpt_path", str(run), "--data.data_dir", data_dir]
        subprocess.run(test, stdout=subprocess.DEVNULL, check=True)
        scored = read_predictions(run)
        assert scored
        tests.append(scored)
        print(f"seed {seed}: {scored.acc:.2%}, {fits[-1].seconds:.1f} s", flush=True)
    average = ensemble_accuracy(tests)
    scores, images = [test.acc for test in tests], _images(given.config)
    tutorial = TUTORIAL_IMAGES / statistics.median(rates)
    cold, warm = ([f.seconds for f in fits], [f.training for f in fits])
    rows = {
        "test accuracy": str(spread(scores)),
        "their ensemble": f"{100 * average:.2f} %",
        f"seeds that reach {TARGET:.2%}": f"{sum(score >= TARGET for score in scores)} of {len(scores)}",
        "images seen": f"{images:,}  ({images / 60_000:.2f} epochs)",
        "cold, seconds": _seconds(cold),
        "warm, seconds": _seconds(warm),
        "the tutorial's own, seconds": f"{tutorial:.0f}  (17 epochs at {statistics.median(rates):.0f} images/s)",
        "the tutorial's ÷ cold": f"{tutorial / statistics.median(cold):.1f}",
        "the tutorial's ÷ warm": f"{tutorial / statistics.median(warm):.1f}",
    }
    print(f"\n| {given.config} | |\n|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), sep="\n")
    found = {
        "config": given.config,
        "precision": given.precision,
        "images": images,
        "scores": scores,
        "ensemble": average,
    }
    return found | {"tutorial_images_per_second": rates, "fits": [fit._asdict() for fit in fits]}


def _seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}  ({min(values):.1f} – {max(values):.1f})"


def _images(config: str) -> int:
    """How many images a recipe trains on in all."""
    recipe = yaml.safe_load(find_recipe(config).read_text(encoding="utf-8"))
    data, trainer = recipe["data"], recipe["trainer"]
    epochs = trainer["max_epochs"] * (60_000 - data["val_size"])
    return int(min(epochs, trainer.get("max_steps", epochs) * data["batch_size"]))


if __name__ == "__main__":
    main()
