"""How far a network's answer can be trusted: probabilities that mean what they say, and a sense for what is no digit.

Fitted after training, on images that were set aside; nothing here changes the network.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from mnist_lit.data.continental import CONTINENTAL_DRAWS, add_continental_strokes
from mnist_lit.data.datasets import InMemoryDataset
from mnist_lit.data.keyed_random import CALIBRATION, permutation, uniform
from mnist_lit.errors import InputError
from mnist_lit.evaluation.outlier_examples import make_outliers
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.runs.checkpoint import (
    METADATA_KEY,
    Metadata,
    config_of,
    load_checkpoint,
    network_of,
    save_checkpoint,
    strip_for_sharing,
)

__all__ = ["COVERAGE", "CalibratedNetwork", "LoadedModel", "calibrate", "calibrate_checkpoint", "load_calibrated"]

COVERAGE = 0.999  # the share of real digits that is not rejected
THRESHOLD = 0.5  # of `Calibrated`'s outlier score, which is shifted so that this is where to reject
EXAMPLES, OTHERS = 6000, 2  # digits that the detector learns from, and how many that are none for each of them
SHARE = 3  # of a small dataset it learns from every third digit: nobody waits long for a quickstart
EPOCHS, BATCH, HIDDEN = 20, 256, 64
BATCHES = 100  # images at once where nothing is learnt: this takes no more memory than a step of 128


class CalibratedNetwork(nn.Module):
    """A trained network with its temperature and its detector of what is no digit.

    uint8 images (B, 28, 28) → probabilities (B, C), and how much of an outlier each image is, (B,), in [0, 1]: above
    0.5 are one in a thousand digits of the validation images, and most of what is none. Temperature: Guo et al. 2017,
    "On calibration of modern neural networks". The detector is a perceptron on the convolutions' features, averaged
    over the image, and the sorted log-probabilities.
    """

    temperature: Tensor
    offset: Tensor

    def __init__(self, network: TutorialCNN) -> None:
        super().__init__()
        self.network = network
        self.evidence_size = network.conv4.out_channels + network.fc2.out_features
        self.detector = nn.Sequential(nn.Linear(self.evidence_size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        for parameter in self.detector.parameters():
            nn.init.zeros_(parameter)  # until it is taught, everything is as much of an outlier
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))  # the detector's output at the threshold

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        log_probs, evidence = self.look(images)
        probabilities = F.softmax(log_probs / self.temperature, dim=1)
        return probabilities, self.outliers(evidence)

    def outliers(self, evidence: Tensor) -> Tensor:
        """How much of an outlier each image is (B,), by what `look` gives."""
        return torch.sigmoid(self.detector(evidence)[:, 0] - self.offset)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, C) and what the detector goes by (B, 256 + C)."""
        x = standardize(images).contiguous(memory_format=torch.channels_last)
        features = self.network.features(x)  # (B, 256, 4, 4)
        log_probs = self.network.classify(features)
        return log_probs, torch.cat((features.mean((2, 3)), log_probs.sort(dim=1).values), dim=1)

    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: all but the network."""
        state = {name: value for name, value in self.state_dict().items() if not name.startswith("network.")}
        return {"threshold": THRESHOLD, "coverage": COVERAGE, "state": state}


class LoadedModel(NamedTuple):
    """What a checkpoint holds of a network that reads."""

    network: CalibratedNetwork
    labels: tuple[str, ...]  # the names of its classes
    threshold: float  # of rejection; 1, which rejects nothing, without a calibration
    content: dict[str, Any]  # the checkpoint, see `load_checkpoint`


def calibrate(
    network: TutorialCNN,
    data: InMemoryDataset,
    train: Tensor,
    val: Tensor,
    *,
    continental_share: float = 0.0,
    are_digits: bool = True,
    like: CalibratedNetwork | None = None,
) -> CalibratedNetwork:
    """Calibrate a trained network. The same arguments give the same result.

    train, val: indices of the training images that it was trained on, and that were set aside, int64.
    continental_share: as it was trained with, see `continental`. are_digits: what is mirrored or turned is none.
    like: where no images were set aside, the calibrated network of a run of the same recipe that did, and `val` are
    images that both were trained on. The temperature is taken from there, and as many of these are rejected as there.
    """
    with torch.random.fork_rng(devices=[]):  # making layers draws numbers
        calibrated = CalibratedNetwork(network).eval()
    count = min(EXAMPLES, -(-len(train) // SHARE))
    chosen = train[permutation(0, 0, len(train), stream=CALIBRATION)[:count]].sort().values
    images, labels = data.train_images[chosen], data.train_labels[chosen]
    draws = uniform(0, 0, chosen, CONTINENTAL_DRAWS, stream=CALIBRATION)
    images = add_continental_strokes(images, labels, draws, continental_share)
    others = make_outliers(images.numpy(), labels.numpy() if are_digits else None, OTHERS * len(images), seed=0)
    _train_detector(calibrated, images, torch.from_numpy(others))
    log_probs, evidence = _logits_and_features(calibrated, data.train_images[val])
    with torch.no_grad():
        outliers = calibrated.detector(evidence)[:, 0]
    if like is not None:
        with torch.no_grad():
            accepted = (
                (like.detector(_logits_and_features(like, data.train_images[val])[1])[:, 0] <= like.offset)
                .float()
                .mean()
            )
        calibrated.temperature.copy_(like.temperature)
        calibrated.offset.copy_(outliers.quantile(accepted, interpolation="higher"))
        return calibrated
    labels = data.train_labels[val]
    best = minimize_scalar(
        lambda log_t: float(F.cross_entropy(log_probs / float(np.exp(log_t)), labels)), bounds=(-2, 2)
    )
    calibrated.temperature.fill_(float(np.exp(best.x)))
    calibrated.offset.copy_(outliers.quantile(COVERAGE, interpolation="higher"))
    return calibrated


def load_calibrated(path: str | Path) -> LoadedModel:
    """A checkpoint's network with its calibration. Raises InputError on what is no checkpoint of ours."""
    content = load_checkpoint(path)
    calibrated = CalibratedNetwork(network_of(content)).eval().requires_grad_(False)
    labels = Metadata.of(content).classes
    settings = content[METADATA_KEY].get("calibration")
    if not settings:
        return LoadedModel(calibrated, labels, 1.0, content)
    try:
        state, threshold = settings["state"], float(settings["threshold"])
        whole = state.keys() == calibrated.settings()["state"].keys() and 0 <= threshold <= 1
        if not whole or not all(bool(value.isfinite().all()) for value in state.values()) or state["temperature"] <= 0:
            raise ValueError
        calibrated.load_state_dict(state, strict=False)  # all but the network
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no checkpoint of mnist-lit: its calibration is damaged") from error
    return LoadedModel(calibrated, labels, threshold, content)


