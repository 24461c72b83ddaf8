"""Schedules against torch's, Muon against an SVD and torch's AdamW, SAM against a first-order estimate."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.module import MNISTModule
from mnist_lit.optim import (
    Muon,
    OptimizerName,
    Schedule,
    ScheduleName,
    build_optimizer,
    ema_copy,
    ema_weight,
    lr_factor,
    orthogonalize,
    perturbed_weights,
    update_ema,
)


def factors(name: ScheduleName, steps: int = 60, warmup: float = 0.0) -> list[float]:
    h = {"schedule": name, "warmup": warmup, "step_size": 5, "gamma": 0.1}
    return [lr_factor(h, step, total_steps=steps, steps_per_epoch=2) for step in range(steps)]


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
    h = {"schedule": "constant", "warmup": 0.0}
    assert lr_factor(h, 10**9, total_steps=math.inf, steps_per_epoch=1) == 1.0


@pytest.mark.parametrize(
    "h",
    [
        {"schedule": "linear", "warmup": 0.0},
        {"schedule": "cosine", "warmup": 0.0},
        {"schedule": "cosine", "warmup": 0.1},
    ],
    ids=str,
)
def test_a_rate_that_depends_on_the_end_needs_one(h: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"model\.schedule: \w+ needs an end; set trainer\.max_epochs or"):
        lr_factor(h, 0, total_steps=math.inf, steps_per_epoch=1)


@pytest.mark.parametrize("name", ["constant", "step"])
def test_a_warmup_needs_an_end(name: ScheduleName) -> None:
    h = {"schedule": name, "warmup": 0.1, "step_size": 1, "gamma": 0.5}
    with pytest.raises(InputError, match=r"^model\.warmup: needs an end; set trainer\.max_epochs or"):
        lr_factor(h, 0, total_steps=math.inf, steps_per_epoch=1)


@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_rate_is_zero_from_the_end_on_and_never_before(name: ScheduleName, warmup: float) -> None:
    h = {"schedule": name, "warmup": warmup}
    assert [lr_factor(h, step, 10, 5) for step in (10, 11, 1000)] == [0.0] * 3
    assert min(lr_factor(h, step, 10, 5) for step in range(10)) > 0


RESUMED = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 0.01}
MUON = {"optimizer": "muon", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "aux_lr": 0.004}


def started(h: Mapping[str, Any], step: int, *states: Any, end: int = 10) -> tuple[Optimizer, Schedule]:
    """An optimizer and its linear schedule at a step, after loading their states if there are any."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = build_optimizer(network, h)
    schedule = Schedule(optimizer)
    if states:
        optimizer.load_state_dict(copy.deepcopy(states[0]))
        schedule.load_state_dict(copy.deepcopy(states[1]))
    schedule.start(step, build_optimizer(network, h).param_groups, {"schedule": "linear", "warmup": 0.0}, end, end)
    return optimizer, schedule


def rates(optimizer: Optimizer, schedule: Schedule, steps: int) -> list[list[float]]:
    """The learning rate of each group at so many steps."""
    used = []
    for _ in range(steps):
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return used


@pytest.mark.parametrize(("h", "peaks"), [(RESUMED, [0.05]), (MUON, [0.05, 0.004])], ids=["sgd", "muon"])
def test_the_schedule_multiplies_every_groups_rate(h: dict[str, Any], peaks: list[float]) -> None:
    optimizer, schedule = started(h, 0)
    expected = [pytest.approx([peak * (1 - step / 10) for peak in peaks]) for step in range(10)]
    assert rates(optimizer, schedule, 10) == expected
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0] * len(peaks))


@pytest.mark.parametrize("h", [RESUMED, MUON], ids=["sgd", "muon"])
def test_a_resumed_schedule_continues_where_it_was(h: dict[str, Any]) -> None:
    whole = rates(*started(h, 0), 10)
    optimizer, schedule = started(h, 0)
    assert rates(optimizer, schedule, 4) == whole[:4]
    resumed = started(h, 4, optimizer.state_dict(), schedule.state_dict())
    assert rates(*resumed, 6) == whole[4:]
    assert rates(*started(h, 0), 6) != whole[4:]  # the control


