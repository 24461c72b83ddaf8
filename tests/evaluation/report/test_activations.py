"""The page's filters and activation maps are the network's own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.evaluation.report.activations import first_filters, layer_activations
from mnist_lit.model import TutorialCNN, standardize


@pytest.fixture
def network(trained: Path) -> TutorialCNN:
    return load_calibrated(trained / "checkpoints" / "best.ckpt").network.network


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
