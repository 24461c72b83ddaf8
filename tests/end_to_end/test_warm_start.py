"""Runs that start from a trained model's weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import LOGS, newest_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.sharing import strip_for_sharing
from mnist_lit.runs.weights import network_of, warm_start

Cli = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.mark.slow
def test_a_fit_starts_from_a_trained_model_and_a_resumed_fit_from_its_own_checkpoint(cli: Cli) -> None:
    shipped = network_of(load_checkpoint(PRETRAINED_DIR / "model.ckpt")).state_dict()
    ten, three = MNISTModule(ema_decay=0.9), MNISTModule(num_classes=3)
    assert ten.ema
    before = three.network.get_parameter("fc2.weight").clone()
    for module in (ten, three):
        assert not torch.equal(module.network.get_parameter("conv1.weight"), shipped["conv1.weight"])
        warm_start([module.network, *([module.ema] if module.ema else [])], "pretrained")
        assert torch.equal(module.network.get_parameter("conv1.weight"), shipped["conv1.weight"])
    assert torch.equal(ten.network.get_parameter("fc2.weight"), shipped["fc2.weight"])
    assert torch.equal(ten.ema.get_parameter("fc1.weight"), shipped["fc1.weight"])
    assert torch.equal(three.network.get_parameter("fc2.weight"), before)
    Path("start.ckpt").write_bytes((PRETRAINED_DIR / "model.ckpt").read_bytes())
    start = ("--model.init_from", "start.ckpt", "--model.lr", "1e-9", "--model.ema_decay", "0")
    fit = ("fit", "--config", "quickstart", *start)
    assert cli(*fit, "--trainer.max_epochs", "1")[0] == 0
    best = newest_checkpoint(Path(LOGS))
    trained = network_of(load_checkpoint(best)).state_dict()["conv1.weight"]
    assert torch.allclose(trained, shipped["conv1.weight"], atol=1e-5)
    Path("start.ckpt").unlink()  # needed neither to test nor to resume
    assert cli("test")[0] == 0
    assert cli(*fit, "--trainer.max_epochs", "2", "--ckpt_path", str(best.with_name("last.ckpt")))[0] == 0
    code, _, err = cli(*fit, "--trainer.max_epochs", "1")
    assert (code, "no model at start.ckpt" in err) == (2, True)
    assert not Path("lightning_logs/version_2").exists()


def test_the_start_model_is_in_the_configuration_and_its_path_is_not_shared(cli: Cli) -> None:
    fit = ("fit", "--config", "quickstart", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    latest = ("--model.init_from", "latest")
    assert cli(*fit)[0] == 0
    assert cli(*fit, *latest)[0] == 0
    content = load_checkpoint("lightning_logs/version_1/checkpoints/best.ckpt")
    assert "init_from: lightning_logs/version_0/checkpoints/best.ckpt" in content[METADATA_KEY]["config"]
    slim = strip_for_sharing(content)
    assert "init_from: best.ckpt" in slim[METADATA_KEY]["config"]
    content["hyper_parameters"]["init_from"] = "/some/where/a.ckpt"
    assert strip_for_sharing(content)["hyper_parameters"]["init_from"] == "a.ckpt"
    code, _, err = cli(*fit, *latest, "--resume", "auto")
    assert (code, "`latest` may name a different run next time" in err) == (2, True)