def calibrate_checkpoint(
    source: Path,
    target: Path,
    data: InMemoryDataset,
    train: Tensor,
    val: Tensor,
    *,
    like: CalibratedNetwork | None = None,
) -> dict[str, Any]:
    """Calibrate a checkpoint, see `fit`, and save it with that; where the target is another file, only what it needs.

    Returns the checkpoint's content. Raises InputError on what is no checkpoint of ours, OSError if it cannot save.
    """
    content = load_checkpoint(source)
    recipe = config_of(content)["data"]
    calibrated = calibrate(
        network_of(content),
        data,
        train,
        val,
        continental_share=recipe.get("continental", 0.0),
        are_digits=recipe.get("dataset") in ("mnist", "digits"),
        like=like,
    )
    settings = calibrated.settings()
    content[METADATA_KEY]["calibration"] = settings
    content = content if source == target else strip_for_sharing(content)
    save_checkpoint(content, target)
    return content


def _train_detector(calibrated: CalibratedNetwork, images: Tensor, others: Tensor) -> None:
    """Teach the detector, a logistic perceptron, to tell digits, uint8 (N, 28, 28), from what is none (M, 28, 28)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in calibrated.detector:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    inputs = torch.cat(
        [_logits_and_features(calibrated, part)[1] for part in (images, others)]
    ).clone()  # (N + M, 256 + C)
    targets = torch.cat((torch.zeros(len(images)), torch.ones(len(others))))
    scale, middle = inputs.std(dim=0), inputs.mean(dim=0)
    scale = scale.clamp(min=max(0.2 * float(scale.median()), 1e-6))  # a feature that hardly ever moves shall not decide
    optimizer = torch.optim.AdamW(calibrated.detector.parameters(), lr=3e-3, weight_decay=1.0)
    standard = (inputs - middle) / scale
    for epoch in range(EPOCHS):
        for batch in torch.split(permutation(0, epoch, len(inputs), stream=CALIBRATION), BATCH):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(calibrated.detector(standard[batch])[:, 0], targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    first = calibrated.detector[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():  # the scaling goes into the weights
        first.weight.div_(scale)
        first.bias.sub_(first.weight @ middle)


@torch.inference_mode()
def _logits_and_features(calibrated: CalibratedNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = torch.empty(len(images), calibrated.network.fc2.out_features)
    evidence = torch.empty(len(images), calibrated.evidence_size)  # at once: kept pieces would fragment the memory
    for start in range(0, len(images), BATCHES):
        part = slice(start, start + BATCHES)
        log_probs[part], evidence[part] = calibrated.look(images[part])
    return log_probs, evidence
