"""A checkpoint's network gives NumPy scores; any other file is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.inference.checkpoint_model import CheckpointModel
from mnist_lit.runs.locate import PRETRAINED_DIR


def test_the_scores_are_the_calibrated_networks(images: torch.Tensor) -> None:
    path = PRETRAINED_DIR / "model.ckpt"
    model = CheckpointModel(path)
    network, labels, threshold, _ = load_calibrated(path)
    with torch.inference_mode():
        expected = network(images)
    pixels = images.numpy().copy()
    pixels.flags.writeable = False  # as NumPy makes those of a picture
    scores = model(pixels)
    assert [array.shape for array in scores] == [(16, 10), (16,)]
    assert all(array.dtype == np.float32 for array in scores)
    assert all(torch.from_numpy(actual).equal(wanted) for actual, wanted in zip(scores, expected, strict=True))
    assert (model.labels, model.threshold, model.dataset) == (labels, threshold, "mnist")


def test_a_damaged_file_is_refused_in_one_line() -> None:
    Path("damaged.ckpt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"damaged\.ckpt") as refused:
        CheckpointModel(Path("damaged.ckpt"))
    assert "\n" not in str(refused.value)
