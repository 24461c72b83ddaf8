"""Checkpoints: their contents, atomic saving and safe loading. No training.

A checkpoint is Lightning's dictionary plus three entries of ours: `mnist_lit` (`Metadata`), `best` (the best validation
so far, or None) and `train_scores` (what the current epoch has counted). All are plain scalars, strings and tensors, so
files load with `weights_only=True`: nothing in them can run code.
"""

import io
import json
import math
import shlex
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor, nn

from mnist_lit.errors import MAX_CLASSES, InputError, require_class_names
from mnist_lit.model import TutorialCNN
from mnist_lit.own_network import to_channels_last
from mnist_lit.runs.folders import LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.locate import locate_model
from mnist_lit.runs.recipes import DOWNLOAD_SETTINGS, PRIVATE_SETTINGS, without_settings
from mnist_lit.runs.versions import run_versions
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.yaml_file import load_yaml

METADATA_KEY = "mnist_lit"
RESUME_KEYS = ("loops", "best", "train_scores")  # what a fit needs to resume exactly, besides weights and optimizer
NETWORK_PREFIX, EMA_PREFIX = "network.", "ema."  # of the names in `state_dict`
MAX_DEPTH, MAX_VALUES = 32, 1_000_000  # of a checkpoint's dictionaries and lists; ours have 7 and 400
TABLES: dict[str, type] = {"scores": float, "curves": int, "versions": str}  # of the metadata, and their values
STORABLE = (bool, Integral, Real, str, Path, type(None))  # settings that `Metadata.of_trainer` records
TRAINER_WORDS = ("precision", "gradient_clip_algorithm", "max_time")  # trainer options whose value may be a string


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says about itself, stored under `checkpoint["mnist_lit"]`."""

    config: str  # the run's whole config.yaml
    data: str  # md5 of all images and labels
    classes: tuple[str, ...]  # what labels 0 … C - 1 stand for
    scores: Mapping[str, float]  # latest value of every logged metric
    curves: Mapping[str, int]  # log file → its length when saved, see `loggers.truncate_logs`
    versions: Mapping[str, str]  # see `versions.run_versions`
    earlier: tuple[Mapping[str, str], ...] = ()  # those of processes before a resume, where different
    calibration: Mapping[str, Any] | None = None  # threshold, coverage and state, see `evaluation.calibration`

    @classmethod
    def new(
        cls,
        config: str,
        data: str,
        classes: Sequence[str],
        scores: Mapping[str, Any],
        curves: Mapping[str, int],
        history: Sequence[Mapping[str, str]] = (),
    ) -> Self:
        """Metadata of a checkpoint that is being saved; scores may be scalar tensors. history: that of the checkpoint
        that the run was resumed from."""
        versions, numbers = run_versions(), {name: float(score) for name, score in scores.items()}
        earlier = tuple(before for before in history if before != versions)
        return cls(config, data, tuple(classes), numbers, dict(curves), versions, earlier)

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Read a checkpoint's metadata. Raises InputError if it is damaged."""
        stored: Mapping[str, Any] = checkpoint[METADATA_KEY]
        try:
            count = int(checkpoint["hyper_parameters"]["num_classes"])
            classes = require_class_names(stored.get("classes") or [*map(str, range(count))])  # older files name none
            if len(classes) != count:
                raise ValueError("class names")
            required = {name: stored[name] for name in ("config", "data", *TABLES)}
            settings = load_yaml(required["config"])
            if not all(isinstance(settings.get(name, {}), dict) for name in ("model", "data", "trainer")):
                raise TypeError("config")
            if not isinstance(required["data"], str):
                raise TypeError("data")
            for name, kind in TABLES.items():
                if not all(isinstance(key, str) and isinstance(value, kind) for key, value in required[name].items()):
                    raise TypeError(name)
            if any(length < 0 for length in required["curves"].values()):
                raise ValueError("curves")
            earlier = tuple(map(dict, stored.get("earlier", ())))
            return cls(**required, classes=classes, earlier=earlier, calibration=stored.get("calibration"))
        except (LookupError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"the checkpoint's metadata are damaged: {error}") from error

    @property
    def temperature(self) -> float | None:
        """The calibration's temperature; None if there is no readable one."""
        with suppress(LookupError, TypeError, ValueError):
            return float((self.calibration or {})["state"]["temperature"])
        return None

    @classmethod
    def of_trainer(cls, trainer: Any, hparams: Mapping[str, Any], history: Sequence[Mapping[str, str]] = ()) -> Self:
        """Metadata of a checkpoint that a plain Trainer saves, without a run folder and perhaps with other data."""
        describe = getattr(trainer.datamodule, "checkpoint_metadata", None)  # of `MNISTDataModule`
        data: dict[str, Any] = describe() if describe else {"settings": {}, "fingerprint": "", "classes": ()}
        training = {name: getattr(trainer, name) for name in ("max_epochs", "accumulate_grad_batches", "precision")}
        training["gradient_clip_val"] = trainer.gradient_clip_val
        config = {"seed_everything": hparams["seed"], "model": hparams, "data": data["settings"], "trainer": training}
        derived = ("num_classes", "seed", "shuffle", "network")  # the command line derives these, or asks for them
        for name, section in config.items():
            if isinstance(section, Mapping):
                config[name] = {
                    key: _plain(value)
                    for key, value in section.items()
                    if key not in derived and isinstance(value, STORABLE)
                }
        classes = data["classes"] or [*map(str, range(hparams["num_classes"]))]
        text = yaml.safe_dump(config, sort_keys=False)
        return cls.new(text, data["fingerprint"], classes, trainer.callback_metrics, {}, history)

    @property
    def history(self) -> tuple[Mapping[str, str], ...]:
        """What the weights were trained with, oldest first; more than one entry only after a resume elsewhere."""
        return (*self.earlier, self.versions)

    def to_dict(self) -> dict[str, Any]:
        """The stored form: plain containers, without `earlier` and `calibration` if they are empty."""
        stored = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}
        stored |= {"classes": list(self.classes), "earlier": list(map(dict, self.earlier))}
        return {name: value for name, value in stored.items() if value or name not in ("earlier", "calibration")}


