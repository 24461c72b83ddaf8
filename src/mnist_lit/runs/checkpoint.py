"""Save checkpoints atomically, and load them safely. No training.

A checkpoint is Lightning's dictionary plus our own entries: `mnist_lit` (`Metadata`), `best` (the best validation so
far, or None), `train_scores` (what the current epoch has counted), and the flags STOPS and WITHIN_STEP. All are plain
scalars, strings and tensors, so files load with `weights_only=True`: nothing in them can run code.
"""

import errno
import io
import math
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from mnist_lit.errors import MAX_CLASSES, InputError
from mnist_lit.runs.folders import LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.metadata import METADATA_KEY, Metadata
from mnist_lit.system.atomic_file import write_atomic

RESUME_KEYS = ("loops", "best", "train_scores")  # what a fit needs to resume exactly, besides weights and optimizer
STOPS, WITHIN_STEP = "stops", "within_step"  # whether a callback has ended the fit; whether a step was incomplete
LIGHTNINGS_CLI = "_instantiator", "lightning.pytorch.cli.instantiate_module"  # in LightningCLI's files; never imported
MAX_DEPTH, MAX_VALUES = 32, 1_000_000  # of a checkpoint's dictionaries and lists; ours have 7 and 400


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin: files appear complete or not at all, and loading runs no code.

    Lightning's own plugin writes via the system's temporary folder, perhaps on another file system, without a flush.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """The old `last.ckpt` becomes `previous.ckpt`."""
        path = Path(path)
        save_checkpoint(checkpoint, path, path.with_name(PREVIOUS_CKPT) if path.name == LAST_CKPT else None)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: FBT001
        """Also raises InputError for a file that cannot be resumed."""
        content = load_checkpoint(path)
        if "optimizer_states" not in content:
            raise InputError(f"{path} holds weights only; use --model.init_from to start from them")
        if not {"loops", "train_scores"} <= {*content}:  # Lightning would silently restart
            raise InputError(f"{path} has no training progress to resume from")
        return content


def save_checkpoint(content: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint atomically, the old file becoming `previous`. Raises OSError with its path."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getbuffer(), previous)
    except OSError as error:
        raise OSError(f"cannot save {path}: {error.strerror}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read one of our checkpoints onto the CPU. Raises InputError on any other file, and OSError if it may be intact
    but cannot be read now, for example because too many files are open."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    if path.suffix == ".onnx":
        raise InputError(f"expected a checkpoint (.ckpt), got {path}; exported models are for `predict` and `serve`")
    try:
        _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of a foreign file; the error below says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
        for tensor in _tensors(content):
            _check_tensor(tensor)
    except MemoryError as error:
        raise OSError(f"cannot read {path}: out of memory") from error
    except Exception as error:  # a damaged or hostile file raises nearly anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a seek in a damaged file
            raise OSError(f"cannot read {path}: {error.strerror}") from error
        damaged = isinstance(error, zipfile.BadZipFile)
        reason = "it is damaged, cut off or of another kind" if damaged else type(error).__name__
        raise InputError(f"{path} is not a checkpoint that can be read safely ({reason})") from error
    if not isinstance(content, dict) or not isinstance(content.get(METADATA_KEY), dict):
        raise InputError(f"{path} is not a checkpoint of mnist-lit")
    try:
        _check_content(content)
    except InputError as error:
        raise InputError(f"{path} is not a checkpoint of mnist-lit: {error}") from error
    return content


def _check_content(content: Mapping[str, Any]) -> None:
    """Raise InputError unless a checkpoint's entries are of the kinds that our commands rely on."""
    weights, hparams, best = content.get("state_dict"), content.get("hyper_parameters", {}), content.get("best")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise InputError("it has no weights")
    require_finite(weights)
    if not isinstance(hparams, dict) or not all(isinstance(name, str) and name.isidentifier() for name in hparams):
        raise InputError("its hyperparameters are damaged")
    if not isinstance(hparams.get("network"), str | None):
        raise InputError("expected the name of its network")
    if not isinstance(content.get("global_step"), int):
        raise InputError("it has no global_step")
    if not isinstance(count := hparams.get("num_classes"), int) or not 0 < count <= MAX_CLASSES:
        raise InputError(f"expected 1 … {MAX_CLASSES:,} classes")
    others = {name for name, value in hparams.items() if (name, value) != LIGHTNINGS_CLI}
    if code := sorted(name for name in others if name.startswith("_") or name in ("class_path", "init_args")):
        raise InputError(f"{code[0]} would name code to run")
    numbers = isinstance(best, list) and [isinstance(score, float | int) for score in best] == [True] * 3
    if best is not None and not (numbers and 0 <= best[0] <= 1):  # no accuracy would ever be better than infinity
        raise InputError("its best score is damaged")
    Metadata.of(content)


def require_finite(weights: Mapping[str, Any]) -> None:
    """Raise InputError unless all real and complex numbers are finite. If the network's dtype cannot hold them, its
    outputs are not finite, which is an error as well."""
    numbers = (one for one in _tensors(weights) if one.is_floating_point() or one.is_complex())
    if not all(tensor.isfinite().all() for tensor in numbers):
        raise InputError("it has weights that are not finite")


def _tensors(content: Any) -> list[Tensor]:
    """The tensors in nested dictionaries and lists. Raises ValueError if there are too many values: a chain of lists
    that each hold the next one twice is small in a file, but takes practically forever to read."""
    found, level = [], [content]
    for _ in range(MAX_DEPTH):
        found += level
        level = [*islice(chain.from_iterable(map(_inside, level)), MAX_VALUES + 1 - len(found))]
    if level or len(found) > MAX_VALUES:
        raise ValueError("a checkpoint of too many values")
    return [value for value in found if isinstance(value, Tensor)]


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple | set) else ()


def _check_tensor(tensor: Tensor) -> None:
    """Raise ValueError unless the file holds each number of a tensor: with strides of 0, a few bytes pose as gigabytes,
    which the first operation on them would allocate; a tensor on the device `meta` has no data at all."""
    size = tensor.numel() * tensor.element_size() if tensor.layout == torch.strided else math.inf
    if tensor.device.type != "cpu" or size > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor that is larger than its data")


def _check_zip(path: Path) -> None:
    """Raise unless the file is an intact zip of stored entries: torch reads damaged bytes without complaint."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile("compressed, which torch never does; it may unpack to any size")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("overlapping entries")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")
