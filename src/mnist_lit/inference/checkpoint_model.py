"""A checkpoint as a model that reads digits, run by torch; see `onnx_model` for the same without torch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.runs.checkpoint import config_of

__all__ = ["CheckpointModel"]


class CheckpointModel:
    """Probabilities and outlier scores of a checkpoint's network. Raises InputError if it is not a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.network, self.labels, self.threshold, content = load_calibrated(path)
        self.dataset = str(config_of(content)["data"].get("dataset", ""))

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """uint8 (B, 28, 28) → probabilities (B, C) and outlier scores (B,)."""
        probabilities, outliers = self.network(torch.from_numpy(images))
        return probabilities.numpy(), outliers.numpy()
