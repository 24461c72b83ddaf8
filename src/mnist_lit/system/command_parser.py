"""An argparse parser whose errors are one line; apart from `arguments`, since `mnist-lit --help` needs no argparse."""

import argparse
from typing import NoReturn

from mnist_lit.errors import InputError
from mnist_lit.system.arguments import explain_error


class CommandParser(argparse.ArgumentParser):
    """The options of one command. Raises InputError, in one line, if they are wrong."""

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        super().__init__(f"mnist-lit {command}", description=description, epilog=epilog, allow_abbrev=False)

    def add_model_argument(self, help: str) -> None:
        """Add `--model`, and `--ckpt_path` as Lightning's name for it."""
        self.add_argument("--model", "--ckpt_path", dest="model", metavar="NAME", help=help)

    def add_data_dir_argument(self) -> None:
        self.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")

    def error(self, message: str) -> NoReturn:
        raise InputError(explain_error(message, [option.lstrip("-") for option in self._option_string_actions]))
