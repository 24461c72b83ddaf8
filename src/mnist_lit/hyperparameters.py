"""Constructor arguments as hyperparameters: checked like options, and plain enough to be loaded without our classes."""

import copy
import inspect
import os
from collections.abc import Mapping, MutableMapping
from numbers import Integral, Real
from os import PathLike
from typing import Any

from lightning.pytorch import LightningModule

from mnist_lit.errors import InputError, require

KINDS: dict[Any, tuple[str, Any]] = {  # by annotation; other arguments are checked where they are used
    float: ("a number", Real),
    int: ("a whole number", Integral),
    int | None: ("a whole number", Integral),
    str: ("text", (str, PathLike)),
    bool: ("true or false", bool),
}


def check_arguments(section: str, owner: type, given: Mapping[str, Any]) -> None:
    """Raise InputError for what the command line's parser would refuse: a constructor's argument of the wrong type, or
    a seed out of range. owner: the class with the annotations. given: its arguments, perhaps among other names."""
    for name, parameter in inspect.signature(owner).parameters.items():
        if name in given and (kind := KINDS.get(parameter.annotation)):
            value = given[name]
            plain = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of NumPy's or torch's
            fits = isinstance(plain, kind[1]) and isinstance(plain, bool) == (kind[1] is bool)
            require(f"{section}.{name}", repr(value), kind[0], fits)
    for name in ("seed", "split_seed"):
        if name in given:
            require(f"{section}.{name}", given[name], "0 … 2³² - 1", 0 <= given[name] < 2**32)


def record_seed(hparams: MutableMapping[str, Any], seed: int) -> None:
    """Replace None, the seed's default, in saved hyperparameters."""
    if hparams.get("seed", seed) is None:
        hparams["seed"] = seed


def global_seed() -> int:
    """The seed of the latest `seed_everything` of Lightning; 0 if it was not called."""
    value = os.environ.get("PL_GLOBAL_SEED", "0")
    require("PL_GLOBAL_SEED", value, "a whole number", value.isdecimal())
    return int(value)


def check_passed_on(given: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise InputError if a subclass's constructor passes on another value than its own argument of the same name.

    given: the arguments that arrived. saved: the hyperparameters, for which Lightning takes the outermost
    constructor's arguments, since `load_from_checkpoint` calls that one.
    """
    for name, value in given.items():
        if name in saved and saved[name] != value and str(saved[name]) != str(value):
            own = f"the subclass's argument of this name is {saved[name]}"
            raise InputError(f"model.{name}: {own}, but it passes on {value}; rename the argument")


def complete_hyperparameters(
    module: LightningModule, owner: type, given: Mapping[str, Any], **texts: str | None
) -> None:
    """Reduce a module's saved hyperparameters to values that a checkpoint can store, and load without our classes.

    owner: the class whose parameters they are; a subclass may have fewer, with others fixed. given: its arguments.
    texts: what replaces an argument that is an object.
    """
    record_seed(module.hparams, given["seed"])
    check_passed_on(given, module.hparams)
    missing = {name: given[name] for name in inspect.signature(owner).parameters if name not in module.hparams}
    module.hparams.update({**missing, **plain_numbers({**module.hparams, **missing}), **texts})
    module._hparams_initial = copy.deepcopy(module.hparams)  # type: ignore[assignment]  # the copy for loggers


def plain_numbers(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are NumPy or torch numbers, as Python numbers."""
    return {name: value.item() for name, value in hparams.items() if hasattr(value, "item")}


def hyperparameters_of(owner: type, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that a class itself declares; a subclass may have more."""
    return {name: hparams[name] for name in inspect.signature(owner).parameters if name in hparams}
