"""Every number of a report that comes from a run's test predictions and training curves. NumPy and scikit-learn. Pure
functions that return plain lists, dicts and numbers: `--json` prints them, and the page shows the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from mnist_lit.evaluation.statistics import spread, wilson_interval
from mnist_lit.runs.results import Predictions, ensemble_accuracy, read_curve

BINS = 15  # equally wide bins of the calibration error, as in Guo et al. 2017
COVERAGES = (1, 0.995, 0.99, 0.98, 0.95, 0.9)
PAIRS = 30  # classes up to which a confusion matrix is readable; beyond, this many confused pairs are listed
SUSPECT = 0.9  # from this probability of a wrong answer on, the label may be at fault
MISTAKES, CURVE_POINTS = 100, 200  # mistakes shown on the page, and points of a curve, at most
HUGE = 1e100  # above the values of any run's curves; a mean of smaller values is finite
TINIEST = 1e-45  # stands in for a probability that underflowed in float32

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = dict[str, Any]


def accuracy_of(right: int, total: int) -> Numbers:
    """A count of right answers as a fraction with its 95 % interval; None where there are no images."""
    low, high = wilson_interval(right, total) if total else (None, None)
    return {"images": total, "right": right, "accuracy": right / total if total else None, "low": low, "high": high}


def apply_temperature(probs: Floats, temperature: float) -> Floats:
    """The probabilities (N, C) whose log-probabilities are divided by a temperature.

    >>> apply_temperature(np.array([[0.2, 0.8]]), 0.5).round(3).tolist()
    [[0.059, 0.941]]
    """
    powers = np.asarray((probs / probs.max(axis=1, keepdims=True)) ** (1 / temperature), float)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def run_scores(test: Predictions, temperature: float | None, rejected: Bools | None) -> Numbers:
    """The numbers of one run's test. temperature, rejected (N,): from its calibration; None without one."""
    labels, predicted, probs = np.array(test.labels), np.array(test.predicted), np.array(test.probs)
    right = labels == predicted
    calibrated = probs if temperature is None else apply_temperature(probs, temperature)
    counts = metrics.confusion_matrix(labels, predicted, labels=range(len(test.classes)))
    before = _calibration(probs, labels, right)
    after = None if temperature is None else _calibration(calibrated, labels, right)
    mistakes = _mistakes(test, calibrated, ~right)
    pairs = Counter(sorted((mistake["true"], mistake["predicted"]) for mistake in mistakes)).most_common(PAIRS)
    return {
        **accuracy_of(int(right.sum()), len(right)),
        "wrong": len(mistakes),
        "confusion": counts.tolist() if len(counts) <= PAIRS else None,
        "confused": [{"true": true, "predicted": wrong, "count": count} for (true, wrong), count in pairs],
        "classes": _per_class(labels, predicted, counts, test.classes),
        "calibration": {"temperature": temperature, "before": before, "after": after},
        "coverage": _coverage(calibrated.max(axis=1), right),
        "detector": None if rejected is None else _detector(rejected, right),
        "mistakes": mistakes,
        "suspects": [mistake for mistake in mistakes if mistake["probability"] >= SUSPECT],
    }


def group_scores(names: Sequence[str], tests: Sequence[Predictions], temperatures: Sequence[float | None]) -> Numbers:
    """The numbers of several seeds' tests on the same images; a single seed has no spread."""
    found = spread([test.acc for test in tests])
    low, high = (max(found.low, 0.0), min(found.high, 1.0)) if found.sd > 0 else (None, None)
    labels, predicted = np.array(tests[0].labels), np.array([test.predicted for test in tests])  # (N,), (seeds, N)
    pairs = zip(tests, temperatures, strict=True)
    probs = np.mean([apply_temperature(np.array(test.probs), t or 1.0) for test, t in pairs], axis=0)  # (N, C)
    agreed = (predicted == predicted[0]).all(axis=0) & (predicted[0] != labels)
    statistics = {"n": found.n, "mean": found.mean, "sd": found.sd if found.n > 1 else None, "low": low, "high": high}
    runs = [{"run": name, **accuracy_of(test.right, len(labels))} for name, test in zip(names, tests, strict=True)]
    suspects = _mistakes(tests[0], probs, agreed)
    return {**statistics, "ensemble": ensemble_accuracy(tests), "runs": runs, "suspects": suspects}


