"""The loss is a mean over images; the calibration error is torchmetrics'. test_module checks the other scores."""

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassCalibrationError

from mnist_lit.metrics import CalibrationError, MeanNLL


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
