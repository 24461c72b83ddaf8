"""Every number of a report, from what a run said of the test images and from its curves. NumPy only, no torch.

Pure functions that give plain lists, dicts and numbers: `--json` prints them, and the page shows the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lit.evaluation.statistics import spread, wilson_interval
from mnist_lit.runs.results import Predictions, ensemble_accuracy, read_curve

__all__ = [
    "BINS",
    "COVERAGES",
    "PAIRS",
    "SUSPECT",
    "accuracy_share",
    "apply_temperature",
    "group_scores",
    "run_scores",
    "training_curves",
]

BINS = 15  # of the calibration error, as wide as one another: Guo et al. 2017, "On calibration of modern networks"
COVERAGES = (1, 0.995, 0.99, 0.98, 0.95, 0.9)
PAIRS = 30  # classes of which a matrix can still be read; of more, the pairs that are confused most
SUSPECT = 0.9  # probability of the answer, from which on a mistake may be the label's
MISTAKES = 100  # that are shown
POINTS = 200  # of a curve, at most
LEAST = 1e-45  # what a probability counts as that was too small for a 32-bit float

Floats = NDArray[np.float64]


def accuracy_share(right: int, total: int) -> dict[str, Any]:
    """A count of right answers as a share with its 95 % interval; no share of nothing."""
    low, high = wilson_interval(right, total) if total else (None, None)
    return {"images": total, "right": right, "accuracy": right / total if total else None, "low": low, "high": high}


def apply_temperature(probs: Floats, temperature: float) -> Floats:
    """Probabilities (N, C) of the same log-probabilities divided by a temperature.

    >>> apply_temperature(np.array([[0.2, 0.8]]), 0.5).round(3).tolist()
    [[0.059, 0.941]]
    """
    powers = np.asarray((probs / probs.max(axis=1, keepdims=True)) ** (1 / temperature), float)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def run_scores(test: Predictions, temperature: float | None, rejected: NDArray[np.bool_] | None) -> dict[str, Any]:
    """What one run's test says. temperature, rejected: (N,), of its calibration; None where it has none."""
    labels, predicted, probs = np.array(test.labels), np.array(test.predicted), np.array(test.probs)
    right = labels == predicted
    after = probs if temperature is None else apply_temperature(probs, temperature)
    counts = np.zeros((len(test.classes),) * 2, int)
    np.add.at(counts, (labels, predicted), 1)
    confidence = after.max(axis=1)
    mistakes = _mistakes(test, after, ~right)
    return {
        **accuracy_share(int(right.sum()), len(right)),
        "wrong": int((~right).sum()),
        "confusion": counts.tolist() if len(counts) <= PAIRS else None,
        "confused": _confused(counts),
        "classes": _per_class(counts, test.classes),
        "calibration": {
            "temperature": temperature,
            "before": _calibration(probs, labels, predicted),
            "after": None if temperature is None else _calibration(after, labels, predicted),
        },
        "coverage": _coverage(confidence, right),
        "detector": None if rejected is None else _detector(rejected, right),
        "mistakes": mistakes,
        "suspects": [found for found in mistakes if found["probability"] >= SUSPECT],
    }


def group_scores(
    names: Sequence[str], tests: Sequence[Predictions], temperatures: Sequence[float | None]
) -> dict[str, Any]:
    """What several seeds' tests on the same images say together."""
    found = spread([test.acc for test in tests])
    several = len(tests) > 1
    labels, predicted = np.array(tests[0].labels), np.array([test.predicted for test in tests])  # (N,), (seeds, N)
    probs = np.mean(
        [
            apply_temperature(np.array(test.probs), 1.0 if temperature is None else temperature)
            for test, temperature in zip(tests, temperatures, strict=True)
        ],
        axis=0,
    )  # (N, C)
    agreed = (predicted == predicted[0]).all(axis=0) & (predicted[0] != labels)
    return {
        "n": found.n,
        "mean": found.mean,
        "sd": found.sd if several else None,
        "low": max(found.low, 0.0) if several else None,
        "high": min(found.high, 1.0) if several else None,
        "ensemble": ensemble_accuracy(tests),
        "runs": [
            {"run": name, **accuracy_share(test.right, len(labels))} for name, test in zip(names, tests, strict=True)
        ],
        "suspects": _mistakes(tests[0], probs, agreed),
    }


