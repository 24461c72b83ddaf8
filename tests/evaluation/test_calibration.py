"""Probabilities that mean what they say, and most of what is no digit is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import COVERAGE, THRESHOLD, CalibratedNetwork, calibrate, load_calibrated
from mnist_lit.runs.checkpoint import METADATA_KEY, load_checkpoint, save_checkpoint
from mnist_lit.runs.folders import FINISHED_MARK, LAST_CKPT

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def calibrated(trained: Path) -> CalibratedNetwork:
    return load_calibrated(trained / "checkpoints" / "best.ckpt")[0]


@pytest.fixture(scope="module")
def val(digits_data: MNISTDataModule) -> tuple[torch.Tensor, torch.Tensor]:
    assert digits_data.digits is not None
    chosen = digits_data.val_indices
    return digits_data.digits.train_images[chosen], digits_data.digits.train_labels[chosen]


def test_fit_calibrates_what_it_saves(trained: Path) -> None:
    _, labels, threshold, _ = load_calibrated(trained / "checkpoints" / "best.ckpt")
    assert labels == tuple("0123456789")
    assert threshold == THRESHOLD
    assert load_calibrated(trained / "checkpoints" / LAST_CKPT)[2] == 1  # it is not what is read with


def test_the_temperature_is_the_best_of_a_grid(calibrated: CalibratedNetwork, val: tuple[torch.Tensor, ...]) -> None:
    images, labels = val
    log_probs, _ = calibrated.look(images)

    def nll(temperature: float) -> float:
        return float(F.cross_entropy(log_probs / temperature, labels))

    grid = [2 ** (step / 8) for step in range(-16, 17)]
    best = float(calibrated.temperature)
    assert nll(best) <= min(map(nll, grid)) + 1e-6
    assert nll(best) < nll(1.0)
    assert torch.allclose(calibrated(images)[0], F.softmax(log_probs / best, dim=1))


def test_the_threshold_covers_what_it_says(calibrated: CalibratedNetwork, val: tuple[torch.Tensor, ...]) -> None:
    outliers = calibrated(val[0])[1]
    accepted = int((outliers <= THRESHOLD).sum())
    assert accepted >= COVERAGE * len(outliers)
    assert accepted == len(outliers)  # of 180 images one in a thousand is none


def test_noise_and_blank_paper_are_refused(calibrated: CalibratedNetwork) -> None:
    noise = torch.randint(0, 256, (50, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert (calibrated(noise)[1] > THRESHOLD).all()
    assert (calibrated(torch.zeros(1, 28, 28, dtype=torch.uint8))[1] > THRESHOLD).all()


def test_the_same_arguments_give_the_same_bits(calibrated: CalibratedNetwork, digits_data: MNISTDataModule) -> None:
    assert digits_data.digits is not None
    arguments = (calibrated.network, digits_data.digits, digits_data.train_indices[:300], digits_data.val_indices)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = calibrate(*arguments)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    other = calibrate(*arguments)
    fewer = calibrate(*arguments[:2], digits_data.train_indices[:200], digits_data.val_indices)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert not torch.equal(one.offset, fewer.offset)


def test_a_run_on_all_images_takes_temperature_and_coverage_of_another(
    cli: Cli, trained: Path, digits_data: MNISTDataModule
) -> None:
    fit = ("--data.dataset", "digits", "--data.val_size", "0", "--trainer.max_epochs", "1")
    assert cli("fit", *fit)[0] == 0
    code, _, err = cli("calibrate")
    assert code == 2
    assert "trained on all images" in err
    code, out, err = cli("calibrate", "--like", str(trained), "--output", "slim.ckpt")
    assert (code, err) == (0, "")
    settings = load_checkpoint(trained / "checkpoints" / "best.ckpt")[METADATA_KEY]["calibration"]
    slim = load_checkpoint("slim.ckpt")
    assert f"temperature {float(settings['state']['temperature']):.3f}" in out
    mine = slim[METADATA_KEY]["calibration"]["state"]
    assert torch.equal(mine["temperature"], settings["state"]["temperature"])
    assert not torch.equal(mine["offset"], settings["state"]["offset"])  # it is of another detector
    assert digits_data.digits is not None
    seen = digits_data.digits.train_images[digits_data.train_indices]
    rejected = [
        int((load_calibrated(path)[0](seen)[1] > THRESHOLD).sum())
        for path in (trained / "checkpoints" / "best.ckpt", "slim.ckpt")
    ]
    assert abs(rejected[0] - rejected[1]) <= 1
    assert "optimizer_states" not in slim
    assert cli("test", "--ckpt_path", "slim.ckpt", "--data.dataset", "digits")[0] == 0


def test_a_killed_calibration_is_made_up_for_by_resuming(cli: Cli) -> None:
    fit = ("fit", "--data.dataset", "digits", "--data.val_size", "180", "--trainer.max_epochs", "1", "--resume", "auto")
    assert cli(*fit)[0] == 0
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    content = load_checkpoint(best)
    wanted = content[METADATA_KEY].pop("calibration")["state"]["offset"]
    for finished in (True, False):  # killed after the mark that the training is over, and before it
        save_checkpoint(content, best)
        if not finished:
            best.parents[1].joinpath(FINISHED_MARK).unlink()
        code, out, _ = cli(*fit)
        assert code == 0
        assert "is finished" in out
        assert torch.equal(load_checkpoint(best)[METADATA_KEY]["calibration"]["state"]["offset"], wanted)


@pytest.mark.parametrize("damage", ["shape", "missing", "foreign", "nan", "threshold"])
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
    save_checkpoint(content, Path("damaged.ckpt"))
    with pytest.raises(InputError, match="its calibration is damaged"):
        load_calibrated("damaged.ckpt")


def test_a_checkpoint_without_a_network_is_refused_in_one_line(trained: Path) -> None:
    damages: tuple[dict[str, object], ...] = ({"hyper_parameters": {}}, {"state_dict": {3: torch.ones(1)}})
    for damage in damages:
        content = load_checkpoint(trained / "checkpoints" / "best.ckpt") | damage
        save_checkpoint(content, Path("damaged.ckpt"))
        with pytest.raises(InputError, match="do not fit the network"):
            load_calibrated("damaged.ckpt")


def test_the_model_that_ships_is_not_written_over(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("calibrate", "--model", "pretrained")
    assert (code, err) == (2, "mnist-lit: the model that ships stays as it is; expected --output\n")
