"""What a run folder's tables say: `metrics.csv` of training, `predictions.csv` of the test. Standard library only."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Scored", "best_val", "epochs", "scored"]


class Scored(NamedTuple):
    """What a run said of each test image, in the dataset's order."""

    indices: list[int]
    labels: list[int]
    predicted: list[int]
    probs: list[list[float]]  # of each class

    @property
    def right(self) -> int:
        """How many it read right."""
        return sum(label == predicted for label, predicted in zip(self.labels, self.predicted, strict=True))

    @property
    def acc(self) -> float:
        """The share that it read right, in [0, 1]."""
        return self.right / len(self.labels)


def scored(run: Path) -> Scored | None:
    """The newest whole test of a run; None where there was none, or its file is damaged."""
    columns: tuple[list[int], list[int], list[int], list[list[float]]] = ([], [], [], [])
    with contextlib.suppress(LookupError, TypeError, ValueError):
        for row in _rows(run / "predictions.csv"):
            for column, name in zip(columns[:3], ("index", "label", "predicted"), strict=True):
                column.append(int(row[name]))
            columns[3].append([float(value) for name, value in row.items() if name.startswith("prob_")])
        return Scored(*columns) if columns[0] else None
    return None


def best_val(run: Path) -> tuple[float, int] | None:
    """The best validation accuracy and its epoch, from 1 on; the first of equals. None where nothing was validated."""
    scores = []
    for row in _rows(run / "metrics.csv"):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            scores.append((float(row["val/acc"]), -int(row["epoch"])))
    best = max(scores, default=None)
    return best and (best[0], 1 - best[1])


def epochs(run: Path) -> int:
    """How many epochs came to their end."""
    done = 0
    for row in _rows(run / "metrics.csv"):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            done = int(row["epoch"]) + 1 if row["train/loss"] else done
    return done


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, as far as they can be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError, csv.Error), path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
