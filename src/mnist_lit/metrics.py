"""The LightningModule: loss, metrics, optimizer, weight averaging. Opens no file but the one it starts from.

One function scores every split; sums are divided by counts of images, never means averaged over batches.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

__all__ = ["MeanNLL"]


class MeanNLL(Metric):
    """Mean negative log-likelihood of the labels, over images: log_probs (B, C) and labels (B,) → a scalar, in nats."""

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        """Count another batch in."""
        self.total += F.nll_loss(log_probs.float(), labels, reduction="sum")
        self.count += len(labels)

    def compute(self) -> Tensor:
        """The mean over all images so far, over all processes."""
        return self.total / self.count
