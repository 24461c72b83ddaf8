"""Run a checkpoint's network with torch; `onnx_model` does the same for an exported model without torch."""

from pathlib import Path

import torch
from torch import nn

from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.inference.onnx_model import Images, Scores
from mnist_lit.runs.metadata import config_of


class CheckpointModel:
    """A checkpoint's calibrated network, on the CPU. Raises InputError if the file is not a checkpoint.

    network: one of your own, if the checkpoint was trained with it.
    """

    def __init__(self, path: Path, network: nn.Module | None = None) -> None:
        self.network, self.labels, self.threshold, content = load_calibrated(path, network)
        self.dataset = str(config_of(content)["data"].get("dataset", ""))

    @torch.inference_mode()
    def __call__(self, images: Images) -> Scores:
        """uint8 (B, 28, 28) → probabilities (B, C) and outlier scores (B,)."""
        probabilities, outliers = self.network(torch.tensor(images))  # a copy, since theirs may be read-only
        return probabilities.numpy(), outliers.numpy()
