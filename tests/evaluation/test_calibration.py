"""The temperature minimizes the loss, the detector rejects what is not a digit, and both survive in the checkpoint."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import nn

from mnist_lit.data.augmentation import DRAWS
from mnist_lit.data.handwriting import HandwritingStyles
from mnist_lit.data.keyed_random import CALIBRATION, SLANT, permutation, uniform
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.evaluation import calibration
from mnist_lit.evaluation.calibration import (
    BATCH,
    COVERAGE,
    THRESHOLD,
    CalibratedNetwork,
    calibrate,
    calibrate_checkpoint,
    load_calibrated,
    predict_batches,
)
from mnist_lit.evaluation.outlier_examples import make_outliers
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.runs.checkpoint import load_checkpoint, save_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.metadata import METADATA_KEY

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def calibrated(trained: Path) -> CalibratedNetwork:
    return load_calibrated(trained / "checkpoints" / "best.ckpt")[0]


@pytest.fixture(scope="module")
def val(digits_data: MNISTDataModule) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = digits_data.val_indices
    return digits_data.in_memory.train_images[chosen], digits_data.in_memory.train_labels[chosen]


def test_fit_calibrates_the_best_checkpoint_only(trained: Path) -> None:
    _, labels, threshold, _ = load_calibrated(trained / "checkpoints" / "best.ckpt")
    assert labels == tuple("0123456789")
    assert threshold == THRESHOLD
    assert load_calibrated(trained / "checkpoints" / LAST_CKPT)[2] == 1  # inference uses best.ckpt


def test_no_temperature_of_a_grid_is_better(calibrated: CalibratedNetwork, val: tuple[torch.Tensor, ...]) -> None:
    images, labels = val
    log_probs, _ = calibrated.log_probs_and_features(images)

    def nll(temperature: float) -> float:
        return float(F.cross_entropy(log_probs / temperature, labels))

    grid = [2 ** (step / 8) for step in range(-16, 17)]
    best = float(calibrated.temperature)
    assert nll(best) <= min(map(nll, grid)) + 1e-6
    assert nll(best) < nll(1.0)
    assert torch.allclose(calibrated(images)[0], F.softmax(log_probs / best, dim=1))


@pytest.mark.parametrize(
    ("factor", "mistakes", "low", "high"), [(0.1, 0, 1, 1), (0.1, 2, 1, 1), (0.1, 3, 0, 0.9), (10, 1, 1.1, 10)]
)
def test_confidence_is_raised_only_if_there_are_enough_mistakes(
    factor: float, mistakes: int, low: float, high: float, calibrated: CalibratedNetwork, digits_data: MNISTDataModule
) -> None:
    """Nothing but mistakes keeps the temperature of a network that is not sure enough from falling; that of one that is
    too sure may always rise."""
    data, val = digits_data.in_memory, digits_data.val_indices
    labels = data.train_labels.clone()
    labels[val] = predicted = calibrated(data.train_images[val])[0].argmax(dim=1)
    labels[val[:mistakes]] = (predicted[:mistakes] + 1) % 10
    data = dataclasses.replace(data, train_labels=labels)
    found = calibrate(Scaled(calibrated.network, factor), data, digits_data.train_indices[:300], val)
    assert low <= float(found.temperature) <= high


class Scaled(nn.Module):
    """A network with a multiple of another one's logits."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.network(x)  # type: ignore[no-any-return]


def test_the_threshold_accepts_the_promised_fraction_of_digits(
    calibrated: CalibratedNetwork, val: tuple[torch.Tensor, ...]
) -> None:
    outliers = calibrated(val[0])[1]
    accepted = int((outliers <= THRESHOLD).sum())
    assert accepted >= COVERAGE * len(outliers)
    assert accepted == len(outliers)  # one in a thousand of 180 images rounds to none