def training_curves(run: Path) -> dict[str, list[list[float]]]:
    """Each training curve as [steps taken, value]; a long one is thinned to the means of neighboring points."""
    curves = {}
    for name in ("train/loss_step", "train/loss", "val/loss", "train/acc", "val/acc", "lr"):
        points = np.array([(step + 1, value) for step, value in read_curve(run, name) if abs(value) < HUGE], float)
        width = max(1, -(-len(points) // CURVE_POINTS))
        curves[name] = [points[i : i + width].mean(axis=0).tolist() for i in range(0, len(points), width)]
    return curves


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Numbers]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _per_class(labels: Ints, predicted: Ints, counts: Ints, names: Sequence[str]) -> list[Numbers]:
    """Support, precision, recall, F1 and the most frequent mistake of each class; None where undefined."""
    classes = range(len(names))
    *fractions, _ = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    precision, recall, f1 = (
        [None if np.isnan(value) else float(value) for value in fraction] for fraction in fractions
    )
    wrong = counts * ~np.eye(len(names), dtype=bool)
    times = wrong.max(axis=1).tolist()
    taken_for = [taken if n else None for taken, n in zip(wrong.argmax(axis=1).tolist(), times, strict=True)]
    table = {"name": names, "support": counts.sum(axis=1).tolist(), "precision": precision, "recall": recall, "f1": f1}
    return _rows(table | {"taken_for": taken_for, "times": times})


def _calibration(probs: Floats, labels: Ints, right: Bools) -> Numbers:
    """Negative log-likelihood in nats, Brier score, expected calibration error, and its bins, which are (low, high]."""
    confidence = probs.max(axis=1)
    bin_of = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins, gaps = [], 0.0
    for n in range(BINS):
        inside = bin_of == n
        count, mean, accuracy = int(inside.sum()), None, None
        if count:
            mean, accuracy = float(confidence[inside].mean()), float(right[inside].mean())
            gaps += count * abs(mean - accuracy)
        edges = {"low": n / BINS, "high": (n + 1) / BINS}
        bins.append({**edges, "count": count, "confidence": mean, "accuracy": accuracy})
    # Our own: scikit-learn's log_loss clips at 2e-16, and it and its Brier score warn if float32 rows do not sum to 1.
    nll = 0.0 - float(np.log(np.maximum(probs[np.arange(len(labels)), labels], TINIEST)).mean())  # never -0
    brier = float(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean())
    return {"nll": nll, "brier": brier, "ece": gaps / len(labels), "bins": bins}


def _coverage(confidence: Floats, right: Bools) -> Numbers:
    """Accuracy if only the most confident answers are given, at several coverages: El-Yaniv and Wiener 2010."""
    order = np.argsort(-confidence, kind="stable")  # among equally confident answers, the first images count first
    correct, total = np.cumsum(right[order]), len(right)
    counts = np.array([-(-total * round(1000 * coverage) // 1000) for coverage in COVERAGES])  # rounded up, and exactly
    answered_right = correct[counts - 1]
    table = {"coverage": COVERAGES, "images": counts.tolist(), "wrong": (counts - answered_right).tolist()}
    table |= {"accuracy": (answered_right / counts).tolist(), "least": confidence[order[counts - 1]].tolist()}
    shown = sorted({max(1, round(total * part / CURVE_POINTS)) for part in range(CURVE_POINTS // 2, CURVE_POINTS + 1)})
    return {"rows": _rows(table), "curve": [[count / total, float(correct[count - 1] / count)] for count in shown]}


def _detector(rejected: Bools, right: Bools) -> Numbers:
    """What the outlier detector does to the test images, all of which are real: it should accept them."""
    accepted = int((~rejected).sum())
    errors = {"rejected": len(right) - accepted, "rejected_wrong": int((rejected & ~right).sum())}
    return accuracy_of(int((right & ~rejected).sum()), accepted) | {"coverage": accepted / len(right)} | errors


def _mistakes(test: Predictions, probs: Floats, which: Bools) -> list[Numbers]:
    """The mistakes among the images `which` (N,), the most confident first; `index` is the position in the dataset."""
    rows = np.flatnonzero(which)
    index, true, predicted = (np.array(column)[rows] for column in (test.indices, test.labels, test.predicted))
    table = {"index": index, "true": true, "predicted": predicted, "probability": probs[rows, predicted]}
    table["probability_of_true"] = probs[rows, true]
    order = np.argsort(-table["probability"], kind="stable")
    return _rows({name: column[order].tolist() for name, column in table.items()})
