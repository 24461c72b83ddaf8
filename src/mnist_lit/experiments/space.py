"""A sweep's search space, read from YAML: one option per line, with a range or a list of values.

    model.lr: {low: 0.001, high: 0.1, log: true}
    data.batch_size: {low: 32, high: 256, step: 32}
    model.optimizer: [sgd, adamw]

`fit` itself checks that it has these options."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_lit.errors import InputError, require
from mnist_lit.system.yaml_file import read_written_yaml

Value = bool | int | float | str | None


class Range(NamedTuple):
    """The numbers from low to high, inclusive; integers if all three are. `log` draws them on a logarithmic scale."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


Space = dict[str, Range | list[Value]]


def read_space(path: Path) -> Space:
    """The options and their values. Raises InputError that names the option it cannot understand."""
    if not path.exists():
        raise InputError(f"--space: no file {path}")
    content = read_written_yaml(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected lines as `model.lr: {{low: 0.001, high: 0.1, log: true}}`, got no mapping")
    return {str(name): _values(f"{path}: {name}", values) for name, values in content.items()}


def to_arguments(settings: Mapping[str, Value]) -> list[str]:
    """Settings as arguments for `fit`.

    >>> to_arguments({"model.lr": 0.01, "model.nesterov": True, "trainer.precision": None})
    ['--model.lr', '0.01', '--model.nesterov', 'true', '--trainer.precision', 'null']
    """
    args = []
    for name, value in settings.items():
        text = "null" if value is None else str(value)
        args += [f"--{name}", text.lower() if isinstance(value, bool) else text]
    return args


def _values(name: str, given: Any) -> Range | list[Value]:
    if isinstance(given, list):
        if not given or not all(value is None or isinstance(value, bool | int | float | str) for value in given):
            raise InputError(f"{name}: expected a list of numbers and words, got {given}")
        require(name, given, "values that all differ", len({*given}) == len(given))  # 1, 1.0 and true are equal
        return given
    expected = "a list of values, or {low: 0.001, high: 0.1} with log or step"
    require(name, given, expected, isinstance(given, dict) and {"low", "high"} <= {*given} <= {*Range._fields})
    low, high, step = (_number(f"{name}: {key}", given.get(key)) for key in ("low", "high", "step"))
    log = given.get("log", False)
    if low is None or high is None or not -math.inf < low <= high < math.inf:
        raise InputError(f"{name}: expected low ≤ high, both finite, got {low} and {high}")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise InputError(f"{name}: log: expected true or false; true needs low > 0 and no step")
    require(f"{name}: step", step, "more than 0", step is None or 0 < step < math.inf)
    steps = (high - low) / step if step else 0.0  # a whole number, up to rounding
    if not math.isfinite(steps) or abs(steps - round(steps)) >= 1e-6 or (step and high > low and not round(steps)):
        raise InputError(f"{name}: step: expected one that divides the range {low} to {high} evenly, got {step}")
    return Range(low, high, step, log)


def _number(name: str, given: Any) -> int | float | None:
    """The number, or None. YAML 1.1 reads 1e-3 as a string."""
    try:
        if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
            return given
        return float(str(given))
    except ValueError:
        raise InputError(f"{name}: expected a number, got {given}") from None
