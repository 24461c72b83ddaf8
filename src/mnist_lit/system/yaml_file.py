"""YAML from files that may be damaged or hostile. PyYAML alone expands a few hundred bytes of aliases to gigabytes, and
follows nesting until Python's stack overflows."""

from pathlib import Path
from typing import Any, ClassVar

import yaml

from mnist_lit.errors import InputError
from mnist_lit.system.regular_file import read_regular_file

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_BYTES = 1 << 16  # twenty times a run's config.yaml
MAX_DEPTH = 32  # sections within sections
MAX_NUMBER_DIGITS = 100  # of a number; thousands of digits in base 60 take seconds
MAX_BITS = 63  # of a whole number: what a tensor can hold
NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
UNUSED = ("binary", "omap", "pairs", "set")  # kinds of values that no option accepts


class LimitedLoader(SafeLoader):
    """Raises yaml.YAMLError if the text is invalid, has aliases, or is too long or too deep."""

    yaml_constructors: ClassVar = {
        tag: made for tag, made in SafeLoader.yaml_constructors.items() if str(tag).rpartition(":")[2] not in UNUSED
    }

    def __init__(self, text: str) -> None:
        _check_limits(text)
        super().__init__(text)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        if node.tag in NUMBER_TAGS and len(node.value) > MAX_NUMBER_DIGITS:
            raise _error(f"expected numbers of at most {MAX_NUMBER_DIGITS} digits", node)
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise _error(f"expected a valid {node.tag.rpartition(':')[2]}, got {node.value}", node) from error
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise _error(f"expected whole numbers below 2^{MAX_BITS}", node)
        return value


def load_yaml(text: str) -> Any:
    """The content of a YAML text: plain values. Raises what `LimitedLoader` raises."""
    return yaml.load(text, Loader=LimitedLoader)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises yaml.YAMLError, even if there is no such file."""
    return load_yaml(read_text(path))


def read_written_yaml(path: Path) -> Any:
    """The content of a YAML file that a person has written. Raises InputError that names the wrong line."""
    text = ""
    try:
        text = read_text(path)
        return load_yaml(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
            is_tab = text[mark.index : mark.index + 1] == "\t"
            why = f"line {mark.line + 1}: {'a tab; indent with spaces' if is_tab else error.problem}"
        raise InputError(f"{path} cannot be read as YAML: {why}") from error


def read_text(path: Path) -> str:
    """The text of a YAML file, unless it is too long. Raises yaml.YAMLError if it cannot be read."""
    try:
        return read_regular_file(path, MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(str(error)) from error


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _check_limits(text: str) -> None:
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"expected at most {MAX_BYTES >> 10} KiB")
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"expected at most {MAX_DEPTH} sections within each other")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"expected no aliases, got *{event.anchor}")
