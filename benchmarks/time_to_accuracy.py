"""Images and seconds until a score: a recipe over several seeds, and the tutorial's own time to its 99.34 %.

    python benchmarks/time_to_accuracy.py --data_dir data

Cold is from the command to the end of its process, the checkpoint saved: Python's start, imports, reading and checking
the data, training. Warm is training alone. Each seed is tested once, after its fit, and nothing is chosen from that.
The tutorial's time is the rate of its own loop, measured in the same rounds, times the 17 epochs after which it first
reached its score.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from contest import Fit, fit, keep, options
from mnist_lit import recipes, records, runs
from mnist_lit.group import said

TUTORIAL_IMAGES = 17 * 60_000
TARGET = 0.9934


def main() -> None:
    """Train and test each seed in processes of their own, the tutorial's loop in between."""
    parser = options(__doc__, config="fast", seeds=5, steps=40)
    given = parser.parse_args()
    data_dir = str(Path(given.data_dir).resolve())
    rates, fits, scores = [], list[Fit](), []
    throughput = [sys.executable, str(Path(__file__).with_name("throughput.py"))]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            twin = [*throughput, "--only", "tutorial", "--data_dir", data_dir, "--steps", str(given.steps)]
            rates.append(float(subprocess.run(twin, capture_output=True, text=True, check=True).stdout))
            place = ["--config", given.config, "--data.data_dir", data_dir]
            fits.append(fit(*place, "--seed_everything", str(seed), folder=folder))
            run = Path(folder, runs.LOGS, f"version_{seed}")
            test = [sys.executable, "-m", "mnist_lit", "test", "--ckpt_path", str(run), "--data.data_dir", data_dir]
            subprocess.run(test, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            tested = records.scored(run)
            assert tested
            scores.append(tested.acc)
            print(f"seed {seed}: {tested.acc:.2%}, {fits[-1].seconds:.1f} s", flush=True)
    images = _images(given.config)
    tutorial = TUTORIAL_IMAGES / statistics.median(rates)
    cold, warm = (statistics.median(values) for values in zip(*((f.seconds, f.training) for f in fits), strict=True))
    reached = sum(score >= TARGET for score in scores)
    print(f"\n| {given.config} | |\n|---|---|")
    rows = {
        "test accuracy": said(scores),
        f"seeds that reach {TARGET:.2%}": f"{reached} of {len(scores)}",
        "images seen": f"{images:,}  ({images / 60_000:.2f} epochs)",
        "cold, seconds": f"{cold:.1f}  ({min(f.seconds for f in fits):.1f} – {max(f.seconds for f in fits):.1f})",
        "warm, seconds": f"{warm:.1f}  ({min(f.training for f in fits):.1f} – {max(f.training for f in fits):.1f})",
        "the tutorial's own, seconds": f"{tutorial:.0f}  (17 epochs at {statistics.median(rates):.0f} images/s)",
        "the tutorial's ÷ cold": f"{tutorial / cold:.1f}",
        "the tutorial's ÷ warm": f"{tutorial / warm:.1f}",
    }
    print(*(f"| {name} | {value} |" for name, value in rows.items()), sep="\n")
    found = {"config": given.config, "images": images, "scores": scores, "tutorial_images_per_second": rates}
    keep(given.output, "Time to accuracy", found | {"fits": [fit._asdict() for fit in fits]})


def _images(config: str) -> int:
    """How many images a recipe trains on in all."""
    recipe = yaml.safe_load(recipes.find(config).read_text(encoding="utf-8"))
    size, data, trainer = 60_000 - recipe["data"]["val_size"], recipe["data"], recipe["trainer"]
    steps = trainer.get("max_steps", -1)
    return int(trainer["max_epochs"] * size if steps == -1 else steps * data["batch_size"])


if __name__ == "__main__":
    main()
