"""Limit the YAML that jsonargparse reads as `system.yaml_file` limits what we read."""

from pathlib import Path
from typing import Any

from mnist_lit.system.yaml_file import LimitedLoader, read_text


def limit_jsonargparse() -> None:
    """Replace jsonargparse's YAML loader and file reader: it parses the strings in a config, and the files that they
    name, as YAML again."""
    from jsonargparse import _loaders_dumpers, _paths  # slow; not every command needs it

    default: Any = _loaders_dumpers.get_yaml_default_loader()  # type: ignore[no-untyped-call]
    if issubclass(default, LimitedLoader):
        return
    vars(_loaders_dumpers)["yaml_default_loader"] = type("ParserLoader", (LimitedLoader, default), {})
    read_any = _paths.Path.read_text

    def read_config(self: _paths.Path) -> str:
        own = type(self) is not _paths.Path  # such as Path_fr, for what a class of your own reads
        unlimited = own or self.is_url or self.is_fsspec or self.relative == "-"
        return read_any(self) if unlimited else read_text(Path(self.absolute))

    _paths.Path.read_text = read_config  # type: ignore[method-assign]
