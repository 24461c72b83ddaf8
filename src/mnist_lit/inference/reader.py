"""From a picture to its digits, with an exported model or a checkpoint. Imports torch only for a checkpoint."""

import math
import zipfile
from collections.abc import Sequence
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError, require
from mnist_lit.imaging.find_digits import digit_hypotheses, page_hypotheses
from mnist_lit.imaging.hypotheses import FoundDigit, Hypotheses
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, DigitImage, rotate
from mnist_lit.imaging.open_picture import ORIGINAL_SIZE, open_picture
from mnist_lit.inference.onnx_model import Images, OnnxModel, Scores
from mnist_lit.runs.folders import ONNX_FILE
from mnist_lit.runs.locate import locate_model

if TYPE_CHECKING:
    from torch import nn

    from mnist_lit.inference.checkpoint_model import CheckpointModel


BATCH_SIZE = 256  # digits that are classified at once
SMALLEST = 1e-4  # for comparing hypotheses: all probabilities below it are equally unlikely
# The one digit of a picture is also read rotated if its confidence is below DOUBTFUL; that counts if it is above SURE.
DOUBTFUL, SURE = 0.5, 0.99
ROTATIONS = (-18, 18)  # degrees
SEVERAL = ("digits found", "characters found")  # ends of the message of one of several, accepted and rejected


class Reading(NamedTuple):
    """One digit of a picture."""

    digit: str  # the most likely class, even if the reading is rejected; empty if nothing is written
    probability: float  # of that class, calibrated, in [0, 1]
    probabilities: tuple[float, ...]  # of each class, in the order of `DigitReader.labels`
    outlier: float  # in [0, 1]; above the reader's threshold the reading is rejected, and so is one within a word
    status: str  # "ok" or "rejected"
    message: str  # why it was rejected, or how many digits the picture seems to have instead of one; else empty
    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels
    image: DigitImage  # the network's input
    line: int = 1  # of the page, from the top, counted from 1
    column: int = 1  # place in that line, from the left, counted from 1

    @property
    def confidence(self) -> float:
        """How likely the image is a digit, and the one that it is read as, in [0, 1]."""
        return self.probability * (1 - self.outlier)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and self._hashable() == other._hashable()

    def __ne__(self, other: object) -> bool:  # a tuple's own would compare the images as arrays
        return not self == other

    def __hash__(self) -> int:
        return hash(self._hashable())

    def _hashable(self) -> tuple[Any, ...]:
        return tuple((self._asdict() | {"image": self.image.tobytes()}).values())

    def __repr__(self) -> str:  # without the image, whose 784 numbers would flood the screen
        values = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "image")
        return f"Reading({', '.join(values)})"


class Proposal(NamedTuple):
    """The candidate digits of a picture, before they are classified."""

    sheets: list[Hypotheses]  # one for each sheet of paper
    size: tuple[int, int]  # the picture's width and height in pixels
    many: bool  # whether to read every digit instead of one


def propose(picture: Any, *, many: bool = False) -> Proposal:
    """Find the one digit of a picture, or every digit. picture: a path, bytes, an open file, an image or an array.
    Raises InputError if it is unreadable. Needs no model, so it can run in another thread or process."""
    image = open_picture(picture)
    return Proposal(page_hypotheses(image) if many else [digit_hypotheses(image)], image.info[ORIGINAL_SIZE], many)


def with_advice(message: str, advice: str) -> str:
    """The message of a reading and, if it is one of several, how to read them all."""
    return f"{message}; {advice}" if message.endswith(SEVERAL) else message


