"""Build the model that ships in the package from runs of `reader`: checkpoint, ONNX file and provenance.

    mnist-lit fit --config reader --seeds 3
    mnist-lit test --ckpt_path lightning_logs/version_0
    mnist-lit fit --config reader --data.val_size 5000
    python benchmarks/pretrained.py lightning_logs/version_0 lightning_logs/version_1

The first seed ships, whatever the others score. Temperature and threshold come from the run with a validation set.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lit.cli.main import main as mnist_lit
from mnist_lit.data.datasets import load_dataset
from mnist_lit.evaluation.statistics import spread
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.checkpoint import METADATA_KEY, load_checkpoint
from mnist_lit.runs.folders import LAST_CKPT, finished_members, run_number
from mnist_lit.runs.locate import PRETRAINED, PRETRAINED_DIR
from mnist_lit.runs.results import best_validation, read_predictions

TERMS = (
    "Trained on MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, made from NIST's Special Databases 1 and "
    "3; MNIST is available under the terms of the Creative Commons Attribution-Share Alike 3.0 licence. "
    "No image of it is contained here."
)


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", type=Path, help="a tested group of seeds of the recipe")
    parser.add_argument("like", type=Path, help="a run of the recipe with data.val_size")
    parser.add_argument("--data_dir", default="data", help="folder with MNIST's four archives (default: data)")
    options = parser.parse_args()

    members = finished_members(options.group)
    tests = [test for test in map(read_predictions, members) if test]
    if len(tests) != len(members):
        raise SystemExit(
            f"expected predictions.csv in all {len(members)} runs of {options.group}, got {len(tests)}; test them"
        )
    PRETRAINED_DIR.mkdir(exist_ok=True)
    checkpoint = PRETRAINED_DIR / "model.ckpt"
    # The last checkpoint, not the best by validation: like the model that ships, it was trained to the end.
    like = str(options.like / "checkpoints" / LAST_CKPT)
    for command in (
        ["calibrate", "--ckpt_path", like],
        ["calibrate", "--ckpt_path", str(members[0]), "--like", like, "--output", str(checkpoint)],
        ["export", "--model", str(checkpoint), "--output", str(checkpoint.with_suffix(".onnx"))],
    ):
        if mnist_lit([*command, "--data_dir", options.data_dir]):
            raise SystemExit(1)
    metadata = load_checkpoint(checkpoint)[METADATA_KEY]
    images = load_dataset("mnist", options.data_dir).test_images.numpy()
    scores = spread([test.acc for test in tests])
    validation = best_validation(options.like)
    provenance = {
        "recipe": "reader",
        "config": metadata["config"],
        "seed": run_number(members[0], "seed"),
        "command": members[0].joinpath("config.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# "),
        "data": {"md5 of all images and labels": metadata["data"], "images": 60000},
        "versions": metadata["versions"],
        "test": {
            "images": len(tests[0].labels),
            "accuracy": tests[0].acc,
            "n": len(tests),
            "mean": scores.mean,
            "sd": scores.sd,
        },
        "calibration": {
            "from": "a run of the same recipe and seed with 5,000 of the training images set aside",
            "its validation accuracy": validation and validation[0],
            "temperature": float(metadata["calibration"]["state"]["temperature"]),
            "threshold": metadata["calibration"]["threshold"],
            "coverage": {
                "of that run's validation images": metadata["calibration"]["coverage"],
                "of the test images, measured afterwards": coverage(images),
            },
        },
        "terms": TERMS,
    }
    PRETRAINED_DIR.joinpath("provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


def coverage(images: NDArray[np.uint8]) -> float:
    """The share of images that the shipped model accepts."""
    reader = DigitReader.load(PRETRAINED)
    return float((reader.classify(images)[1] <= reader.threshold).mean())


if __name__ == "__main__":
    main()
