"""Networks of your own: what they may return, how they are checked, trained, saved and loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN
from mnist_lit.module import MNISTModule
from mnist_lit.own_network import class_name, initialized, is_tutorial, log_probabilities
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.weights import network_of
from plain import digits, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*Skipping val loop", "ignore:.*does not have many workers")


class Constant(nn.Module):
    """A network that returns the same value for every batch."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> object:
        return self.output


def test_other_networks_may_return_logits_or_log_probabilities() -> None:
    x, logits = torch.zeros(4, 1, 28, 28), 5 * torch.randn(4, 3)
    expected = logits - logits.logsumexp(dim=1, keepdim=True)
    assert not torch.allclose(logits, expected)
    for output in (logits, expected):
        torch.testing.assert_close(log_probabilities(Constant(output), x, 3), expected)


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(4, 11), r"\(4, 11\)"),
        (torch.zeros(3, 10), r"\(3, 10\)"),
        (torch.zeros(4, 10, 1), r"\(4, 10, 1\)"),
        ((torch.zeros(4, 10),), "tuple"),
    ],
    ids=["another number of classes", "another number of images", "three dimensions", "a tuple"],
)
def test_outputs_of_another_shape_are_refused_in_one_line(output: object, got: str) -> None:
    expected = r"^model\.network: expected outputs \(4, 10\) for 4 images, got "
    with pytest.raises(InputError, match=f"{expected}{got}$"):
        log_probabilities(Constant(output), torch.zeros(4, 1, 28, 28), 10)


class Classic(nn.Module):
    """PyTorch's own MNIST example in short: it flattens with `view`, which some memory layouts do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 5)
        self.fc = nn.Linear(1440, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(F.max_pool2d(self.conv(x), 2)).view(-1, 1440))  # type: ignore[no-any-return]


class Wider(TutorialCNN):
    """A subclass of the tutorial's network with a dropout layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.extra(super().forward(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("network", [Classic(), Wider()], ids=["view", "subclass"])
def test_a_network_of_ones_own_trains_saves_and_loads(network: nn.Module) -> None:
    plain = trainer(limit_train_batches=2)
    plain.fit(MNISTModule(network=network, lr=0.01), digits())
    plain.save_checkpoint("own.ckpt")
    content = load_checkpoint("own.ckpt")
    assert content["hyper_parameters"]["network"] == class_name(network)
    with pytest.raises(InputError, match="add --model"):
        network_of(content)
    again = network_of(content, type(network)())
    assert all(value.equal(network.state_dict()[name]) for name, value in again.state_dict().items())


def test_an_instance_of_the_tutorials_network_is_not_a_network_of_ones_own() -> None:
    module = MNISTModule(network=TutorialCNN(), dropout=0.1)
    assert is_tutorial(module.network)
    assert module.hparams["network"] is None
    assert not is_tutorial(Wider())


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(1)), "got probabilities; leave out the softmax"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 7)), "got \\(2, 7\\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(700, 10)), "failed on images"),
        (TutorialCNN(5), "got \\(2, 5\\)"),
    ],
    ids=["softmax", "classes", "inputs", "the tutorial's"],
)
def test_a_network_that_does_not_fit_is_refused_before_training(network: nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=f"^model\\.network: .*{reason}"):
        MNISTModule(network=network)


def test_a_network_without_trainable_parameters_is_refused() -> None:
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False)
    with pytest.raises(InputError, match=r"^model\.network: expected trainable parameters, got none$"):
        trainer().fit(MNISTModule(network=frozen), digits())


def test_an_unknown_initialization_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.init: expected default or he, got kaiming"):
        MNISTModule(init="kaiming")  # type: ignore[arg-type]


def test_checking_a_network_leaves_its_modes_and_torchs_generator_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
    network[1].eval()
    before = torch.get_rng_state()
    initialized(network, 10, "default", 0)
    assert [layer.training for layer in network] == [True, False, True]
    assert torch.get_rng_state().equal(before)


def test_the_classes_of_module_and_data_must_agree() -> None:
    with pytest.raises(InputError, match=r"model\.num_classes: expected 2, the number of classes in the data, got 10"):
        trainer().fit(MNISTModule(), digits(classes="3,7", val_size=20))


def test_batch_normalization_refuses_a_step_of_one_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    data = MNISTDataModule(dataset="digits", val_size=181, batch_size=5)  # 1,256 images: 251 steps of 5, and one of 1
    for runs_it in ({}, {"limit_train_batches": 252}, {"max_steps": 252}):
        with pytest.raises(InputError, match=r"data\.batch_size: expected .* for batch normalization, got 5"):
            trainer(**runs_it).fit(MNISTModule(network=network), data)
    for does_not in ({"limit_train_batches": 2}, {"max_steps": 2}, {"max_steps": 2, "accumulate_grad_batches": 2}):
        trainer(**does_not).fit(MNISTModule(network=network), data)


def test_a_loader_that_shuffles_keeps_its_own_random_numbers() -> None:
    orders: list[list[list[int]]] = []
    for seed in (1, 2):
        seen: list[int] = []
        dataset = TensorDataset(torch.randn(8, 1, 28, 28), torch.arange(8))
        module = MNISTModule(network=nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)))
        step = module.training_step

        def recording_step(batch: Any, batch_idx: int, seen: list[int] = seen, step: Any = step) -> Tensor:
            seen.extend(batch[1].tolist())
            return step(batch, batch_idx)  # type: ignore[no-any-return]

        module.training_step = recording_step  # type: ignore[method-assign]
        torch.manual_seed(seed)
        trainer(max_epochs=3).fit(module, DataLoader(dataset, batch_size=4, shuffle=True))
        orders.append([seen[epoch * 8 : epoch * 8 + 8] for epoch in range(3)])
    assert all(orders[0][epoch] != orders[1][epoch] for epoch in range(3))


def test_a_trained_module_is_not_reset_to_the_weights_it_started_from() -> None:
    module, plain = MNISTModule(init_from="pretrained", lr=0.01), trainer(limit_train_batches=1)
    plain.fit(module, digits())
    before = module.network.state_dict()["fc1.weight"].clone()
    trainer(limit_train_batches=0).fit(module, digits())
    assert module.network.state_dict()["fc1.weight"].equal(before)


def test_numbers_and_paths_of_python_can_be_saved() -> None:
    module = MNISTModule(lr=np.float64(0.01), init_from=Path("pretrained"))  # type: ignore[arg-type]
    data = MNISTDataModule(Path("data"), "digits", batch_size=np.int64(64), val_size=180)  # type: ignore[arg-type]
    plain = trainer(limit_train_batches=1)
    plain.fit(module, data)
    plain.save_checkpoint("mine.ckpt")
    saved = load_checkpoint("mine.ckpt")
    assert "lr: 0.01" in saved["mnist_lit"]["config"]
    assert saved["hyper_parameters"]["init_from"] == "pretrained"
    assert saved["datamodule_hyper_parameters"]["batch_size"] == 64
