"""A checkpoint's metadata: its run's configuration, data, classes, scores and versions."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import yaml

from mnist_lit.errors import InputError, require_class_names
from mnist_lit.runs.recipes import DOWNLOAD_SETTINGS, LEARNING_SETTINGS
from mnist_lit.runs.versions import run_versions
from mnist_lit.system.yaml_file import load_yaml

METADATA_KEY = "mnist_lit"  # of a checkpoint's dictionary
TABLES: dict[str, type] = {"scores": float, "curves": int, "versions": str}  # fields: names to values of this type
STORABLE = (bool, Integral, Real, str, Path, type(None))  # types of the settings that `Metadata.of_trainer` records
DERIVED = ("num_classes", "seed", "network")  # except these, which the command line derives or asks for
TRAINER_WORDS = ("precision", "gradient_clip_algorithm", "max_time")  # trainer options whose value may be a string


@dataclass(frozen=True)
class Metadata:
    """A checkpoint's metadata, stored under `checkpoint["mnist_lit"]`."""

    config: str  # the run's whole config.yaml
    data: str  # md5 of all images and labels
    classes: tuple[str, ...]  # what labels 0 … C - 1 stand for
    scores: Mapping[str, float]  # latest value of every logged metric
    curves: Mapping[str, int]  # log file → its length when saved, see `loggers.truncate_logs`
    versions: Mapping[str, str]  # see `versions.run_versions`
    earlier: tuple[Mapping[str, str], ...] = ()  # the versions before each resume, if they differed
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
        """Read a checkpoint's metadata. Raises InputError if it is damaged or does not fit the hyperparameters."""
        stored: Mapping[str, Any] = checkpoint[METADATA_KEY]
        try:
            count = int(checkpoint["hyper_parameters"]["num_classes"])
            classes = require_class_names(stored["classes"])
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
            found = cls(**required, classes=classes, earlier=earlier, calibration=stored.get("calibration"))
        except (LookupError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"the checkpoint's metadata is damaged: {error}") from error
        if len(classes) != count:  # as with another num_classes for `load_from_checkpoint`
            raise InputError(f"the checkpoint has {len(classes)} classes, not {count}")
        return found

    @property
    def temperature(self) -> float | None:
        """The calibration's temperature; None if there is no readable one."""
        with suppress(LookupError, TypeError, ValueError):
            return float((self.calibration or {})["state"]["temperature"])
        return None

    @classmethod
    def of_trainer(cls, trainer: Any, hparams: Mapping[str, Any], history: Sequence[Mapping[str, str]] = ()) -> Self:
        """Metadata of a checkpoint that a plain Trainer saves, without a run folder and perhaps with other data.
        trainer: None if the module is not attached to one, as after `trainer.strategy.connect(module)`."""
        describe = getattr(getattr(trainer, "datamodule", None), "checkpoint_metadata", None)  # of `MNISTDataModule`
        data: dict[str, Any] = describe() if describe else {"settings": {}, "fingerprint": "", "classes": ()}
        settings = {name: getattr(trainer, name, None) for name in LEARNING_SETTINGS}
        settings["gradient_clip_algorithm"] = getattr(settings["gradient_clip_algorithm"], "value", None)  # of an enum
        no_limits = {"max_epochs": -1, "max_steps": -1, "limit_train_batches": 1.0}  # where 1 is one batch
        training = {name: value for name, value in settings.items() if repr(value) != repr(no_limits.get(name, ""))}
        sections = {"model": hparams, "data": data["settings"], "trainer": training}
        config = {"seed_everything": hparams["seed"], **{name: _storable(part) for name, part in sections.items()}}
        classes = data["classes"] or [*map(str, range(hparams["num_classes"]))]
        text = yaml.safe_dump(config, sort_keys=False)
        scores = getattr(trainer, "callback_metrics", {})
        return cls.new(text, data["fingerprint"], classes, scores, {}, history)

    @property
    def history(self) -> tuple[Mapping[str, str], ...]:
        """What the weights were trained with, oldest first; more than one entry only after a resume elsewhere."""
        return (*self.earlier, self.versions)

    def to_dict(self) -> dict[str, Any]:
        """The stored form: plain containers, without `earlier` and `calibration` if they are empty."""
        stored = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}
        stored |= {"classes": list(self.classes), "earlier": list(map(dict, self.earlier))}
        return {name: value for name, value in stored.items() if value or name not in ("earlier", "calibration")}


def _storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that describe a run, in a form that YAML can hold."""
    return {
        name: _plain(value) for name, value in settings.items() if name not in DERIVED and isinstance(value, STORABLE)
    }


def _plain(value: Any) -> bool | int | float | str | None:
    """A STORABLE setting in a form that YAML can hold: NumPy's numbers as Python's, paths as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    return str(value).encode(errors="replace").decode()  # a path need not be valid UTF-8


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
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError("the checkpoint's own configuration is damaged") from error
    return kept
