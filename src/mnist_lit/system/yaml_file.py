"""YAML from files that may be damaged or hostile. PyYAML alone reads a few hundred bytes of aliases as gigabytes, and
follows any depth of nesting until Python's stack ends."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from mnist_lit.system.regular_file import read_regular_file

MAX_BYTES = 1 << 16  # twenty times a run's config.yaml
MAX_DEPTH = 32  # sections within sections
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def load_yaml(text: str) -> Any:
    """The content of a YAML text: plain values. Raises yaml.YAMLError if it is invalid, has aliases, or is too long or
    too deep; also if a string in it is, since jsonargparse reads strings as YAML again."""
    _check_limits(text)
    try:
        content = yaml.load(text, Loader=LOADER)
    except (ValueError, TypeError) as error:  # a number of thousands of digits, a date that does not exist
        raise yaml.YAMLError(" ".join(str(error).split())) from error
    for inner in _strings(content):
        with suppress(yaml.scanner.ScannerError, yaml.parser.ParserError, yaml.reader.ReaderError):  # not meant as YAML
            _check_limits(inner)
    return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises OSError, UnicodeDecodeError, or what `load_yaml` raises."""
    return load_yaml(read_regular_file(path, MAX_BYTES + 1).decode("utf-8"))


def _check_limits(text: str) -> None:
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"expected at most {MAX_BYTES >> 10} KiB")
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"expected at most {MAX_DEPTH} sections within each other")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"expected no aliases, got *{event.anchor}")


def _strings(content: Any) -> Iterator[str]:
    """The strings in nested sections and lists; short ones can do no harm."""
    if isinstance(content, str) and len(content) > MAX_DEPTH:
        yield content
    elif isinstance(content, dict | list):
        for inner in content.values() if isinstance(content, dict) else content:
            yield from _strings(inner)