def _plain(value: Any) -> bool | int | float | str | None:
    """A STORABLE setting in a form that YAML can hold: NumPy's numbers as Python's, paths as text."""
    if value is None or isinstance(value, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else str(value)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin: files appear complete or not at all, and loading runs no code.

    Lightning's own plugin writes via the system's temporary folder, perhaps on another file system, without a flush.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: FBT001
        content = load_checkpoint(path)
        if not {"loops", "train_scores"} <= {*content}:  # Lightning would silently restart
            raise InputError(f"{path} has no training progress to resume from")
        return content


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint atomically, the old `last.ckpt` becoming `previous.ckpt`. Raises OSError with its path."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, buffer.getbuffer(), path.with_name(PREVIOUS_CKPT) if path.name == LAST_CKPT else None)
    except OSError as error:
        raise OSError(f"cannot save {path}: {error.strerror}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read one of our checkpoints onto the CPU. Raises InputError on any other file, in one line."""
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
    except Exception as error:  # a damaged or hostile file raises nearly anything
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
    if not isinstance(content.get("global_step"), int):
        raise InputError("it has no global_step")
    if not isinstance(count := hparams.get("num_classes", 10), int) or not 0 < count <= MAX_CLASSES:
        raise InputError(f"expected at most {MAX_CLASSES:,} classes")
    if code := [name for name in hparams if name.startswith("_") or name in ("class_path", "init_args")]:
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


def with_metadata(content: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The checkpoint with some metadata fields replaced."""
    return {**content, METADATA_KEY: replace(Metadata.of(content), **changes).to_dict()}


def config_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration a checkpoint was trained with, reduced to plain values: seed, `model`, `data`, `trainer`.

    A string under `trainer` could name a class to import, so only numbers and a few known words are kept there. Raises
    InputError if the configuration is damaged.
    """
    try:
        stored = load_yaml(content[METADATA_KEY]["config"])
        kept: dict[str, Any] = {"seed_everything": int(stored["seed_everything"])}
        kept |= {name: value for name, value in stored.items() if isinstance(value, int)}
        for section in ("model", "data", "trainer"):
            kept[section] = {
                name: value
                for name, value in stored[section].items()
                if name not in (*DOWNLOAD_SETTINGS, "network")
                and isinstance(value, int | float | str)
                and (section != "trainer" or not isinstance(value, str) or name in TRAINER_WORDS)
            }
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError("the checkpoint's own configuration is damaged") from error
    return kept


def load_weights(module: nn.Module, content: Mapping[str, Any]) -> None:
    """Load a checkpoint's weights into a module. Raises InputError if they do not fit.

    A file without EMA weights, as `strip_for_sharing` makes it, holds only the weights used for evaluation.
    """
    try:
        module.load_state_dict(with_ema_weights(content["state_dict"], module.state_dict()))
    except (RuntimeError, TypeError) as error:
        raise InputError(_misfit(content)) from error


def _misfit(content: Mapping[str, Any]) -> str:
    options = network_options(content)
    trained = f"; it was trained with {options}{_unstored_arguments(content)}" if options else ""
    return f"the checkpoint's weights do not fit the network that the options describe{trained}"


def with_ema_weights(weights: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """A checkpoint's weights; EMA weights that are expected but missing are copied from the network's."""
    averaged = [name for name in expected if name.startswith(EMA_PREFIX)]
    if not averaged or any(name.startswith(EMA_PREFIX) for name in weights):
        return dict(weights)
    return {**weights, **{name: weights.get(NETWORK_PREFIX + name.removeprefix(EMA_PREFIX)) for name in averaged}}


def trained_weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's trained weights by their names in the network; the EMA weights if it has any."""
    weights = content["state_dict"]
    prefix = EMA_PREFIX if any(name.startswith(EMA_PREFIX) for name in weights) else NETWORK_PREFIX
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def network_options(content: Mapping[str, Any]) -> str:
    """The options that name a checkpoint's network; empty for the tutorial's.

    The checkpoint stores its class's name and arguments as text, so loading never imports anything.
    """
    if not (name := content.get("hyper_parameters", {}).get("network")):
        return ""
    settings = load_yaml(content[METADATA_KEY]["config"]).get("model", {}).get("network")
    args = settings.get("init_args") if isinstance(settings, dict) else None
    options = ["--model.network", str(name)]
    for key, value in (args if isinstance(args, dict) else {}).items():
        options += [f"--model.network.{key}", value if isinstance(value, str) else json.dumps(value, default=str)]
    return shlex.join(options)


def require_network(content: Mapping[str, Any], network: object | None) -> None:
    """Raise InputError if a checkpoint's network is not the tutorial's and `network` is None."""
    if network is None and (options := network_options(content)):
        name = content["hyper_parameters"]["network"].rpartition(".")[2]
        added = f"add {options}{_unstored_arguments(content)}; in Python, pass network={name}(…)"
        raise InputError(f"this checkpoint's network is not the tutorial's; {added}")


def _unstored_arguments(content: Mapping[str, Any]) -> str:
    """What to add to `network_options` of a network that was passed as an instance: only its class is known."""
    stored = load_yaml(content[METADATA_KEY]["config"]).get("model", {}).get("network")
    return "" if stored else ", and --model.network.NAME VALUE for each argument that it was given in Python"


def network_of(content: Mapping[str, Any], network: nn.Module | None = None) -> nn.Module:
    """A checkpoint's trained network, using the EMA weights if it has any. Raises InputError if it is damaged.

    network: where to load the weights if it is not the tutorial's network.
    """
    try:
        require_network(content, network)
        if network is None:
            network = TutorialCNN(int(content["hyper_parameters"]["num_classes"]))
        network.float()  # in whatever precision it was trained
        network.load_state_dict(trained_weights(content))
    except InputError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(_misfit(content)) from error
    return to_channels_last(network)


def warm_start(networks: Sequence[nn.Module], model: str) -> None:
    """Load a trained model's weights into networks; the output layer only if the number of classes matches.

    model: a checkpoint, a run, `latest` or `pretrained`. Raises InputError if there is no such model.
    """
    weights = trained_weights(load_checkpoint(locate_model(model)))
    for network in networks:
        own = network.state_dict()
        fits = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
        missing = [name for name in own if name not in fits]
        layers = {name.rpartition(".")[0] for name in missing}  # none, or the output layer
        if len(layers) > 1:
            reason = f"{missing[0]} is missing or has a different shape"
            raise InputError(f"model.init_from: {model} does not match this network: {reason}")
        network.load_state_dict({k: v for k, v in fits.items() if k.rpartition(".")[0] not in layers}, strict=False)


def strip_for_sharing(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint for others: the weights used for evaluation, and the metadata without this machine's paths."""
    weights = {name: value.contiguous() for name, value in trained_weights(content).items()}
    names = ("hyper_parameters", "global_step", "epoch", "pytorch-lightning_version", METADATA_KEY)
    kept = {name: content[name] for name in names}
    kept["hyper_parameters"] = _without_machine_paths(kept["hyper_parameters"])
    kept["state_dict"] = {NETWORK_PREFIX + name: tensor for name, tensor in weights.items()}
    return with_metadata(kept, config=portable_config(content[METADATA_KEY]["config"]))


def portable_config(config: str) -> str:
    """A run's YAML without the paths and addresses of the machine that it ran on."""
    return yaml.safe_dump(_without_machine_paths(load_yaml(config)), sort_keys=False)


def _without_machine_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without `PRIVATE_SETTINGS`, and only the name of the model that a run started from."""
    kept: dict[str, Any] = without_settings(settings, PRIVATE_SETTINGS)
    for section in (kept, kept.get("model")):
        if isinstance(section, dict) and section.get("init_from"):
            section["init_from"] = Path(section["init_from"]).name
    return kept
