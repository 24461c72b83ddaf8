"""Build the model that ships in the package from runs of `reader`: checkpoint, ONNX file and provenance.

    mnist-lit fit --config reader --seeds 5
    mnist-lit test --ckpt_path lightning_logs/version_0
    python benchmarks/pretrained.py lightning_logs/version_0

The first seed ships, whatever the others score: its best checkpoint by validation, calibrated on the validation images.
Without a group, the model that ships is calibrated once more.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mnist_lit.cli.main import main as mnist_lit
from mnist_lit.data.datasets import load_dataset
from mnist_lit.evaluation.statistics import spread
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import BEST_CKPT, finished_members
from mnist_lit.runs.locate import PRETRAINED, PRETRAINED_DIR
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.results import best_validation, read_predictions

TERMS = (
    "Trained on MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, made from NIST's Special Databases 1 and "
    "3; MNIST is available under the terms of the Creative Commons Attribution-Share Alike 3.0 license. "
    "No image of it is contained here."
)


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", type=Path, nargs="?", help="a tested group of seeds of the recipe")
    parser.add_argument("--data_dir", default="data", help="folder with MNIST's four archives (default: data)")
    options = parser.parse_args()

    members = finished_members(options.group) if options.group else []
    best = str(members[0] / "checkpoints" / BEST_CKPT) if members else PRETRAINED
    path = PRETRAINED_DIR / "provenance.json"
    provenance = training(members) if members else json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:  # commands refuse to overwrite the model that ships
        made = [Path(folder, name) for name in ("model.ckpt", "model.onnx")]
        for step in (
            ["calibrate", "--ckpt_path", best, "--output", str(made[0])],
            ["export", "--model", str(made[0]), "--output", str(made[1])],
        ):
            if mnist_lit([*step, "--data_dir", options.data_dir]):
                raise SystemExit(1)
        for file in made:
            shutil.copy(file, PRETRAINED_DIR)
    metadata = load_checkpoint(PRETRAINED_DIR / "model.ckpt")[METADATA_KEY]
    provenance["config"] = metadata["config"]  # without the folders of the machine that trained it
    entry = metadata["calibration"]
    images = load_dataset("mnist", options.data_dir).test_images.numpy()
    provenance["calibration"] |= {
        "temperature": float(entry["state"]["temperature"]),
        "threshold": entry["threshold"],
        "coverage": {
            "of the validation images": entry["coverage"],
            "of the test images, measured afterwards": coverage(images),
        },
    }
    path.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


def training(members: list[Path]) -> dict[str, Any]:
    """How the first of the runs was trained, and how all of them scored."""
    tests = [test for test in map(read_predictions, members) if test]
    if len(tests) != len(members):
        raise SystemExit(f"expected predictions.csv in all {len(members)} runs of {members[0].parent}; test them")
    metadata = load_checkpoint(members[0] / "checkpoints" / BEST_CKPT)[METADATA_KEY]
    scores = spread([test.acc for test in tests])
    validation = best_validation(members[0])
    command = members[0].joinpath("config.yaml").read_text(encoding="utf-8").splitlines()[0]
    return {
        "recipe": "reader",
        "seed": yaml.safe_load(metadata["config"])["seed_everything"],
        "command": re.sub(r" --data\.data_dir \S+", "", command.removeprefix("# ")),
        "data": {"md5 of all images and labels": metadata["data"], "images": 55000},
        "versions": metadata["versions"],
        "test": {
            "images": len(tests[0].labels),
            "accuracy": tests[0].acc,
            "n": len(tests),
            "mean": round(scores.mean, 6),
            "sd": round(scores.sd, 6),
        },
        "calibration": {
            "from": "the 5,000 training images that the run held out",
            "validation accuracy": validation and validation.acc,
        },
        "terms": TERMS,
    }


def coverage(images: NDArray[np.uint8]) -> float:
    """The fraction of images that the shipped model accepts."""
    reader = DigitReader.load(PRETRAINED)
    return float((reader.classify(images)[1] <= reader.threshold).mean())


if __name__ == "__main__":
    main()