def training_curves(run: Path) -> dict[str, list[list[float]]]:
    """Each curve of the training as [steps taken, value]; long ones as means of as many neighbours as it takes."""
    names = ("train/loss_step", "train/loss", "val/loss", "train/acc", "val/acc", "lr")
    found = {}
    for name in names:
        points = np.array([(step + 1, value) for step, value in read_curve(run, name)], float).reshape(-1, 2)
        points = points[np.isfinite(points).all(axis=1)]
        width = max(1, -(-len(points) // POINTS))
        parts = [points[start : start + width] for start in range(0, len(points), width)]
        found[name] = [[float(value) for value in part.mean(axis=0)] for part in parts]
    return found


def _confused(counts: NDArray[Any]) -> list[dict[str, int]]:
    """The pairs of classes that were confused, the most frequent first, as many as `PAIRS`."""
    rows, columns = np.nonzero(counts * ~np.eye(len(counts), dtype=bool))
    order = np.argsort(-counts[rows, columns], kind="stable")[:PAIRS]
    found = zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    return [{"true": true, "predicted": said, "count": int(counts[true, said])} for true, said in found]


def _per_class(counts: NDArray[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Support, precision, recall, F1 and the usual mistake of each class; None where that has no meaning."""
    found = []
    for label, name in enumerate(names):
        right, support, said = int(counts[label, label]), int(counts[label].sum()), int(counts[:, label].sum())
        wrong = counts[label].copy()
        wrong[label] = 0
        taken = int(wrong.argmax())
        found.append(
            {
                "name": name,
                "support": support,
                "precision": right / said if said else None,
                "recall": right / support if support else None,
                "f1": 2 * right / (said + support) if said + support else None,
                "taken_for": taken if wrong[taken] else None,
                "times": int(wrong[taken]),
            }
        )
    return found


def _calibration(probs: Floats, labels: NDArray[Any], predicted: NDArray[Any]) -> dict[str, Any]:
    """Negative log-likelihood in nats, Brier score, expected calibration error, and the bins that it comes from.

    A bin holds the confidences above its lower edge, up to its upper one.
    """
    rows, confidence = np.arange(len(labels)), probs.max(axis=1)
    right = predicted == labels
    one_hot = np.eye(probs.shape[1])[labels]
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins: list[dict[str, Any]] = []
    for number in range(BINS):
        here = place == number
        count = int(here.sum())
        bins.append(
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "count": count,
                "confidence": float(confidence[here].mean()) if count else None,
                "accuracy": float(right[here].mean()) if count else None,
            }
        )
    gaps = sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["count"])
    return {
        "nll": float(-np.log(np.maximum(probs[rows, labels], LEAST)).mean()),
        "brier": float(((probs - one_hot) ** 2).sum(axis=1).mean()),
        "ece": gaps / len(labels),
        "bins": bins,
    }


def _coverage(confidence: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """The accuracy on the images that are answered, where the least confident ones are not: El-Yaniv and Wiener 2010.

    Of images with the same confidence the first ones are answered.
    """
    order = np.argsort(-confidence, kind="stable")
    correct, total = np.cumsum(right[order]), len(right)
    answered = [-(-total * permille // 1000) for permille in (round(1000 * part) for part in COVERAGES)]
    rows = [
        {
            "coverage": part,
            "images": count,
            "wrong": int(count - correct[count - 1]),
            "accuracy": float(correct[count - 1] / count),
            "least": float(confidence[order[count - 1]]),
        }
        for part, count in zip(COVERAGES, answered, strict=True)
    ]
    shown = sorted({max(1, round(total * part / POINTS)) for part in range(POINTS // 2, POINTS + 1)})
    return {"rows": rows, "curve": [[count / total, float(correct[count - 1] / count)] for count in shown]}


def _detector(rejected: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict[str, Any]:
    """What the detector of what is no digit does to the test images, all of which are digits."""
    kept = accuracy_share(int((right & ~rejected).sum()), int((~rejected).sum()))
    total = len(right)
    return {
        **kept,
        "coverage": kept["images"] / total,
        "rejected": int(rejected.sum()),
        "rejected_wrong": int((rejected & ~right).sum()),
    }


def _mistakes(test: Predictions, probs: Floats, which: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Those images, (N,), that were misread, the surest mistake first; `index` is the place in the dataset."""
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(-probs[rows, np.array(test.predicted)[rows]], kind="stable")]
    return [
        {
            "index": test.indices[row],
            "true": test.labels[row],
            "predicted": test.predicted[row],
            "probability": float(probs[row, test.predicted[row]]),
            "probability_of_true": float(probs[row, test.labels[row]]),
        }
        for row in rows.tolist()
    ]