def test_the_options_of_a_resumed_schedule_are_the_new_ones() -> None:
    optimizer, schedule = started(RESUMED, 0)
    rates(optimizer, schedule, 4)
    changed = {**RESUMED, "lr": 0.01, "momentum": 0.5, "nesterov": True, "weight_decay": 0.0}
    resumed, again = started(changed, 4, optimizer.state_dict(), schedule.state_dict(), end=20)
    group = resumed.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0.0)
    assert rates(resumed, again, 3) == [pytest.approx([0.01 * (1 - step / 20)]) for step in (4, 5, 6)]


def test_a_saved_schedule_contains_no_factor() -> None:
    schedule = Schedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    before = schedule.state_dict()
    schedule.start(3, [{"lr": 0.5}], {"schedule": "linear", "warmup": 0.0}, 10, 5)
    changed = {"base_lrs": [0.5], "last_epoch": 3, "_last_lr": [0.35], "lr_lambdas": [{}]}
    assert schedule.state_dict() == {**before, **changed}


def test_torchs_own_schedule_would_resume_with_the_old_options() -> None:
    optimizer, schedule = started(RESUMED, 0)
    rates(optimizer, schedule, 4)
    other = build_optimizer(nn.Linear(3, 2), {**RESUMED, "lr": 0.01})
    theirs = torch.optim.lr_scheduler.LambdaLR(other, lambda step: 1 - step / 10)
    theirs.load_state_dict(schedule.state_dict())
    other.step()
    theirs.step()
    assert other.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5)


class Normalized(nn.Module):
    """A network with buffers: running statistics, which are averages, and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


def test_the_ema_averages_parameters_and_copies_buffers() -> None:
    network = Normalized()
    average = ema_copy(network)
    assert not any(p.requires_grad for p in average.parameters())
    network(torch.randn(8, 2) + 3)
    with torch.no_grad():
        network.norm.weight.fill_(5.0)
    assert ema_weight(decay=0.75, step=0) == 0.9  # at first the average forgets faster
    update_ema(average, network, ema_weight(decay=0.75, step=90))
    weights, newest = average.state_dict(), network.state_dict()
    torch.testing.assert_close(weights["norm.weight"], torch.full((2,), 0.75 * 1 + 0.25 * 5))
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert weights[name].equal(newest[name])
        assert weights[name].data_ptr() != newest[name].data_ptr()
    assert newest["norm.running_mean"].min() > 0.1  # the control: they have moved
    assert int(weights["norm.num_batches_tracked"]) == 1


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 288), (300, 7)])
def test_orthogonalize_is_as_stable_in_16_bits(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    matrix = (torch.randn(shape[0], 2) @ torch.randn(2, shape[1])).to(dtype)  # of rank 2, as gradients nearly are
    ours = orthogonalize(matrix)
    assert ours.dtype == dtype
    assert ours.equal(orthogonalize(matrix.float()).to(dtype))
    assert torch.linalg.matrix_norm(ours.float(), 2) < 1.3


def test_muon_orthogonalizes_hidden_weights_and_leaves_the_rest_to_adamw() -> None:
    module = MNISTModule(optimizer="muon")
    muon = module.configure_optimizers()["optimizer"]
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
    optimizer = module.configure_optimizers()["optimizer"]
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


def test_perturbed_weights_do_not_count_in_batch_normalization() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    network.register_buffer("constant", torch.ones(1).expand(4))  # cannot be written to
    network.register_buffer("reassigned", torch.zeros(1))
    inputs = torch.eye(3)
    network(inputs).square().sum().backward()
    before = copy.deepcopy(network.state_dict())
    with perturbed_weights(network, 0.1):
        network(inputs)
        network.reassigned = torch.ones(1)
        assert not network.state_dict()["1.running_mean"].equal(before["1.running_mean"])
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_parameters_that_are_added_to_muon_are_trained_with_adamw() -> None:
    late, weight = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    muon = Muon([weight], [])
    muon.add_param_group({"params": [nn.Parameter(torch.ones(1))]})  # with the rate of the biases
    assert muon.param_groups[-1]["lr"] == 0.002
    muon.add_param_group({"params": [late], "lr": 0.1})  # as Lightning's BaseFinetuning does
    late.grad = torch.ones(3, 3)
    muon.step()
    assert late.detach().allclose(torch.full((3, 3), 0.9), atol=1e-4)  # AdamW's first step has the size of the rate
