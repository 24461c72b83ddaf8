"""Calibrated probabilities and a detector for images that are not digits, fitted after training to a frozen network."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.handwriting import HandwritingStyles
from mnist_lit.data.in_memory import DIGITS, InMemoryDataset
from mnist_lit.data.keyed_random import CALIBRATION, SLANT, permutation, uniform
from mnist_lit.errors import InputError
from mnist_lit.evaluation.outlier_examples import make_outliers
from mnist_lit.metrics import require_numbers
from mnist_lit.model import standardize
from mnist_lit.own_network import is_tutorial, log_probabilities
from mnist_lit.runs.checkpoint import load_checkpoint, require_finite, save_checkpoint
from mnist_lit.runs.metadata import Metadata, config_of, with_metadata
from mnist_lit.runs.sharing import strip_for_sharing
from mnist_lit.runs.weights import network_of
from mnist_lit.system.regular_file import file_state

COVERAGE = 0.999  # fraction of the real digits that the detector accepts
MIN_MISTAKES = 3  # with fewer on the validation images, confidence is never increased: see `calibrate`
THRESHOLD = 0.5  # rejection threshold; the outlier score is shifted so that it is the same for every model
MAX_DIGITS = 30_000  # digits that train the detector, with half as many outliers
# People also write digits rotated and slanted.
WARPED_FRACTION, WARP = 0.15, RandomAffine(degrees=25, shear=12.5)
EPOCHS, TRAIN_BATCH, HIDDEN = 12, 256, 64
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 3e-3, 0.1, 0.5
AS_IN_MNIST = HandwritingStyles()
BATCH = 100  # images per inference step; needs no more memory than a training step of 128


class CalibratedNetwork(nn.Module):
    """A trained network with its temperature and its outlier detector, whose scores above 0.5 mean "reject"."""

    temperature: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes
        channels = network.conv4.out_channels if is_tutorial(network) else 0
        # Each channel's mean, and its maximum in each quarter of the image; and the sorted log-probabilities.
        self.feature_count = 5 * channels + num_classes
        self.detector = nn.Sequential(nn.Linear(self.feature_count, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))  # the detector's logit at the threshold

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 28, 28) → probabilities (B, C), outlier scores (B,) in [0, 1]."""
        log_probs, features = self.log_probs_and_features(images)
        return F.softmax(log_probs / self.temperature, dim=1), self.outlier_scores(features)

    def outlier_scores(self, features: Tensor) -> Tensor:
        """Detector features (B, 1280 + C) → outlier scores (B,)."""
        return torch.sigmoid(self.detector(features)[:, 0] - self.offset)

    def log_probs_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 28, 28) → uncalibrated log-probabilities (B, C), detector features (B, 1280 + C).

        Of a network other than the tutorial's, only the output is known, so the features are (B, C).
        """
        x = standardize(images)
        if is_tutorial(self.network):
            maps = self.network.features(x.contiguous(memory_format=torch.channels_last))  # (B, 256, 4, 4)
            log_probs = self.network.classify(maps)
            quarters = F.max_pool2d(maps, 2).flatten(1)  # (B, 1024)
            return log_probs, torch.cat((maps.mean((2, 3)), log_probs.sort(dim=1).values, quarters), dim=1)
        log_probs = log_probabilities(self.network, x, self.num_classes)
        return log_probs, log_probs.sort(dim=1).values

    def checkpoint_entry(self) -> dict[str, Any]:
        """What a checkpoint stores: everything except the network."""
        state = {name: value for name, value in self.state_dict().items() if not name.startswith("network.")}
        return {"threshold": THRESHOLD, "coverage": COVERAGE, "state": state}


class LoadedModel(NamedTuple):
    """A checkpoint's model, ready for inference."""

    network: CalibratedNetwork
    labels: tuple[str, ...]  # class names
    threshold: float  # rejection threshold; 1, which rejects nothing, without a calibration
    content: dict[str, Any]  # the checkpoint, see `load_checkpoint`


