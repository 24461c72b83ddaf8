"""The ladder from the tutorial's recipe to ours, rung by rung, scored on validation: `docs/recipes.md`.

    python benchmarks/ladder.py --data_dir data
    python benchmarks/ladder.py --page

The first command measures. Every rung trains on the same 55,000 images for one epoch with the same seeds and is scored
once, at its end, on the 5,000 validation images; the test images are never read. It saves results/ladder.json after
each rung, resumes from there if interrupted, and writes the page. `--page` only writes the page.
"""

import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import false_discovery_control

from measurement import FIT_RATE, benchmark_parser, machine_info, measure_command, save_results
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.statistics import spread, welch
from mnist_lit.model import MEAN, STD, TutorialCNN
from mnist_lit.runs.folders import LOGS, all_runs
from mnist_lit.runs.results import best_validation
from tutorial_loop import BATCH, train

RESULT = Path(__file__).parent / "results/ladder.json"
PAGE = Path(__file__).parents[1] / "docs/recipes.md"
VAL_SIZE = 5000
TUTORIAL_EVAL = (0.1407, 0.4081)  # mean and std that the tutorial normalizes test images with


class Rung(NamedTuple):
    """One change: its name, the options it adds to those of the rungs above, and why it should help."""

    name: str
    options: Mapping[str, str | float]
    why: str


LOOP = "the tutorial's own loop, scored its way"
RESCORED = "… scored with the training images' normalization"
RUNGS = [
    Rung("`mnist-lit fit --config tutorial`", {}, "images in memory, one resampling instead of two"),
    Rung("batches of 64", {"data.batch_size": 64}, "eight times as many steps"),
    Rung("He initialization", {"model.init": "he"}, "activations keep their size through ReLUs"),
    Rung("linear schedule", {"model.schedule": "linear"}, "the learning rate falls to 0 by the end"),
    Rung(
        "Muon",
        {"model.optimizer": "muon", "model.lr": 0.02, "model.weight_decay": 0.1, "model.aux_lr": 0.005},
        "every direction of a layer's update has equal weight; twice the learning rate",
    ),
    Rung("averaged weights", {"model.ema_decay": 0.99}, "averages out the noise of single steps"),
    Rung("label smoothing", {"model.label_smoothing": 0.1}, "no reward for overconfidence"),
    Rung(
        "other augmentation",
        {"data.crop_prob": 0, "data.degrees": 10, "data.scale": 0.1, "data.shear": 10, "data.translate": 1.5},
        "every image moves a little, instead of a tenth being enlarged",
    ),
]


def main() -> None:
    """Measure the rungs that have no result yet, then write the page."""
    parser = benchmark_parser(__doc__, data_dir="data", seeds=3)
    parser.add_argument("--page", action="store_true", help="only write the page from the saved results")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds: expected 2 or more, got {options.seeds}; one run has no spread")
    rungs: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))["rungs"] if RESULT.exists() else {}
    if not options.page:
        data_dir, rung_options = str(Path(options.data_dir).resolve()), dict[str, str | float]()
        setup = {"options": {}, "seeds": options.seeds}
        if not _is_measured(rungs.get(LOOP), setup):
            rungs |= {name: result | setup for name, result in _measure_tutorial(data_dir, options.seeds).items()}
            save_results(RESULT, "The ladder", {"rungs": rungs})
        for rung in RUNGS:
            rung_options |= rung.options
            setup = {"options": dict(rung_options), "seeds": options.seeds}
            if not _is_measured(rungs.get(rung.name), setup):
                rungs[rung.name] = _measure_rung(data_dir, rung_options, options.seeds) | setup
                print(rung.name, rungs[rung.name], flush=True)
                save_results(RESULT, "The ladder", {"rungs": rungs})
    PAGE.write_text(page(rungs), encoding="utf-8")


def _is_measured(result: Mapping[str, Any] | None, setup: Mapping[str, Any]) -> bool:
    return result is not None and all(result[name] == value for name, value in setup.items())