def check_threshold(option: str, threshold: float | None) -> None:
    """Raise InputError for a threshold outside 0 … 1; None stands for the model's own."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    holds = threshold is None or (number and 0 <= threshold <= 1)
    require(option, threshold, "0 (strictest) … 1 (rejects nothing)", holds)


class DigitReader:
    """Reads digits from pictures.

    >>> DigitReader.load("pretrained")
    DigitReader('pretrained/model.onnx', threshold=0.5)
    """

    def __init__(self, model: "OnnxModel | CheckpointModel", path: Path, threshold: float | None = None) -> None:
        check_threshold("threshold", threshold)
        if threshold is not None and threshold < 1 == model.threshold:
            raise InputError(f"{path} is not calibrated and cannot reject anything; run `mnist-lit calibrate` first")
        self.model, self.path, self.labels = model, path, model.labels
        self.name = "/".join(path.parts[-2:])
        small = model.dataset == "digits"
        self.note = " (trained on small, clean digits only; for photos use --model pretrained)" if small else ""
        self.rejection = "not a digit" if {*self.labels} <= {*"0123456789"} else "none of the classes"
        self.threshold = model.threshold if threshold is None else threshold

    @classmethod
    def load(
        cls, model: str | Path | None = None, *, threshold: float | None = None, network: "nn.Module | None" = None
    ) -> "DigitReader":
        """Load an exported model (.onnx) or a checkpoint (.ckpt), found by `locate_model`. threshold: reject outlier
        scores above it (default: the model's own). network: one of your own, if the checkpoint was trained with it.
        Raises InputError if there is no model."""
        path = locate_model(model, ONNX_FILE)
        if path.suffix == ".onnx":
            if network is not None:
                raise InputError(f"{path} was exported with its network; leave network or --model.network out")
            return cls(OnnxModel(path), path, threshold)
        if not zipfile.is_zipfile(path):  # before torch takes seconds to import
            raise InputError(f"{path} is neither an exported model (.onnx) nor a checkpoint that can be read safely")
        from mnist_lit.inference.checkpoint_model import CheckpointModel  # imports torch

        return cls(CheckpointModel(path, network), path, threshold)

    def __repr__(self) -> str:
        return f"DigitReader({self.name!r}, threshold={self.threshold:g})"

    def read(self, picture: Any) -> Reading:
        """The one digit of a path, bytes, an open file, a Pillow image or an array. Raises InputError if unreadable.

        If the picture has several digits, the reading's message says so; `read_many` reads them."""
        return self.decide([propose(picture)])[0][0]

    def read_many(self, picture: Any) -> list[Reading]:
        """Read every digit of a picture, line by line; see `read`. Empty if nothing is written."""
        return self.decide([propose(picture, many=True)])[0]

    def decide(self, proposals: Sequence[Proposal]) -> list[list[Reading]]:
        """The readings of each picture, classified together: one, or every digit where the proposal asks for `many`."""
        found = [digit for proposal in proposals for sheet in proposal.sheets for digit in sheet.found]
        remaining = iter(self._scores(found))
        decided: list[list[Reading]] = []
        beside: list[int] = []  # how many digits are beside the one that is read, in each picture
        doubtful: list[list[Reading]] = []
        for sheets, size, many in proposals:
            chosen: list[Reading] = []
            beside.append(sheets[0].beside if sheets else 0)
            for sheet in sheets:
                scores = list(islice(remaining, len(sheet.found)))
                likely = [row.max() * (1 - outlier) for row, outlier in scores]
                costs = [-math.log(max(float(value), SMALLEST)) for value in likely]
                rejected = [outlier > self.threshold for _, outlier in scores]
                for index, line, column, in_word in sheet.choose(costs, rejected, chosen[-1].line if chosen else 0):
                    digit = sheet.found[index]._replace(line=line, column=column)
                    chosen.append(self._reading(digit, *scores[index], in_word=in_word))
                    beside[-1] += digit.more_beside
            decided.append(chosen if chosen or many else [self.blank(size)])
            if chosen and not many and not sheets[0].in_mnist_format and chosen[0].confidence < DOUBTFUL:
                doubtful.append(chosen)
        self._read_rotated(doubtful)
        for (_, _, many), readings, others in zip(proposals, decided, beside, strict=True):
            if not many and others > 0 and readings[0].digit:
                digits, characters = (f"{others + 1} {several}" for several in SEVERAL)
                accepted = readings[0].status == "ok"
                message = digits if accepted else f"{self.rejection}; {characters}"
                readings[0] = readings[0]._replace(message=message)
        return decided

    def _read_rotated(self, doubtful: Sequence[list[Reading]]) -> None:
        """Replace the one reading of each picture, in place, where the rotated digit is read with great confidence."""
        rotations = [(readings, degrees) for readings in doubtful for degrees in ROTATIONS]
        rotated = [FoundDigit(readings[0].box, rotate(readings[0].image, degrees)) for readings, degrees in rotations]
        for (readings, _), reading in zip(rotations, self.readings(rotated), strict=True):
            if reading.confidence > max(SURE, readings[0].confidence):
                readings[0] = reading

    def classify(self, images: Images, batch_size: int = BATCH_SIZE) -> Scores:
        """uint8 (N, 28, 28) → calibrated probabilities (N, C), outlier scores (N,) in [0, 1]."""
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            given = f"{images.dtype} {images.shape}"
            raise ValueError(f"expected uint8 (N, 28, 28), got {given}; `read` takes a picture of any size")
        require("batch_size", batch_size, "1 or more", batch_size >= 1)
        starts = range(0, max(len(images), 1), batch_size)
        parts = zip(*(self.model(images[start : start + batch_size]) for start in starts), strict=True)
        probabilities, outliers = (np.concatenate(part) for part in parts)
        if not (np.isfinite(probabilities).all() and np.isfinite(outliers).all()):
            raise InputError(f"{self.path}: the model's outputs are not finite")
        return probabilities, outliers

    def readings(self, found: Sequence[FoundDigit]) -> list[Reading]:
        """Classify digits that were found in pictures."""
        return [self._reading(digit, *scores) for digit, scores in zip(found, self._scores(found), strict=True)]

    def _scores(self, found: Sequence[FoundDigit]) -> list[tuple[NDArray[np.float32], float]]:
        """The probabilities (C,) and the outlier score of each digit."""
        if not found:
            return []
        probabilities, outliers = self.classify(np.stack([digit.image for digit in found]))
        return list(zip(probabilities, outliers.tolist(), strict=True))

    def _reading(
        self, digit: FoundDigit, probabilities: NDArray[np.float32], outlier: float, *, in_word: bool = False
    ) -> Reading:
        rejected = in_word or outlier > self.threshold
        # A rejected image is probably none of the classes, so its probabilities move toward uniform ones.
        doubt = max(outlier, 0.5) if rejected else 0.0  # at least 0.5, even if the threshold is lower
        row = tuple(((1 - doubt) * probabilities + doubt / len(self.labels)).tolist())
        reason = "part of a word" if in_word and outlier <= self.threshold else self.rejection
        verdict = ("rejected", reason) if rejected else ("ok", "")
        best = self.labels[row.index(max(row))]
        return Reading(best, max(row), row, outlier, *verdict, digit.box, digit.image, digit.line, digit.column)

    def blank(self, size: tuple[int, int]) -> Reading:
        """The reading of a picture with nothing written on it. size: its width and height in pixels."""
        uniform = tuple(1 / len(self.labels) for _ in self.labels)
        image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        return Reading("", uniform[0], uniform, 1.0, "rejected", "no writing found", (0, 0, *size), image)
