"""Read a run folder's results: `metrics.csv` from training, `predictions.csv` from the test. Standard library only."""

import csv
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mnist_lit.runs.folders import MAX_COUNT, METRICS_CSV, PREDICTIONS_CSV, finished_epochs
from mnist_lit.system.csv_file import read_csv

T = TypeVar("T")

ROUNDING = 1e-3  # by which a rounded probability may exceed 1


class Predictions(NamedTuple):
    """A run's predictions for the test images, in the dataset's order."""

    indices: list[int]
    labels: list[int]
    predicted: list[int]
    probs: list[list[float]]  # per image, one for each class
    classes: list[str]  # the names of labels 0 … C - 1
    files: Sequence[str] = ()  # the pictures of a folder

    @property
    def images(self) -> tuple[Any, ...]:
        """What identifies the test images: equal for two tests on the same ones."""
        return *self.indices, *self.labels, *self.classes, *self.files

    @property
    def right(self) -> int:
        """The number of correct predictions."""
        return sum(label == predicted for label, predicted in zip(self.labels, self.predicted, strict=True))

    @property
    def acc(self) -> float:
        """The accuracy, in [0, 1]."""
        return self.right / len(self.labels)


class Validation(NamedTuple):
    """One validation: accuracy in [0, 1], mean loss in nats, and the epoch, counted from 1."""

    acc: float
    loss: float
    epoch: int

    def rank(self) -> tuple[float, float, int]:
        """A sort key, greater is better: the higher accuracy, then the lower loss, then the earlier epoch."""
        return self.acc, -self.loss, -self.epoch


def read_predictions(run: Path, name: str = PREDICTIONS_CSV) -> Predictions | None:
    """The newest complete test of a run; None if there is none or its file is damaged. name: another test's file."""
    columns = ("index", "label", "predicted")
    with suppress(OSError, csv.Error, LookupError, TypeError, ValueError):
        rows = list(read_csv(run / name))
        indices, labels, predicted = ([_count(row[column]) for row in rows] for column in columns)
        classes = [column for column in rows[0] if column not in (*columns, "file")]
        probs = [[float(row[column]) for column in classes] for row in rows]
        answers = zip(labels, predicted, probs, strict=True)
        if all(label < len(row) and _is_answer(answer, row) for label, answer, row in answers):
            names = [column.removeprefix("prob_") for column in classes]
            files = [row["file"] for row in rows if "file" in row]
            return Predictions(indices, labels, predicted, probs, names, files)
    return None


def _is_answer(predicted: int, probs: Sequence[float]) -> bool:
    """Whether these are probabilities, and the predicted class has the highest, or one of several equal ones."""
    return all(0 <= prob < 1 + ROUNDING for prob in probs) and probs[predicted] == max(probs)


def ensemble_accuracy(tests: Sequence[Predictions]) -> float:
    """The accuracy of several runs' mean probabilities, in [0, 1]."""
    right = 0
    for image, label in enumerate(tests[0].labels):
        total = [sum(column) for column in zip(*(test.probs[image] for test in tests), strict=True)]
        right += total.index(max(total)) == label
    return right / len(tests[0].labels)


def read_validations(run: Path) -> list[Validation]:
    """A run's validations, oldest first."""
    validations = _parse(
        run, lambda row: Validation(float(row["val/acc"]), float(row["val/loss"]), _count(row["epoch"]) + 1)
    )
    return [validation for validation in validations if 0 <= validation.acc <= 1]


def best_validation(run: Path) -> Validation | None:
    """A run's best validation; None if nothing was validated."""
    return max(read_validations(run), key=Validation.rank, default=None)


def read_curve(run: Path, name: str) -> list[tuple[int, float]]:
    """A training scalar as (step, value), steps counted from 0; empty if it was never logged."""
    return _parse(run, lambda row: (_count(row["step"]), float(row[name])))


def trained_epochs(run: Path) -> float:
    """How many epochs a finished run was trained for; of an unfinished one, those that were completed."""
    if epochs := finished_epochs(run):
        return epochs
    return max(_parse(run, lambda row: _count(row["epoch"]) + 1 if row["train/loss"] else 0), default=0)


def _parse(run: Path, parse: Callable[[dict[str, str]], T]) -> list[T]:
    """The rows of `metrics.csv` that can be parsed; the others hold different scalars. Empty if it is unreadable."""
    parsed = []
    with suppress(OSError, UnicodeDecodeError, csv.Error):
        for row in read_csv(run / METRICS_CSV):
            with suppress(LookupError, TypeError, ValueError):
                parsed.append(parse(row))
        return parsed
    return []


def _count(text: str) -> int:
    """A number of steps, images or the like. Raises ValueError for an impossible one."""
    number = int(text)
    if not 0 <= number < MAX_COUNT:
        raise ValueError
    return number
