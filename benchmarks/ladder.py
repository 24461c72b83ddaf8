"""The ladder from the tutorial's recipe to ours, one change a rung, scored on validation: `docs/recipes.md`.

    python benchmarks/ladder.py --data_dir data
    python benchmarks/ladder.py --page

The first measures: every rung trains on the same 55,000 images for one epoch, with the same seeds, and is scored once,
at its end, on the 5,000 set aside. The test images are not read. It keeps results/ladder.json after each rung, goes on
from there if it was stopped, and writes the page. `--page` writes the page alone.
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

from contest import RATE, keep, machine, measured, options
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.statistics import spread, welch
from mnist_lit.model import MEAN, STD, TutorialCNN
from mnist_lit.runs.folders import LOGS, all_runs
from mnist_lit.runs.results import best_validation
from tutorial_loop import BATCH, train

RESULT = Path(__file__).parent / "results/ladder.json"
PAGE = Path(__file__).parents[1] / "docs/recipes.md"
VAL = 5000
THEIRS = (0.1407, 0.4081)  # what the tutorial normalizes the images by that it scores


class Rung(NamedTuple):
    """One change: its name, the options that it adds to all before it, and why it should help."""

    name: str
    options: Mapping[str, str | float]
    why: str


LOOP = "the tutorial's own loop, scored its way"
MENDED = "… scored with the training images' normalization"
RUNGS = [
    Rung("`mnist-lit fit --config tutorial`", {}, "images in memory, one resampling instead of two"),
    Rung("batches of 64", {"data.batch_size": 64}, "eight times as many steps"),
    Rung("He initialization", {"model.init": "he"}, "activations keep their size through ReLUs"),
    Rung("linear schedule", {"model.schedule": "linear"}, "the rate falls to 0 at the end"),
    Rung(
        "Muon",
        {"model.optimizer": "muon", "model.lr": 0.02, "model.weight_decay": 0.1, "model.aux_lr": 0.005},
        "every direction of a layer's update counts the same; twice the rate",
    ),
    Rung("averaged weights", {"model.ema_decay": 0.99}, "the noise of single steps averages out"),
    Rung("label smoothing", {"model.label_smoothing": 0.1}, "no reward for being surer than sure"),
    Rung(
        "other warps",
        {"data.crop_prob": 0, "data.degrees": 10, "data.scale": 0.1, "data.shear": 10, "data.translate": 1.5},
        "all images move a little, in place of a tenth that are blown up",
    ),
]


def main() -> None:
    """Measure what is not measured yet, then write the page."""
    parser = options(__doc__, seeds=3)
    parser.add_argument("--page", action="store_true", help="write the page alone")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: expected 2 or more; one run says nothing of its spread")
    rungs: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))["rungs"] if RESULT.exists() else {}
    if not given.page:
        data_dir, chosen = str(Path(given.data_dir).resolve()), dict[str, str | float]()
        kept = {"options": {}, "seeds": given.seeds}
        if not _is_measured(rungs.get(LOOP), kept):
            rungs |= {name: found | kept for name, found in _tutorial(data_dir, given.seeds).items()}
            keep(RESULT, "The ladder", {"rungs": rungs})
        for rung in RUNGS:
            chosen |= rung.options
            kept = {"options": dict(chosen), "seeds": given.seeds}
            if not _is_measured(rungs.get(rung.name), kept):
                rungs[rung.name] = _rung(data_dir, chosen, given.seeds) | kept
                print(rung.name, rungs[rung.name], flush=True)
                keep(RESULT, "The ladder", {"rungs": rungs})
    PAGE.write_text(page(rungs), encoding="utf-8")


def _is_measured(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return found is not None and all(found[name] == value for name, value in wanted.items())


def _tutorial(data_dir: str, seeds: int) -> dict[str, Any]:
    """The first two rungs are the same networks."""
    data = MNISTDataModule(data_dir, val_size=VAL)
    data.setup()
    indices = data.train_indices.tolist()
    steps = -(-len(indices) // BATCH)
    both: dict[str, Any] = {name: {"val": [], "seconds": [], "machine": machine()} for name in (LOOP, MENDED)}
    for seed in range(seeds):
        torch.manual_seed(seed)
        rate, model = train(data_dir, steps, indices)
        for name, constants in ((LOOP, THEIRS), (MENDED, (MEAN, STD))):
            both[name]["val"].append(_accuracy(model, data, *constants))
            both[name]["seconds"].append(len(indices) / rate)
    print(both, flush=True)
    return both


def _accuracy(model: TutorialCNN, data: MNISTDataModule, mean: float, std: float) -> float:
    loader = data.val_dataloader()
    assert not isinstance(loader, list)
    device = next(model.parameters()).device
    with torch.inference_mode():
        right = sum(
            int((model((b.images.to(device)[:, None] / 255 - mean) / std).argmax(dim=1).cpu() == b.labels).sum())
            for b in loader
        )
    return right / VAL


def _rung(data_dir: str, chosen: Mapping[str, str | float], seeds: int) -> dict[str, Any]:
    """Train a group with these options: each seed's validation accuracy, and its seconds of training."""
    fit = [sys.executable, "-m", "mnist_lit", "fit", "--config", "tutorial", "--seeds", str(seeds)]
    fixed: dict[str, str | float] = {
        "data.data_dir": data_dir,
        "data.val_size": VAL,
        "trainer.max_epochs": 1,
        "keep_epochs": "false",
    }
    args = [f"--{name}={value}" for name, value in (fixed | dict(chosen)).items()]
    with tempfile.TemporaryDirectory() as folder:
        _, _, said = measured([*fit, *args], folder)
        scores = [best_validation(run) for run in all_runs(Path(folder, LOGS))]
    seconds = [float(time) for time, _ in RATE.findall(said)]
    return {"val": [best[0] for best in scores if best], "seconds": seconds, "machine": machine()}


