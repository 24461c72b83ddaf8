"""`mnist-lit report`: what a run, or a group of seeds, has learnt, as one page to look at or one JSON object.

Every number of the test comes from the run's `predictions.csv`, which `mnist-lit test` wrote. Trains nothing.
"""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import best_checkpoint
from mnist_lit.runs.results import Predictions, read_predictions
from mnist_lit.system.subprocesses import run_command

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.evaluation.calibration import CalibratedNetwork, LoadedModel

__all__ = ["load_test_data", "tested_predictions"]
AGREES = 1e-3  # by which a probability may differ from what the checkpoint says now, on whatever device
BATCH = 500


def load_test_data(loaded: "list[LoadedModel]", data_dir: str | None) -> "MNISTDataModule":
    """The data that the runs were trained on, on the device that computes. Raises InputError where it is other data."""
    import torch

    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.runs.checkpoint import METADATA_KEY, config_of

    chosen = config_of(loaded[0].content)["data"]
    data = MNISTDataModule(**chosen | ({"data_dir": data_dir} if data_dir else {}))
    data.prepare_data()
    data.setup()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in loaded:
        if model.content[METADATA_KEY]["data"] != data.fingerprint:
            raise InputError(
                f"the run was trained on other data than {data.data_dir} has; expected --data_dir with that"
            )
        model.network.to(device)
    return data


def tested_predictions(
    run: Path, network: "CalibratedNetwork", images: "Tensor", labels: "Tensor", data_dir: str | None
) -> "tuple[Predictions, NDArray[np.float32]]":
    """A run's test, and how much of an outlier each image is (N,).

    Tests the run first where its last test was none, or of another checkpoint. Raises InputError where that fails.
    """
    probs, outliers = _predict(network, images)
    test = read_predictions(run)
    if test is None or not _agrees(test, probs, labels):
        print(f"report: testing {run} first", file=sys.stderr, flush=True)
        place = ["--data.data_dir", data_dir] if data_dir else []
        if run_command("test", ["--ckpt_path", str(best_checkpoint(run)), *place], stdout=subprocess.DEVNULL):
            raise InputError(f"{run} could not be tested")
        test = read_predictions(run)
    if test is None or not _agrees(test, probs, labels):
        raise InputError(f"{run}/predictions.csv is not what {best_checkpoint(run)} says of these images")
    return test, outliers


def _predict(network: "CalibratedNetwork", images: "Tensor") -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Probabilities (N, C) before calibration, and how much of an outlier each image is (N,)."""
    import torch

    with torch.inference_mode():
        parts = []
        for batch in torch.split(images, BATCH):
            log_probs, evidence = network.look(batch)
            parts.append((log_probs.exp().cpu(), network.outliers(evidence).cpu()))
    probs, outliers = (torch.cat(column) for column in zip(*parts, strict=True))
    return probs.numpy(), outliers.numpy()


def _agrees(test: Predictions, probs: "NDArray[np.float32]", labels: "Tensor") -> bool:
    """Whether a test was of this checkpoint and of these images."""
    said = np.array(test.probs)
    same = test.labels == labels.tolist() and said.shape == probs.shape
    return same and float(np.abs(said - probs).max()) <= AGREES
