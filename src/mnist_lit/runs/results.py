"""What a run folder's tables say: `metrics.csv` of training, `predictions.csv` of the test. Standard library only."""

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Predictions",
    "Validation",
    "best_validation",
    "completed_epochs",
    "ensemble_accuracy",
    "read_curve",
    "read_predictions",
    "read_validations",
]


class Predictions(NamedTuple):
    """What a run said of each test image, in the dataset's order."""

    indices: list[int]
    labels: list[int]
    predicted: list[int]
    probs: list[list[float]]  # of each class
    classes: list[str]  # what the labels 0 … C - 1 stand for

    @property
    def right(self) -> int:
        """How many it read right."""
        return sum(label == predicted for label, predicted in zip(self.labels, self.predicted, strict=True))

    @property
    def acc(self) -> float:
        """The share that it read right, in [0, 1]."""
        return self.right / len(self.labels)


class Validation(NamedTuple):
    """One validation: accuracy in [0, 1], loss in nats, and the epoch it was in, from 1 on."""

    acc: float
    loss: float
    epoch: int

    def rank(self) -> tuple[float, float, int]:
        """More is better: the accuracy, of equals the one with the lower loss, then the earlier."""
        return self.acc, -self.loss, -self.epoch


def read_predictions(run: Path) -> Predictions | None:
    """The newest whole test of a run; None where there was none, or its file is damaged."""
    names = ("index", "label", "predicted")
    others = (*names, "file")
    with contextlib.suppress(LookupError, TypeError, ValueError):
        rows = _rows(run / "predictions.csv")
        indices, labels, predicted = ([int(row[name]) for row in rows] for name in names)
        classes = [name for name in rows[0] if name not in others]
        probs = [[float(row[name]) for name in classes] for row in rows]
        return Predictions(indices, labels, predicted, probs, [name.removeprefix("prob_") for name in classes])
    return None


def ensemble_accuracy(tests: Sequence[Predictions]) -> float:
    """The accuracy of the mean of several runs' probabilities, in [0, 1]."""
    right = 0
    for image, label in enumerate(tests[0].labels):
        total = [sum(column) for column in zip(*(test.probs[image] for test in tests), strict=True)]
        right += total.index(max(total)) == label
    return right / len(tests[0].labels)


def read_validations(run: Path) -> list[Validation]:
    """A run's validations, the first first."""
    found = []
    for row in _rows(run / "metrics.csv"):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            found.append(Validation(float(row["val/acc"]), float(row["val/loss"]), int(row["epoch"]) + 1))
    return found


def best_validation(run: Path) -> tuple[float, int] | None:
    """The best validation accuracy, of equals the one with the lower loss, and its epoch, from 1 on.

    None where nothing was validated.
    """
    best = max(read_validations(run), key=Validation.rank, default=None)
    return best and (best.acc, best.epoch)


def read_curve(run: Path, name: str) -> list[tuple[int, float]]:
    """A scalar of the training as (step, value), steps counted from 0; empty where it was never logged."""
    points = []
    for row in _rows(run / "metrics.csv"):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            points.append((int(row["step"]), float(row[name])))
    return points


def completed_epochs(run: Path) -> int:
    """How many epochs came to their end."""
    done = 0
    for row in _rows(run / "metrics.csv"):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            done = int(row["epoch"]) + 1 if row["train/loss"] else done
    return done


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where it cannot be read whole."""
    with contextlib.suppress(OSError, UnicodeDecodeError, csv.Error), path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
    return []