def test_noise_and_blank_paper_are_rejected(calibrated: CalibratedNetwork) -> None:
    noise = torch.randint(0, 256, (50, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert (calibrated(noise)[1] > THRESHOLD).all()
    assert (calibrated(torch.zeros(1, 28, 28, dtype=torch.uint8))[1] > THRESHOLD).all()


def test_the_same_arguments_give_the_same_bits(calibrated: CalibratedNetwork, digits_data: MNISTDataModule) -> None:
    arguments = (calibrated.network, digits_data.in_memory, digits_data.train_indices[:300], digits_data.val_indices)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = calibrate(*arguments)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    other = calibrate(*arguments)
    fewer = calibrate(*arguments[:2], digits_data.train_indices[:200], digits_data.val_indices)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert not torch.equal(one.offset, fewer.offset)


def test_digits_of_the_recipes_styles_train_the_detector(
    calibrated: CalibratedNetwork, digits_data: MNISTDataModule
) -> None:
    network, data, train, val = (
        calibrated.network,
        digits_data.in_memory,
        digits_data.train_indices[:240],
        digits_data.val_indices,
    )
    redrawn = HandwritingStyles(redrawn=1.0)(data.train_images[val], data.train_labels[val], val, seed=0, epoch=1)
    rejected = [
        int((calibrate(network, data, train, val, styles=styles)(redrawn)[1] > THRESHOLD).sum())
        for styles in (HandwritingStyles(), HandwritingStyles(redrawn=0.5))
    ]
    assert rejected[1] < rejected[0] / 2


def test_some_of_the_digits_are_rotated_and_slanted(
    calibrated: CalibratedNetwork, digits_data: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, train = digits_data.in_memory, digits_data.train_indices
    assert data is not None
    seen: list[NDArray[np.uint8]] = []

    def watched(images: NDArray[np.uint8], labels: Any, count: int, seed: int) -> NDArray[np.uint8]:
        seen.append(images)
        assert count == (len(images) + 1) // 2
        return make_outliers(images, labels, count, seed)

    monkeypatch.setattr(calibration, "make_outliers", watched)
    calibrate(calibrated.network, data, train, digits_data.val_indices)
    chosen = train.sort().values
    warped = uniform(0, 0, chosen, DRAWS + 1, stream=SLANT)[:, DRAWS] < 0.15
    changed = (torch.from_numpy(seen[0]) != data.train_images[chosen]).flatten(1).any(dim=1)
    assert changed.equal(warped)
    assert float(warped.float().mean()) == pytest.approx(0.15, abs=0.05)


def test_the_detector_is_trained_like_a_plain_loop(calibrated: CalibratedNetwork, images: torch.Tensor) -> None:
    digits, outliers = images.repeat(20, 1, 1)[:301], 255 - images.repeat(20, 1, 1)[:299]
    digits = digits.roll(1, dims=2) // 2 + digits // 2
    torch.manual_seed(1)
    found = CalibratedNetwork(calibrated.network, 10)
    expected = copy.deepcopy(found.detector)
    torch.manual_seed(2)
    calibration._train_detector(found, digits, outliers)
    torch.manual_seed(2)
    inputs = predict_batches(found, torch.cat((digits, outliers)))[1]
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0)
    deviation = torch.maximum(deviation, 0.2 * deviation.median())
    inputs = (inputs - mean) / deviation
    optimizer = torch.optim.AdamW(expected.parameters(), lr=3e-3, weight_decay=0.1)
    for epoch in range(12):
        order = permutation(0, epoch, 600, stream=CALIBRATION)
        for number, batch in enumerate((order[:256], order[256:512], order[512:])):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - (3 * epoch + number) / 36)
            hidden = F.dropout(expected[1](expected[0](inputs[batch])), 0.5)
            loss = F.binary_cross_entropy_with_logits(expected[2](hidden)[:, 0], (batch >= 301).float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    logits = found.detector(inputs * deviation + mean)
    torch.testing.assert_close(logits, expected(inputs), rtol=1e-2, atol=1e-2)
    assert float(logits.detach().std()) > 1


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_any_threshold_in_the_unit_interval_is_loaded(threshold: float, trained: Path) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    content[METADATA_KEY]["calibration"]["threshold"] = threshold
    save_checkpoint(content, Path("a.ckpt"))
    assert load_calibrated("a.ckpt").threshold == threshold


class Own(nn.Module):
    """A network of your own, which returns logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * self.layer(x.flatten(1))  # type: ignore[no-any-return]


def test_a_network_of_your_own_is_calibrated_by_its_output(
    digits_data: MNISTDataModule, val: tuple[torch.Tensor, ...]
) -> None:
    torch.manual_seed(0)
    network = Own()
    calibrated = calibrate(network, digits_data.in_memory, digits_data.train_indices[:300], digits_data.val_indices)
    log_probs, features = predict_batches(calibrated, val[0])
    assert (log_probs.shape, features.shape) == ((180, 10), (180, 10))
    with torch.no_grad():
        expected = network(standardize(val[0]))
    expected -= expected.logsumexp(dim=1, keepdim=True)
    torch.testing.assert_close(log_probs, expected)
    assert features.equal(log_probs.sort(dim=1).values)
    assert float(calibrated.temperature) > 1.5  # an untrained network is much too sure
    assert int((calibrated(val[0])[1] <= THRESHOLD).sum()) >= COVERAGE * 180


def test_the_number_of_classes_is_that_of_the_network(images: torch.Tensor) -> None:
    calibrated = CalibratedNetwork(TutorialCNN(3), 3)
    probabilities, outliers = calibrated(images)
    assert (probabilities.shape, outliers.shape) == ((16, 3), (16,))
    assert calibrated.log_probs_and_features(images)[1].shape == (16, 1280 + 3)
    with pytest.raises(InputError, match=r"expected outputs \(16, 3\)"):
        CalibratedNetwork(Own(), 3)(images)


def test_a_given_network_is_copied_before_weights_are_loaded(trained: Path) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    network = Own()
    weights = {f"network.{name}": value + 1 for name, value in network.state_dict().items()}
    content["hyper_parameters"]["network"] = "my.Own"
    del content[METADATA_KEY]["calibration"]
    save_checkpoint({**content, "state_dict": weights}, Path("own.ckpt"))
    before = network.layer.bias.detach().clone()
    loaded = load_calibrated("own.ckpt", network)
    assert network.layer.bias.equal(before)
    assert loaded.network.network.get_parameter("layer.bias").equal(before + 1)
    with pytest.raises(InputError, match=r"add --model\.network my\.Own"):
        load_calibrated("own.ckpt")


@pytest.mark.slow
def test_resuming_repeats_a_killed_calibration(cli: Cli) -> None:
    fit = ("fit", "--data.dataset", "digits", "--data.val_size", "180", "--trainer.max_epochs", "1", "--resume", "auto")
    assert cli(*fit)[0] == 0
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    content = load_checkpoint(best)
    expected = content[METADATA_KEY].pop("calibration")["state"]["offset"]
    for finished in (True, False):  # killed after the run was marked as finished, and before
        save_checkpoint(content, best)
        if not finished:
            best.parents[1].joinpath(FINISHED_MARK).unlink()
        code, out, _ = cli(*fit)
        assert code == 0
        assert "is finished" in out
        assert torch.equal(load_checkpoint(best)[METADATA_KEY]["calibration"]["state"]["offset"], expected)


def test_batches_give_the_bits_of_each_batch(calibrated: CalibratedNetwork, val: tuple[torch.Tensor, ...]) -> None:
    log_probs, features = predict_batches(calibrated, val[0])
    assert (log_probs.shape, features.shape) == ((180, 10), (180, 1290))
    for start in (0, BATCH):
        batch = slice(start, start + BATCH)
        expected = calibrated.log_probs_and_features(val[0][batch])
        assert torch.equal(log_probs[batch], expected[0])
        assert torch.equal(features[batch], expected[1])


@pytest.mark.parametrize("damage", ["shape", "missing", "foreign", "nan", "threshold", "negative"])
def test_a_damaged_calibration_is_refused_in_one_line(damage: str, trained: Path) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    settings = content[METADATA_KEY]["calibration"]
    match damage:
        case "shape":
            settings["state"]["temperature"] = torch.ones(3)
        case "missing":
            del settings["state"]["detector.0.weight"]
        case "foreign":
            settings["state"]["network.conv1.bias"] = torch.ones(32)
        case "nan":
            settings["state"]["temperature"] = torch.tensor(float("nan"))
        case "threshold":
            settings["threshold"] = 7.0
        case "negative":
            settings["threshold"] = -0.5
    save_checkpoint(content, Path("damaged.ckpt"))
    with pytest.raises(InputError, match="its calibration is damaged"):
        load_calibrated("damaged.ckpt")


def test_a_checkpoint_without_a_network_is_refused_in_one_line(trained: Path) -> None:
    damages: tuple[dict[str, object], ...] = ({"hyper_parameters": {}}, {"state_dict": {3: torch.ones(1)}})
    for damage in damages:
        content = load_checkpoint(trained / "checkpoints" / "best.ckpt") | damage
        save_checkpoint(content, Path("damaged.ckpt"))
        with pytest.raises(InputError, match=r"damaged\.ckpt is not a checkpoint of mnist-lit"):
            load_calibrated("damaged.ckpt")


@pytest.mark.parametrize("scale", [1e300, float("nan")])
def test_a_calibration_that_float32_cannot_hold_is_refused(scale: float) -> None:
    content = load_checkpoint(PRETRAINED_DIR / "model.ckpt")
    state = content[METADATA_KEY]["calibration"]["state"]
    state["offset"] = torch.tensor(scale, dtype=torch.float64)
    save_checkpoint(content, Path("damaged.ckpt"))
    with pytest.raises(InputError, match="its calibration is damaged"):
        load_calibrated("damaged.ckpt")


def test_outputs_that_are_not_numbers_are_an_error(calibrated: CalibratedNetwork, images: torch.Tensor) -> None:
    overflowing = copy.deepcopy(calibrated)
    for weights in overflowing.network.parameters():
        weights.fill_(3e38)
    with pytest.raises(InputError, match="its weights are damaged"):
        predict_batches(overflowing, images)


def test_a_calibration_like_another_copies_its_temperature_and_rejects_as_many(
    calibrated: CalibratedNetwork, digits_data: MNISTDataModule
) -> None:
    data = digits_data.in_memory
    assert data is not None
    like, val = copy.deepcopy(calibrated), digits_data.val_indices
    like.temperature.fill_(1.75)
    images = data.train_images[val]
    scores = like.detector(predict_batches(like, images)[1])[:, 0].detach()
    like.offset.copy_(scores.sort().values[149])  # it accepts 150 of 180
    found = calibrate(calibrated.network, data, digits_data.train_indices[:100], val, like=like)
    assert float(found.temperature) == 1.75
    accepted = int((found(images)[1] <= THRESHOLD).sum())
    assert accepted == 151  # the quantile lies between two images' scores, and is rounded up


@pytest.fixture
def asked(calibrated: CalibratedNetwork, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options with which `calibrate` is called; it returns the calibrated network of the run."""
    options: list[dict[str, Any]] = []

    def recorded(*args: Any, **given: Any) -> CalibratedNetwork:
        options.append(given)
        return calibrated

    monkeypatch.setattr(calibration, "calibrate", recorded)
    return options


def test_a_calibrated_checkpoint_is_stripped_unless_it_replaces_the_old_one(
    trained: Path, asked: list[dict[str, Any]], digits_data: MNISTDataModule
) -> None:
    data = (digits_data.in_memory, digits_data.train_indices, digits_data.val_indices)
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    expected = content[METADATA_KEY].pop("calibration")
    save_checkpoint(content, Path("last.ckpt"))
    calibrate_checkpoint(Path("last.ckpt"), Path("other.ckpt"), *data)
    calibrate_checkpoint(Path("last.ckpt"), Path("last.ckpt"), *data)
    assert not Path("previous.ckpt").exists()  # or there would be no last.ckpt for a moment
    same, other = load_checkpoint("last.ckpt"), load_checkpoint("other.ckpt")
    assert same.keys() == content.keys()
    assert "optimizer_states" not in other
    for written in (same, other):
        entry = written[METADATA_KEY]["calibration"]
        assert (entry["threshold"], entry["coverage"]) == (0.5, 0.999)
        assert entry["state"].keys() == expected["state"].keys()
        assert all(torch.equal(value, expected["state"][name]) for name, value in entry["state"].items())


@pytest.mark.parametrize(
    ("settings", "classes", "are_digits", "styles"),
    [
        ({}, "0123456789", True, HandwritingStyles()),
        ({"continental": 0.25, "handwriting": 0.5}, "0123456789", True, HandwritingStyles(0.25, 0.5)),
        ({"dataset": "folder"}, "0123456789", False, HandwritingStyles()),
        ({}, "abcdefghij", False, HandwritingStyles()),
    ],
)
def test_a_checkpoint_is_calibrated_for_the_images_it_was_trained_on(
    settings: dict[str, Any], classes: str, are_digits: bool, styles: HandwritingStyles, trained: Path,
    asked: list[dict[str, Any]], digits_data: MNISTDataModule,
) -> None:  # fmt: skip
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    config = yaml.safe_load(content[METADATA_KEY]["config"])
    content[METADATA_KEY]["config"] = yaml.safe_dump({**config, "data": settings})
    save_checkpoint(content, Path("a.ckpt"))
    data = dataclasses.replace(digits_data.in_memory, classes=tuple(classes))
    calibrate_checkpoint(Path("a.ckpt"), Path("a.ckpt"), data, digits_data.train_indices, digits_data.val_indices)
    assert asked == [{"styles": styles, "are_digits": are_digits, "like": None}]
