"""The model that ships in the package, from runs of `reader`: checkpoint, ONNX file and provenance.

    mnist-lit fit --config reader --seeds 3
    mnist-lit test --ckpt_path lightning_logs/version_0
    mnist-lit fit --config reader --data.val_size 5000
    python benchmarks/pretrained.py lightning_logs/version_0 lightning_logs/version_1

The first seed is shipped, whatever the others score. Temperature and threshold come from the run that set images aside.
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
    parser.add_argument("group", type=Path, help="of seeds of the recipe, tested")
    parser.add_argument("like", type=Path, help="a run of the recipe with data.val_size")
    parser.add_argument("--data_dir", default="data", help="the folder of MNIST's files (default: data)")
    options = parser.parse_args()

    members = finished_members(options.group)
    tests = [test for test in map(read_predictions, members) if test]
    if len(tests) != len(members):
        raise SystemExit(f"test all of {options.group} first")
    target = PRETRAINED_DIR
    target.mkdir(exist_ok=True)
    data = ("--data_dir", options.data_dir)
    like = str(options.like / "checkpoints" / LAST_CKPT)  # as long trained as what ships, if not its best by validation
    made = ("--ckpt_path", str(members[0]), "--like", like, "--output", str(target / "model.ckpt"), *data)
    exported = ("--model", str(target / "model.ckpt"), "--output", str(target / "model.onnx"), *data)
    if (
        mnist_lit(["calibrate", "--ckpt_path", like, *data])
        or mnist_lit(["calibrate", *made])
        or mnist_lit(["export", *exported])
    ):
        raise SystemExit(1)
    told = load_checkpoint(target / "model.ckpt")[METADATA_KEY]
    images = load_dataset("mnist", options.data_dir).test_images.numpy()
    scores = spread([test.acc for test in tests])
    validated = best_validation(options.like)
    provenance = {
        "recipe": "reader",
        "config": told["config"],
        "seed": run_number(members[0], "seed"),
        "command": members[0].joinpath("config.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# "),
        "data": {"md5 of all images and labels": told["data"], "images": 60000},
        "versions": told["versions"],
        "test": {
            "images": len(tests[0].labels),
            "accuracy": tests[0].acc,
            "n": len(tests),
            "mean": scores.mean,
            "sd": scores.sd,
        },
        "calibration": {
            "from": "a run of the same recipe and seed with 5,000 of the training images set aside",
            "its validation accuracy": validated and validated[0],
            "temperature": float(told["calibration"]["state"]["temperature"]),
            "threshold": told["calibration"]["threshold"],
            "coverage": {
                "of that run's validation images": told["calibration"]["coverage"],
                "of the test images, measured afterwards": _coverage(images),
            },
        },
        "terms": TERMS,
    }
    target.joinpath("provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


def _coverage(images: NDArray[np.uint8]) -> float:
    """The share of images that the shipped model does not reject."""
    reader = DigitReader.load(PRETRAINED)
    return float((reader.classify(images)[1] <= reader.threshold).mean())


if __name__ == "__main__":
    main()