def _measure_tutorial(data_dir: str, seeds: int) -> dict[str, Any]:
    """The first two rungs: the same networks, scored with either normalization."""
    data = MNISTDataModule(data_dir, val_size=VAL_SIZE)
    data.setup()
    indices = data.train_indices.tolist()
    steps = -(-len(indices) // BATCH)
    results: dict[str, Any] = {name: {"val": [], "seconds": [], "machine": machine_info()} for name in (LOOP, RESCORED)}
    for seed in range(seeds):
        torch.manual_seed(seed)
        rate, model = train(data_dir, steps, indices)
        for name, (mean, std) in ((LOOP, TUTORIAL_EVAL), (RESCORED, (MEAN, STD))):
            results[name]["val"].append(_val_accuracy(model, data, mean, std))
            results[name]["seconds"].append(len(indices) / rate)
    print(results, flush=True)
    return results


def _val_accuracy(model: TutorialCNN, data: MNISTDataModule, mean: float, std: float) -> float:
    loader = data.val_dataloader()
    assert not isinstance(loader, list)
    device = next(model.parameters()).device
    with torch.inference_mode():
        right = sum(
            int((model((b.images.to(device)[:, None] / 255 - mean) / std).argmax(dim=1).cpu() == b.labels).sum())
            for b in loader
        )
    return right / VAL_SIZE


def _measure_rung(data_dir: str, rung_options: Mapping[str, str | float], seeds: int) -> dict[str, Any]:
    """Train a group of seeds with these options: validation accuracy and seconds of training per seed."""
    settings: dict[str, str | float] = {
        "data.data_dir": data_dir,
        "data.val_size": VAL_SIZE,
        "trainer.max_epochs": 1,
        "keep_epochs": "false",
        **rung_options,
    }
    fit = [sys.executable, "-m", "mnist_lit", "fit", "--config", "tutorial", "--seeds", str(seeds)]
    with tempfile.TemporaryDirectory() as folder:
        _, _, output = measure_command([*fit, *(f"--{name}={value}" for name, value in settings.items())], folder)
        scores = [best_validation(run) for run in all_runs(Path(folder, LOGS))]
    seconds = [float(time) for time, _ in FIT_RATE.findall(output)]
    return {"val": [best.acc for best in scores if best], "seconds": seconds, "machine": machine_info()}


def page(rungs: Mapping[str, Any]) -> str:
    """The page as Markdown, from the saved results."""
    reasons = {LOOP: "torchvision's images, two workers", RESCORED: "the same networks"}
    reasons |= {rung.name: rung.why for rung in RUNGS}
    values = {name: rungs[name]["val"] for name in reasons}
    rescored = statistics.mean(values[RESCORED]) - statistics.mean(values[LOOP])
    # The first two rungs score the same networks, so the tests begin with the second. Among many comparisons some look
    # significant by chance; Benjamini and Hochberg's correction (1995) bounds their fraction.
    tests = [welch(one, other) for one, other in pairwise([*values.values()][1:])]
    p_values = false_discovery_control([1.0 if math.isnan(test.p) else test.p for test in tests])
    notes = ["" if p < 0.05 else ", not distinguishable" for p in p_values]
    gains = [f"{100 * test.value:+.2f}{note}" for test, note in zip(tests, notes, strict=True)]
    rows = []
    for (name, why), gain in zip(reasons.items(), ["", f"{100 * rescored:+.2f}", *gains], strict=True):
        score = spread([100 * value for value in values[name]])
        seconds = statistics.median(rungs[name]["seconds"])
        rows.append(f"| {name} | {score.mean:.2f} ± {score.sd:.2f} % | {gain} | {seconds:.0f} | {why} |")
    machine = rungs[RUNGS[-1].name]["machine"]
    return TEMPLATE.format(
        rows="\n".join(rows),
        seeds=rungs[LOOP]["seeds"],
        val_size=VAL_SIZE,
        machine=f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, {machine['date']}",
    )


TEMPLATE = """# Recipes

This page leads from the tutorial's recipe to ours in small steps, the rungs of a ladder. Muon brings its own learning
rates and weight decay, and the last rung changes five augmentation options; every other rung changes one option.
`python benchmarks/ladder.py --data_dir data` writes this page.

- The network is the same on every rung: 593,200 parameters. Each rung keeps the options of all rungs above it.
- Every rung trains on the same 55,000 images for one epoch with the same {seeds} seeds and is scored once, at its end,
  on the {val_size:,} validation images (mean ± sd over seeds). The test images were not read.
- **Gain** is the difference from the rung above, in percentage points. It is marked "not distinguishable" where
  Welch's t-test over the seeds, corrected for the number of rungs, finds no significant difference. With so few seeds,
  the test misses small differences.
- **Seconds** are the median training time over the seeds ({machine}).

| Rung | Validation accuracy | Gain | Seconds | Why |
|---|---|---|---|---|
{rows}

[`fast`](../configs/fast.yaml) combines these rungs to reach the tutorial's score in the least time,
[`best`](../configs/best.yaml) to reach the highest score: more epochs, a longer average, dropout, stronger augmentation
that shrinks toward the end, and sharpness-aware minimization.

The order matters: later changes have less left to gain, and one epoch is short. [decisions.md](decisions.md) lists the
changes that were tried but not adopted.

The tutorial's other bugs do not affect the weights: it monitors its epochs on the test set, divides its mean losses by
the number of images a second time, and never fills its list of mistakes. `mnist-lit` fixes them.
"""

if __name__ == "__main__":
    main()