@torch.inference_mode()
def predict_batches(calibrated: CalibratedNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
    """`log_probs_and_features` of uint8 (N, 28, 28) in small batches: float32 (N, C), (N, 1280 + C) on their device.
    Raises InputError if a log-probability is not a number."""
    # Allocated once: collecting small results in a list would fragment the memory.
    log_probs = torch.empty(len(images), calibrated.num_classes, device=images.device)
    features = torch.empty(len(images), calibrated.feature_count, device=images.device)
    for start in range(0, len(images), BATCH):
        batch = slice(start, start + BATCH)
        log_probs[batch], features[batch] = calibrated.log_probs_and_features(images[batch])
    require_numbers(log_probs)
    return log_probs, features


def calibrate(
    network: nn.Module,
    data: InMemoryDataset,
    train: Tensor,
    val: Tensor,
    *,
    styles: HandwritingStyles = AS_IN_MNIST,
    are_digits: bool = True,
    like: CalibratedNetwork | None = None,
) -> CalibratedNetwork:
    """Calibrate a trained network. The same arguments give the same bits.

    train, val: int64 indices of the training images that it was trained on, and of those held out.
    styles: those that it was trained on. are_digits: treat mirrored and rotated images, letters and symbols as
    outliers. like: for a run that held no images out, the calibrated network of a run of the same recipe that did.
    `val` are then images that both were trained on; the temperature is copied, and as many of these are rejected.
    """
    digits, outliers = _examples(data, train, styles, are_digits=are_digits)
    with torch.random.fork_rng(devices=[]):  # preserves the caller's random state
        torch.manual_seed(0)  # for the detector's initial weights and dropout
        calibrated = CalibratedNetwork(network, len(data.classes)).eval()
        _train_detector(calibrated, digits, outliers)

    # Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"): one number divides all
    # log-probabilities, so the answers stay the same and only their confidence changes. It minimizes the NLL of images
    # that the network never saw. The search is over its logarithm, where halving and doubling are equally far. If no
    # image is misread, the temperature with the lowest NLL falls toward zero.
    log_probs, features = predict_batches(calibrated, data.train_images[val])
    with torch.no_grad():
        logits = calibrated.detector(features)[:, 0]
        if like is not None:
            accepted = like.detector(predict_batches(like, data.train_images[val])[1])[:, 0] <= like.offset
            calibrated.temperature.copy_(like.temperature)
            calibrated.offset.copy_(logits.quantile(accepted.float().mean(), interpolation="higher"))
            return calibrated
    labels = data.train_labels[val]
    best = minimize_scalar(lambda x: float(F.cross_entropy(log_probs / float(np.exp(x)), labels)), bounds=(-2, 2))
    mistakes = int((log_probs.argmax(dim=1) != labels).sum())
    calibrated.temperature.fill_(float(np.exp(best.x if mistakes >= MIN_MISTAKES else max(best.x, 0))))
    calibrated.offset.copy_(logits.quantile(COVERAGE, interpolation="higher"))
    return calibrated


def load_calibrated(path: str | Path, network: nn.Module | None = None) -> LoadedModel:
    """Load a checkpoint's network with its calibration. Raises InputError if it is not a checkpoint of mnist-lit.

    network: one of your own, if the checkpoint was trained with it; a copy gets the weights.
    """
    content = load_checkpoint(path)
    network = network_of(content, copy.deepcopy(network))
    metadata = Metadata.of(content)
    calibrated = CalibratedNetwork(network, len(metadata.classes)).eval().requires_grad_(False)
    if not (entry := metadata.calibration):
        for parameter in calibrated.detector.parameters():
            parameter.zero_()  # an untrained detector gives every image the same score
        return LoadedModel(calibrated, metadata.classes, 1.0, content)
    try:
        state, threshold = entry["state"], float(entry["threshold"])
        complete = state.keys() == calibrated.checkpoint_entry()["state"].keys()
        require_finite({name: value.float() for name, value in state.items()})
        if not (complete and 0 <= threshold <= 1 and state["temperature"] > 0):
            raise ValueError
        calibrated.load_state_dict(state, strict=False)  # everything except the network
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a checkpoint of mnist-lit: its calibration is damaged") from error
    return LoadedModel(calibrated, metadata.classes, threshold, content)


def calibrate_checkpoint(
    source: Path,
    target: Path,
    data: InMemoryDataset,
    train: Tensor,
    val: Tensor,
    *,
    like: CalibratedNetwork | None = None,
    network: nn.Module | None = None,
) -> CalibratedNetwork:
    """Calibrate a checkpoint and save it, stripped for sharing if to another file. Raises InputError, including if
    a fit replaces the checkpoint meanwhile, or OSError."""
    before = file_state(source)
    content = load_checkpoint(source)
    network = network_of(content, copy.deepcopy(network)).eval()
    settings = config_of(content)["data"]
    styles = HandwritingStyles(settings.get("continental", 0.0), settings.get("handwriting", 0.0))
    are_digits = data.classes == DIGITS and settings.get("dataset") != "folder"
    calibrated = calibrate(network, data, train, val, styles=styles, are_digits=are_digits, like=like)
    if file_state(source) != before:
        raise InputError(f"{source} was replaced while it was calibrated; repeat the command")
    content = with_metadata(content, calibration=calibrated.checkpoint_entry())
    same = source.resolve() == target.resolve()
    save_checkpoint(content if same else strip_for_sharing(content), target)
    return calibrated


def _examples(
    data: InMemoryDataset, train: Tensor, styles: HandwritingStyles, *, are_digits: bool
) -> tuple[Tensor, Tensor]:
    """What the detector is trained on: training images in all their styles, some of them also warped, and half as many
    outliers: uint8 (N, 28, 28) each."""
    chosen = train[permutation(0, 0, len(train), stream=CALIBRATION)[:MAX_DIGITS]].sort().values
    images, labels = data.train_images[chosen], data.train_labels[chosen]
    for batch in torch.split(torch.arange(len(chosen)), BATCH):  # drawing digits takes memory
        images[batch] = styles(images[batch], labels[batch], chosen[batch], seed=0, epoch=0)
    draws = uniform(0, 0, chosen, DRAWS + 1, stream=SLANT)
    warped = draws[:, DRAWS] < WARPED_FRACTION
    images[warped] = WARP(images[warped], draws[warped, :DRAWS])
    count = -(-len(images) // 2)
    outliers = make_outliers(images.numpy(), labels.numpy() if are_digits else None, count, seed=0)
    return images, torch.from_numpy(outliers)


def _train_detector(calibrated: CalibratedNetwork, digits: Tensor, outliers: Tensor) -> None:
    """Train the detector to tell digits, uint8 (N, 28, 28), from outliers, uint8 (M, 28, 28): a binary classifier on
    synthetic outliers, after outlier exposure (Hendrycks et al. 2019, "Deep anomaly detection with outlier exposure"),
    but on the frozen network's features: what the last convolution saw in the whole image and in each quarter of it,
    and how the probabilities are distributed, whatever the class. It costs two small layers, and no accuracy."""
    inputs = predict_batches(calibrated, torch.cat((digits, outliers)))[1]  # (N + M, 1280 + C)
    targets = torch.cat((torch.zeros(len(digits)), torch.ones(len(outliers))))
    scale, mean = inputs.std(dim=0), inputs.mean(dim=0)
    # A feature that hardly varies must not become decisive by being divided by next to nothing.
    scale = scale.clamp(min=max(0.2 * float(scale.median()), 1e-6))
    first, output = calibrated.detector[:2], calibrated.detector[2:]
    parameters = calibrated.detector.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EPOCHS * -(-len(inputs) // TRAIN_BATCH))
    for epoch in range(EPOCHS):
        for batch in torch.split(permutation(0, epoch, len(inputs), stream=CALIBRATION), TRAIN_BATCH):
            optimizer.zero_grad()
            logits = output(F.dropout(first((inputs[batch] - mean) / scale), DROPOUT))[:, 0]
            F.binary_cross_entropy_with_logits(logits, targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    weight, bias, *_ = calibrated.detector.parameters()
    with torch.no_grad():  # fold the standardization into the first layer
        weight.div_(scale)
        bias.sub_(weight @ mean)
