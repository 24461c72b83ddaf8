"""The loss is a mean over images. Accuracy, calibration error and confusion matrix are checked in test_module."""

import pytest
import torch
import torch.nn.functional as F

from mnist_lit.metrics import MeanNLL


def test_the_mean_loss_weighs_images_and_not_batches() -> None:
    torch.manual_seed(0)
    log_probs, labels = torch.randn(7, 10).log_softmax(dim=1), torch.randint(0, 10, (7,))
    metric, batches = MeanNLL(), (slice(0, 6), slice(6, 7))
    for batch in batches:
        metric.update(log_probs[batch], labels[batch])
    torch.testing.assert_close(metric.compute(), F.nll_loss(log_probs, labels))
    mean_of_means = sum(float(F.nll_loss(log_probs[batch], labels[batch])) for batch in batches) / 2
    assert float(metric.compute()) != pytest.approx(mean_of_means, rel=0.01)
