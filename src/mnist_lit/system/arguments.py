"""Read single options from a command's arguments before a parser sees them. Imports YAML only where needed."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any


def has_option(args: Iterable[str], option: str) -> bool:
    """Whether an option, such as `--seeds`, is among these arguments, with its value or before it."""
    return any(arg.partition("=")[0] == option for arg in args)


def split_positionals(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that are neither options nor their values, and all others."""
    positionals, rest = list[str](), list[str]()
    takes_value = False  # whether an option without "=" is waiting for it
    for arg in args:
        is_option = arg.startswith("-")
        (rest if is_option or takes_value else positionals).append(arg)
        takes_value = is_option and "=" not in arg
    return positionals, rest


def fit_option(args: Sequence[str], option: str) -> str:
    """The value of an option of a fit with these arguments, such as `trainer.devices`: given alone, in its section or
    in a config; "" for the default."""
    import yaml  # takes milliseconds, which --help does not need

    section, _, name = option.rpartition(".")
    given = ""
    for arg, after in pairwise([*args, ""]):  # the last one wins, as in a fit
        word, equals, value = arg.partition("=")
        value = value if equals else after
        if word == f"--{option}":
            given = "" if value == "null" else value
        elif word == "--config" or (section and word == f"--{section}"):
            with suppress(AttributeError, yaml.YAMLError):
                settings = _config_section(Path(value), section) if word == "--config" else _section(value)
                given = str(settings.get(name, given) or "")
    return given


def _config_section(config: Path, section: str) -> Any:
    """The options in a section of a config; those outside any for ""."""
    from mnist_lit.system.yaml_file import read_yaml

    content = read_yaml(config)
    return content.get(section) or {} if section else content


def _section(given: str) -> Any:
    """The options in the text or the file that `--trainer` or another section is given."""
    from mnist_lit.system.yaml_file import load_yaml, read_yaml

    content = load_yaml(given)
    return read_yaml(Path(content)) if isinstance(content, str) else content


def pop_option(args: Sequence[str], option: str) -> tuple[str, list[str]]:
    """The last value of an option, or "", and the arguments without it."""
    value, rest, given = "", [], iter(args)
    for arg in given:
        name, equals, after = arg.partition("=")
        if name == option:
            value = after if equals else next(given, "")
        else:
            rest.append(arg)
    return value, rest
