"""The network computes what the layers of the tutorial compute, written out by hand."""

import pytest
import torch

from mnist_lit.model import MEAN, STD, TutorialCNN, standardize


def test_the_forward_pass_matches_the_layers_written_out() -> None:
    network, x = TutorialCNN(), torch.randn(3, 1, 28, 28)
    f = torch.nn.functional
    w = dict(network.named_parameters())
    y = f.conv2d(x, w["conv1.weight"], w["conv1.bias"]).clamp(min=0)
    y = f.max_pool2d(f.conv2d(y, w["conv2.weight"], w["conv2.bias"]).clamp(min=0), 2)
    y = f.conv2d(y, w["conv3.weight"], w["conv3.bias"]).clamp(min=0)
    y = f.max_pool2d(f.conv2d(y, w["conv4.weight"], w["conv4.bias"]).clamp(min=0), 2)
    y = (y.reshape(3, 4096) @ w["fc1.weight"].T + w["fc1.bias"]).clamp(min=0)
    y = y @ w["fc2.weight"].T + w["fc2.bias"]
    torch.testing.assert_close(network(x), y - y.logsumexp(dim=1, keepdim=True))


def test_probabilities_sum_to_one() -> None:
    log_probs = TutorialCNN()(torch.randn(5, 1, 28, 28))
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(5))


def test_the_mask_multiplies_the_4096_features() -> None:
    network, x = TutorialCNN(), torch.randn(2, 1, 28, 28)
    unmasked = network(x)
    network.dropout.mask = torch.ones(2, 4096)
    assert network(x).equal(unmasked)
    network.dropout.mask = torch.zeros(2, 4096)
    silenced = network(x)
    torch.testing.assert_close(silenced[0], silenced[1])  # a row's rounding depends on its place in the batch
    assert not unmasked[0].allclose(unmasked[1])
    half = (torch.arange(4096) % 2 * 2.0).expand(2, 4096)  # drops every other feature, doubles the rest
    network.dropout.mask = half
    masked = network(x)
    assert masked.equal(network.classify(network.features(x)))  # the mask stays until the caller removes it
    network.dropout.mask = None
    assert network(x).equal(unmasked)
    dropped = (network.features(x).flatten(1) * half) @ network.fc1.weight.T + network.fc1.bias
    logits = dropped.clamp(min=0) @ network.fc2.weight.T + network.fc2.bias
    torch.testing.assert_close(masked, logits - logits.logsumexp(dim=1, keepdim=True))


def test_evaluation_ignores_the_mask() -> None:
    network, x = TutorialCNN().eval(), torch.randn(2, 1, 28, 28)
    unmasked = network(x)
    network.dropout.mask = torch.zeros(3, 4096)  # of a batch of another size
    assert network(x).equal(unmasked)
    network.dropout.mask = torch.zeros(2, 4096)
    assert not network.train()(x).equal(unmasked)  # the control


def test_the_mask_is_not_saved() -> None:
    network = TutorialCNN()
    network.dropout.mask = torch.zeros(2, 4096)
    assert not [name for name in network.state_dict() if name.startswith("dropout")]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_gives_equal_outputs() -> None:
    network, x = TutorialCNN(), torch.randn(3, 1, 28, 28)
    scripted = torch.jit.script(network)
    assert scripted(x).equal(network(x))
    assert not scripted(x).equal(TutorialCNN()(x))


def test_torch_export_gives_equal_outputs_for_any_batch_size() -> None:
    network, x = TutorialCNN().eval(), torch.randn(3, 1, 28, 28)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    assert exported(x).equal(network(x))
    assert exported(x[:2]).equal(network(x[:2]))
    assert not exported(x).equal(TutorialCNN()(x))


def test_paper_and_ink_are_standardized_with_mnists_mean_and_std() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1).expand(2, 28, 28)
    standardized = standardize(pixels)
    assert standardized.shape == (2, 1, 28, 28)
    torch.testing.assert_close(standardized[:, 0, 0, 0], torch.tensor([-MEAN / STD, (1 - MEAN) / STD]))


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(1, 28, 28), torch.zeros(28, 28, dtype=torch.uint8), torch.zeros(1, 27, 28, dtype=torch.uint8)],
    ids=["float", "no batch", "27 rows"],
)
def test_standardize_refuses_other_shapes_and_dtypes(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(B, 28, 28\)"):
        standardize(pixels)


def test_an_empty_batch_gives_zero_gradients() -> None:
    network = TutorialCNN()
    network(torch.zeros(0, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.parameters())
