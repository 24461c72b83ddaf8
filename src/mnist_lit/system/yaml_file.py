"""YAML from files that may be damaged or hostile. PyYAML alone reads a few hundred bytes of aliases as gigabytes, and
follows any depth of nesting until Python's stack ends."""

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 16  # twenty times a run's config.yaml
MAX_DEPTH = 32  # sections within sections
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def load_yaml(text: str) -> Any:
    """The content of a YAML text: plain values. Raises yaml.YAMLError if it is invalid, has aliases, or is too long or
    too deep."""
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"expected at most {MAX_BYTES >> 10} KiB")
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"expected at most {MAX_DEPTH} sections within each other")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"expected no aliases, got *{event.anchor}")
    try:
        return yaml.load(text, Loader=LOADER)
    except (ValueError, TypeError) as error:  # a number of thousands of digits, a date that does not exist
        raise yaml.YAMLError(" ".join(str(error).split())) from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises OSError, UnicodeDecodeError, or what `load_yaml` raises."""
    with path.open("rb") as file:
        return load_yaml(file.read(MAX_BYTES + 1).decode("utf-8"))