def page(rungs: Mapping[str, Any]) -> str:
    """The page, from what was measured."""
    whys = {LOOP: "torchvision's images, two workers", MENDED: "the same networks"}
    whys |= {rung.name: rung.why for rung in RUNGS}
    values = {name: rungs[name]["val"] for name in whys}
    steps = [welch(one, other) for one, other in pairwise([*values.values()][1:])]
    known = [1.0 if math.isnan(step.p) else step.p for step in steps]
    # Among many comparisons some look like differences by chance: Benjamini and Hochberg's correction (1995).
    sure = ["" if p < 0.05 else ", not distinguishable" for p in false_discovery_control(known)]
    mended = statistics.mean(values[MENDED]) - statistics.mean(values[LOOP])
    worth = ["", f"{100 * mended:+.2f}", *(f"{100 * s.value:+.2f}{said}" for s, said in zip(steps, sure, strict=True))]
    lines = []
    for (name, why), gain in zip(whys.items(), worth, strict=True):
        one = spread([100 * value for value in values[name]])
        seconds = statistics.median(rungs[name]["seconds"])
        lines.append(f"| {name} | {one.mean:.2f} ± {one.sd:.2f} % | {gain} | {seconds:.0f} | {why} |")
    facts = rungs[RUNGS[-1].name]["machine"]
    return TEMPLATE.format(
        rows="\n".join(lines),
        seeds=rungs[LOOP]["seeds"],
        val=VAL,
        machine=f"{facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}",
    )


TEMPLATE = """# Recipes

From the tutorial's recipe to ours, one change a rung. `python benchmarks/ladder.py --data_dir data` writes this page.

The network is the same on every rung: 593,200 parameters. Each rung has the options of all rungs above it, trains on
the same 55,000 images for one epoch with the same {seeds} seeds, and is scored once, at its end, on the {val:,}
images set aside (mean ± sd over seeds). The test images were not read. What a rung is worth is the difference to the
rung above, in points; it says where Welch's t-test over the seeds, corrected for the number of rungs, sees no
difference. With so few seeds small ones go unseen. Seconds are those of training, the median over seeds ({machine}).

| Rung | Validation accuracy | Worth | Seconds | Why |
|---|---|---|---|---|
{rows}

- [`fast`](../configs/fast.yaml) is made from these rungs for the least time to the tutorial's score,
  [`best`](../configs/best.yaml) for the highest score: more epochs, a longer average, dropout, stronger warps
  that shrink towards the end, sharpness-aware minimization.
- A rung's place matters: what comes late finds less left to gain, and one epoch is short. Which of the changes that are
  not here were tried, and what for, stands in [decisions.md](decisions.md).
- The tutorial's other defects change no weights: it watches its epochs on the test set, divides its mean losses by the
  number of images once more, and never fills its list of mistakes. They are mended in `mnist-lit`, see its README.
"""

if __name__ == "__main__":
    main()
