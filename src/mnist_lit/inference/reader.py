"""From a picture to the digit in it: one class, `DigitReader`, from an exported model or a checkpoint.

An exported model is run by onnxruntime and needs no torch; a checkpoint needs it. No HTTP, no training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, FoundDigit, find_digit, find_digits
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.inference.onnx_model import OnnxModel
from mnist_lit.runs.locate import locate_model

__all__ = ["DigitReader", "Reading"]

Images = NDArray[np.uint8]
SMALL = " (trained on small, clean digits only; for pictures: --model pretrained)"


class Reading(NamedTuple):
    """What was read at one place of a picture."""

    digit: str  # the likeliest class's name; also of a rejected reading; empty where nothing is written
    probability: float  # of that class, calibrated, in [0, 1]
    probabilities: tuple[float, ...]  # of each class, in the order of `DigitReader.labels`
    outlier: float  # how unlike any digit it is, in [0, 1]; above the reader's threshold it is rejected
    status: str  # "ok" or "rejected"
    message: str  # why it was rejected; else empty
    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels
    image: Images  # what the network saw, uint8 (28, 28), 0 = paper


class _Model(Protocol):
    labels: tuple[str, ...]
    threshold: float
    dataset: str  # that it was trained on

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


class DigitReader:
    """Reads digits from pictures.

    >>> DigitReader.load("pretrained").labels[:3]
    ('0', '1', '2')
    """

    def __init__(self, model: _Model, path: Path, threshold: float | None = None) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold: expected 0 (rejects all) … 1 (rejects nothing), got {threshold}")
        if threshold is not None and model.threshold == 1:
            raise InputError(f"{path} is not calibrated, so it can reject nothing; see `mnist-lit calibrate`")
        self.model, self.path = model, path
        self.labels = model.labels
        self.note = SMALL if model.dataset == "digits" else ""
        self.rejection = "not a digit" if {*self.labels} <= {*"0123456789"} else "none of the classes"
        self.name = "/".join(path.parts[-2:])
        self.threshold = model.threshold if threshold is None else threshold

    @classmethod
    def load(cls, model: str | Path | None = None, *, threshold: float | None = None) -> "DigitReader":
        """A reader of an exported model (.onnx) or a checkpoint (.ckpt), or of what `locate_model` finds.

        threshold: what is more of an outlier is rejected; None takes the model's own, chosen on validation.
        Raises InputError where there is no such model.
        """
        path = locate_model(model, "model.onnx")
        if path.suffix == ".onnx":
            return cls(OnnxModel(path), path, threshold)
        from mnist_lit.inference.checkpoint_model import CheckpointModel  # imports torch

        return cls(CheckpointModel(path), path, threshold)

    def read(self, picture: Any) -> Reading:
        """The one digit of a picture: a path, a file's bytes, an opened file, a Pillow image or an array.

        Raises InputError where it is no picture.
        """
        loaded = open_picture(picture)
        found = find_digit(loaded)
        return self.readings([found])[0] if found else self.blank(loaded.info["size"])

    def read_many(self, picture: Any) -> list[Reading]:
        """Every digit of a picture, in reading order; see `read`."""
        return self.readings(find_digits(open_picture(picture)))

    def classify(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """uint8 (B, 28, 28) → probabilities (B, C), and how much of an outlier each is (B,), in [0, 1]."""
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"expected uint8 (B, 28, 28), got {images.dtype} {images.shape}; call center_digit first")
        return self.model(images)

    def readings(self, found: Sequence[FoundDigit]) -> list[Reading]:
        """What each of the found digits reads as, all in one batch."""
        if not found:
            return []
        probabilities, outliers = self.classify(np.stack([digit.image for digit in found]))
        readings = []
        for digit, row, outlier in zip(found, probabilities.tolist(), outliers.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            rejected = outlier > self.threshold
            readings.append(
                Reading(
                    self.labels[best],
                    row[best],
                    tuple(row),
                    outlier,
                    "rejected" if rejected else "ok",
                    self.rejection if rejected else "",
                    digit.box,
                    digit.image,
                )
            )
        return readings

    def blank(self, size: tuple[int, int]) -> Reading:
        """What a picture of that width and height reads as where nothing is written on it."""
        nothing = tuple(1 / len(self.labels) for _ in self.labels)
        image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        return Reading("", nothing[0], nothing, 1.0, "rejected", "nothing is written here", (0, 0, *size), image)
