"""The page's filters and activation maps are the network's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.evaluation.report.activations import first_filters, layer_activations
from mnist_lit.model import TutorialCNN, standardize


@pytest.fixture
def network(trained: Path) -> TutorialCNN:
    found = load_calibrated(trained / "checkpoints" / "best.ckpt").network.network
    assert isinstance(found, TutorialCNN)
    return found


def test_maps_are_the_outputs_of_the_convolutions(network: TutorialCNN, images: torch.Tensor) -> None:
    found = layer_activations(network, images[0])
    assert [layer.name for layer in found] == ["conv1", "conv2", "conv3", "conv4"]
    assert [layer.maps.shape for layer in found] == [(8, 26, 26), (8, 24, 24), (8, 10, 10), (8, 8, 8)]
    responses = network.conv1(standardize(images[:1])).relu()[0]
    strongest = int(responses.amax(dim=(1, 2)).argmax())
    assert found[0].channels[0] == strongest
    expected = (responses[strongest] / responses.max() * 255).detach().round().numpy()
    assert np.abs(found[0].maps[0] - expected).max() <= 1
    assert not any(layer._forward_hooks for layer in network.children())


def test_positive_weights_are_warm_and_negative_ones_cold(network: TutorialCNN) -> None:
    colors = first_filters(network)
    assert colors.shape == (32, 3, 3, 3)
    positive = network.conv1.weight.detach()[:, 0].numpy() > 0
    assert (colors[..., 0] >= colors[..., 2])[positive].all()
    assert (colors[..., 2] >= colors[..., 0])[~positive].all()


class Own(nn.Module):
    """A network of your own: convolutions in a container, a residual connection, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 9, 5), nn.ReLU(), nn.Conv2d(9, 9, 3, padding=1))
        self.unused = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(9, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.body[0](x)
        return self.head((first + self.body[2](first.relu())).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_of_your_own_shows_each_convolution_that_responds(images: torch.Tensor) -> None:
    network = Own()
    found = layer_activations(network, images[0])
    assert [(layer.name, layer.total) for layer in found] == [("body.0", 9), ("body.2", 9)]
    responses = network.body[0](standardize(images[:1])).relu()[0].detach()
    assert found[0].channels[0] == int(responses.amax(dim=(1, 2)).argmax())
    assert first_filters(network).shape == (9, 5, 5, 3)


def test_a_network_without_convolutions_has_neither_filters_nor_maps(images: torch.Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    assert layer_activations(network, images[0]) == []
    assert len(first_filters(network)) == 0
