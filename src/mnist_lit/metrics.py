"""Loss and accuracy as torchmetrics: sums over images divided by their count, never means of batch means."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

from mnist_lit.errors import InputError

HALF_PRECISION = (torch.bfloat16, torch.float16)


def require_numbers(outputs: Tensor) -> None:
    """Raise InputError if a network's outputs, or a score computed from them, contain NaN."""
    if outputs.isnan().any():
        raise InputError("the network's outputs contain NaN: its weights are damaged")


class MeanNLL(Metric):
    """Mean negative log-likelihood over images: log_probs (B, C), labels (B,) → a scalar in nats."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        self.total += smoothed_nll(log_probs, labels, 0.0)
        self.count += len(labels)

    def compute(self) -> Tensor:
        """The mean over all images so far, over all processes."""
        return self.total / self.count


class CalibrationError(MulticlassCalibrationError):
    """torchmetrics' expected calibration error, bit-for-bit reproducible on a GPU, too."""

    def compute(self) -> Tensor:
        """The error of all images so far, over all processes. The bins add up in a fixed order."""
        mode = torch.get_deterministic_debug_mode()
        torch.set_deterministic_debug_mode("error")
        try:
            return super().compute()
        finally:
            torch.set_deterministic_debug_mode(mode)


def smoothed_nll(log_probs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The training objective, summed over images: NLL of labels that spread `smoothing` evenly over all classes."""
    log_probs = _summable(log_probs)
    nll = F.nll_loss(log_probs, labels, reduction="sum")
    return (1 - smoothing) * nll - smoothing * log_probs.mean(dim=1).sum() if smoothing else nll


def classification_metrics(num_classes: int, prefix: str, *, details: bool = True) -> MetricCollection:
    """`loss` and `acc`; with `details` also per-class accuracy, calibration error and confusion matrix."""
    accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    metrics: dict[str, Metric | MetricCollection] = {"loss": MeanNLL(), "acc": accuracy}
    if details:
        metrics |= {
            "class_acc": MulticlassAccuracy(num_classes, average=None, validate_args=False),
            "ece": CalibrationError(num_classes, validate_args=False),
            "confusion": MulticlassConfusionMatrix(num_classes, validate_args=False),
        }
    return MetricCollection(metrics, prefix=prefix)


def update_metrics(metrics: MetricCollection, log_probs: Tensor, labels: Tensor) -> None:
    """Count images by their log-probabilities (B, C) and labels (B,); a process's shard of a batch may be empty."""
    if log_probs.dtype in HALF_PRECISION:
        metrics.to(torch.float32)  # Lightning has converted them with the module; processes must agree on a type
    if len(labels):
        metrics.update(_summable(log_probs), labels)


def _summable(log_probs: Tensor) -> Tensor:
    """The same in single precision at least: half precision is too coarse for sums over images."""
    return log_probs.float() if log_probs.dtype in HALF_PRECISION else log_probs


def scalar_scores(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Computed metrics as scalars to log: each class's accuracy under its own name, 0 without images, and no confusion
    matrix.

    >>> scalar_scores({"val/acc": torch.tensor(0.5), "val/class_acc": torch.tensor([1.0, 0.0])}).keys()
    dict_keys(['val/acc', 'val/class_acc/0', 'val/class_acc/1'])
    """
    scalars: dict[str, Tensor] = {}
    for name, value in values.items():
        if name.endswith("class_acc"):
            scalars |= {f"{name}/{label}": accuracy for label, accuracy in enumerate(value)}
        elif not name.endswith("confusion"):
            scalars[name] = value
    return scalars


def monitored_names(num_classes: int, *, has_validation: bool) -> list[str]:
    """The scores of a fit that callbacks can monitor."""
    details = [f"class_acc/{label}" for label in range(num_classes)]
    val = [f"val/{name}" for name in ("acc", "loss", "ece", *details)]
    return [*(val if has_validation else []), "train/acc", "train/loss", "train/loss_step"]


def states(metrics: MetricCollection) -> dict[str, dict[str, Tensor]]:
    """The counts so far, on the CPU, for a checkpoint."""
    items: Any = metrics.items(keep_base=True, copy_state=False)
    return {name: {key: value.cpu() for key, value in metric.metric_state.items()} for name, metric in items}


def merge_states(metrics: MetricCollection, saved: list[Any], rank: int, world_size: int) -> bool:
    """Divide the saved states of any number of processes among the current ones, and add this process's part. Returns
    whether any of them had counted images. Raises InputError if the states are damaged."""
    try:
        for number, state in enumerate(saved):
            for name, metric in metrics.items(keep_base=True, copy_state=False):
                for key, counts in metric.metric_state.items():
                    if state[name][key].shape != counts.shape:  # type: ignore[union-attr]  # no metric here has a list
                        raise InputError(f"the checkpoint's {name} is damaged: {key} has the wrong shape")
                if number % world_size == rank:
                    metric.merge_state({key: counts.to(metric.device) for key, counts in state[name].items()})
        return any(bool(value.any()) for state in saved for counts in state.values() for value in counts.values())
    except (AttributeError, LookupError, TypeError) as error:
        raise InputError("the checkpoint's counts for the training scores are damaged") from error
