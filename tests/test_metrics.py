"""The loss is a mean over images; the calibration error is torchmetrics'. test_module checks the other scores."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassCalibrationError

from mnist_lit.errors import InputError
from mnist_lit.metrics import (
    CalibrationError,
    MeanNLL,
    classification_metrics,
    merge_states,
    monitored_names,
    scalar_scores,
    smoothed_nll,
    states,
    update_metrics,
)


def test_the_mean_loss_weighs_images_and_not_batches() -> None:
    torch.manual_seed(0)
    log_probs, labels = torch.randn(7, 10).log_softmax(dim=1), torch.randint(0, 10, (7,))
    metric, batches = MeanNLL(), (slice(0, 6), slice(6, 7))
    for batch in batches:
        metric.update(log_probs[batch], labels[batch])
    torch.testing.assert_close(metric.compute(), F.nll_loss(log_probs, labels))
    mean_of_means = sum(float(F.nll_loss(log_probs[batch], labels[batch])) for batch in batches) / 2
    assert float(metric.compute()) != pytest.approx(mean_of_means, rel=0.01)


@pytest.mark.parametrize("mode", [0, 1])
def test_the_calibration_error_is_torchmetrics_in_deterministic_sums(
    mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities, labels = torch.rand(50, 10, generator=generator).softmax(dim=1), torch.arange(50) % 10
    modes: list[int] = []
    reference, compute = MulticlassCalibrationError(10), MulticlassCalibrationError.compute

    def watched(self: MulticlassCalibrationError) -> torch.Tensor:
        modes.append(torch.get_deterministic_debug_mode())
        return compute(self)

    monkeypatch.setattr(MulticlassCalibrationError, "compute", watched)
    metric = CalibrationError(10)
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(mode)
    try:
        assert metric(probabilities, labels).equal(reference(probabilities, labels))
        assert torch.get_deterministic_debug_mode() == mode
        assert modes == [2]
    finally:
        torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_objective_is_torchs_label_smoothing_summed_over_images(smoothing: float) -> None:
    log_probs = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    labels = torch.arange(7)
    expected = F.cross_entropy(log_probs, labels, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(smoothed_nll(log_probs, labels, smoothing), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_objective_of_half_precision_is_summed_in_single_precision(dtype: torch.dtype) -> None:
    log_probs = torch.randn(500, 10, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1).to(dtype)
    labels = torch.arange(500) % 10
    torch.testing.assert_close(smoothed_nll(log_probs, labels, 0.1), smoothed_nll(log_probs.float(), labels, 0.1))


def test_processes_with_and_without_images_gather_the_same_types() -> None:
    types = []
    for images in (0, 3):
        metrics = classification_metrics(10, "val/").to(torch.bfloat16)  # as Lightning converts a module
        log_probs = torch.zeros(images, 10, dtype=torch.bfloat16).log_softmax(dim=1)
        update_metrics(metrics, log_probs, torch.zeros(images, dtype=torch.int64))
        items: Any = metrics.items(keep_base=True)
        tensors = [value for _, one in items for value in one.metric_state.values() if isinstance(value, torch.Tensor)]
        types.append([*(value.dtype for value in tensors), *(metric.dtype for _, metric in items)])  # of empty lists
    assert types[0] == types[1]


def test_accuracy_counts_images_whatever_their_class() -> None:
    predicted, labels = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 0, 0, 1])
    metrics = classification_metrics(3, "val/")
    scores = metrics(torch.eye(3)[predicted], labels)
    assert {*scores} == {"val/loss", "val/acc", "val/class_acc", "val/ece", "val/confusion"}
    assert float(scores["val/acc"]) == pytest.approx(3 / 5)
    assert scores["val/class_acc"].tolist() == pytest.approx([3 / 4, 0, 0])
    assert scores["val/confusion"].tolist() == [[3, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert {*classification_metrics(3, "train/", details=False)} == {"train/loss", "train/acc"}
    assert {*scalar_scores(scores)} == {"val/loss", "val/acc", "val/ece", *(f"val/class_acc/{n}" for n in range(3))}


def test_callbacks_can_monitor_these_scores() -> None:
    train = ["train/acc", "train/loss", "train/loss_step"]
    assert monitored_names(2, has_validation=False) == train
    val = ["val/acc", "val/loss", "val/ece", "val/class_acc/0", "val/class_acc/1"]
    assert monitored_names(2, has_validation=True) == [*val, *train]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_saved_counts_are_divided_among_any_number_of_processes(world_size: int) -> None:
    saved = []
    for correct in range(4):
        metrics = classification_metrics(2, "", details=False)
        metrics.update(torch.eye(2)[[0] * 5].log(), torch.tensor([0] * correct + [1] * (5 - correct)))
        saved.append(states(metrics))
    shares = [classification_metrics(2, "", details=False) for _ in range(world_size)]
    assert all(merge_states(share, saved, rank, world_size) for rank, share in enumerate(shares))
    counts = [int(share["loss"].count) for share in shares]  # type: ignore[arg-type]
    assert counts == [5 * len(range(rank, 4, world_size)) for rank in range(world_size)]
    alone = classification_metrics(2, "", details=False)
    assert merge_states(alone, saved, 0, 1)
    alone.update(torch.eye(2)[[0] * 5].log(), torch.zeros(5, dtype=torch.long))
    assert float(alone.compute()["acc"]) == pytest.approx((0 + 1 + 2 + 3 + 5) / 25)
    empty = [states(classification_metrics(2, "", details=False))]
    assert not merge_states(alone, empty, 0, 1)


def test_damaged_counts_are_refused() -> None:
    saved = states(classification_metrics(2, "", details=False))
    name, counts = next(iter(saved.items()))
    counts[next(iter(counts))] = torch.zeros(0)
    with pytest.raises(InputError, match=f"the checkpoint's {name} is damaged"):
        merge_states(classification_metrics(2, "", details=False), [saved], 0, 1)


@pytest.mark.parametrize("saved", [[{}], [5], 5, [{"acc": 5, "loss": 5}]], ids=str)
def test_what_are_no_counts_is_refused(saved: Any) -> None:
    with pytest.raises(InputError, match="the checkpoint's counts for the training scores are damaged"):
        merge_states(classification_metrics(2, "", details=False), saved, 0, 1)


def test_saved_counts_are_moved_to_the_metrics_device() -> None:
    metrics = classification_metrics(2, "", details=False)
    saved = states(metrics)
    merge_states(metrics.to("meta"), [{**saved}], 0, 1)  # as on a GPU, whose states cannot be added to a CPU's
    merged: list[Any] = [value for metric in metrics.values() for value in metric.metric_state.values()]
    assert {value.device.type for value in merged} == {"meta"}
