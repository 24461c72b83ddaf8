"""Schedules against torch's, Muon against an SVD and torch's AdamW, SAM against a first-order estimate."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.module import MNISTModule
from mnist_lit.optim import (
    Muon,
    OptimizerName,
    ScheduleName,
    lr_factor,
    orthogonalize,
    perturbed_weights,
)


def factors(name: ScheduleName, steps: int = 60, warmup: float = 0.0) -> list[float]:
    return [
        lr_factor(name, step, total_steps=steps, steps_per_epoch=2, warmup=warmup, step_size=5, gamma=0.1)
        for step in range(steps)
    ]


def test_step_matches_torchs_step_lr() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.1)
    for epoch in range(30):
        assert factors("step")[2 * epoch : 2 * epoch + 2] == pytest.approx([theirs.get_last_lr()[0]] * 2)
        optimizer.step()
        theirs.step()


def test_cosine_matches_torchs_cosine_annealing() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    for factor in factors("cosine"):
        assert factor == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_linear_falls_linearly_and_constant_stays() -> None:
    assert factors("linear") == pytest.approx([1 - step / 60 for step in range(60)])
    assert set(factors("constant")) == {1.0}


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_warmup_rises_linearly_to_the_peak_and_never_above(name: ScheduleName) -> None:
    warm = factors(name, warmup=0.2)
    assert warm[:13] == pytest.approx([(step + 1) / 13 for step in range(13)])
    assert max(warm) == 1.0 == warm[12]
    assert min(warm) > 0


def test_a_constant_rate_needs_no_end() -> None:
    assert lr_factor("constant", 10**9, total_steps=math.inf, steps_per_epoch=1) == 1.0


@pytest.mark.parametrize("shape", [(32, 9), (50, 4096), (256, 1152), (40, 40)])
def test_orthogonalize_keeps_singular_vectors_and_evens_out_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    ours = orthogonalize(matrix)
    values = u.T @ ours @ vt.T  # diagonal if the singular vectors are kept
    if shape != (40, 40):  # a square random matrix has singular values near 0, too small for five steps
        assert values.diag().min() > 0.6
    assert values.diag().max() < 1.3
    assert (values - values.diag().diag()).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(32, 9), (64, 288), (50, 4096), (300, 7)])
def test_orthogonalize_matches_the_iteration_written_out(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -4, shape[1])  # columns of very different size
    x = (matrix / matrix.norm()).double()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(orthogonalize(matrix).double(), x, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(orthogonalize(matrix, steps=4).double(), x, rtol=1e-3, atol=1e-5)


def test_muon_orthogonalizes_hidden_weights_and_leaves_the_rest_to_adamw() -> None:
    module = MNISTModule(optimizer="muon")
    muon = module.configure_optimizers()
    names = {parameter: name for name, parameter in module.network.named_parameters()}
    matrices, rest = ([names[p] for p in group["params"]] for group in muon.param_groups)
    assert matrices == [f"{layer}.weight" for layer in ("conv1", "conv2", "conv3", "conv4", "fc1")]
    assert sorted(matrices + rest) == sorted(names.values())


def test_muons_first_step_is_the_orthogonalized_gradient() -> None:
    torch.manual_seed(0)
    weight, before = nn.Parameter(torch.randn(8, 3, 3, 3)), torch.zeros(8, 3, 3, 3)
    before.copy_(weight.detach())
    gradient = torch.randn(8, 3, 3, 3)
    weight.grad = gradient.clone()
    Muon([weight], [], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    u, _, vt = torch.linalg.svd(gradient.view(8, 27), full_matrices=False)
    moved = (before * (1 - 0.1 * 0.5) - weight.detach()).view(8, 27) / 0.1
    overlap = (moved * (u @ vt)).sum() / (moved.norm() * (u @ vt).norm())
    assert overlap > 0.98


def test_muons_other_parameters_follow_torchs_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.arange(5.0)) for _ in range(2))
    muon = Muon([], [ours], aux_lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    assert ours.equal(theirs)
    assert not ours.equal(torch.arange(5.0))


@pytest.mark.parametrize(("name", "lr"), [("sgd", 0.1), ("adamw", 0.001), ("muon", 0.02)])
def test_each_optimizer_lowers_the_loss(name: OptimizerName, lr: float, images: torch.Tensor) -> None:
    module, labels = MNISTModule(optimizer=name, lr=lr), torch.arange(16) % 10
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(11):
        loss = F.nll_loss(module.network(standardize(images)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] * 0.95


def test_perturbed_weights_raise_the_loss_and_are_restored_bit_for_bit() -> None:
    torch.manual_seed(0)
    network = TutorialCNN().double()
    images, labels = standardize(torch.randint(256, (20, 28, 28), dtype=torch.uint8)).double(), torch.arange(20) % 10
    before = copy.deepcopy(network.state_dict())
    loss = F.nll_loss(network(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient_norm = torch.nn.utils.get_total_norm(p.grad for p in network.parameters() if p.grad is not None)
    with perturbed_weights(network, 1e-5):
        higher = F.nll_loss(network(images), labels).detach()
    assert float(higher - loss.detach()) == pytest.approx(1e-5 * float(gradient_norm), rel=1e-3)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
