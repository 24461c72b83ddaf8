"""`--model.network` for the commands that load a checkpoint: a network of your own, which no checkpoint can import."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lit.cli.command_parser import NETWORK_OPTION
from mnist_lit.cli.jsonargparse_limits import limit_jsonargparse
from mnist_lit.errors import InputError
from mnist_lit.system.error_messages import explain_error

if TYPE_CHECKING:
    from torch import nn


def allow_local_imports() -> None:
    """Allow importing a network of your own from the working directory, after everything that is installed."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def build_network(options: list[str]) -> "nn.Module | None":
    """The network that these arguments of a command name, which may be in the working directory; None without any.

    Raises InputError if there is no such class, or it does not take these settings.
    """
    if not options:
        return None
    from jsonargparse import ArgumentError, ArgumentParser
    from torch import nn

    allow_local_imports()
    limit_jsonargparse()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(NETWORK_OPTION, type=nn.Module)
    try:
        network: nn.Module = parser.instantiate_classes(parser.parse_args(options)).model.network
    except (ArgumentError, TypeError, ValueError) as error:
        reason = explain_error(str(error), []).removeprefix("model.network: ")
        raise InputError(f"model.network: cannot use {' '.join(options)}: {reason}") from error
    return network
