"""Run the commands of an experiment in this process: the same code without seconds of imports for each."""

import contextlib
import io
from collections.abc import Iterator
from typing import IO, Any

import pytest

from mnist_lit.cli.main import main


def run_in_process(command: str, args: list[str], *, stdout: IO[bytes] | None = None, **popen: Any) -> int:
    """Replaces `run_command`; with `stdout`, what the command prints goes there."""
    printed, failed = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if stdout:
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(contextlib.redirect_stderr(failed))
        try:
            code = main([command, *args])
        except SystemExit as stop:  # of --help and --print_config
            code = int(stop.code or 0)
    if stdout:
        stdout.write(printed.getvalue().encode())
        popen["stderr"].write(failed.getvalue().encode())
    return code


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    """Groups and sweeps run their commands in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_lit.cli.lightning.die_with_parent", lambda: None)  # not this process
        for module in ("seeds", "sweep"):
            patch.setattr(f"mnist_lit.experiments.{module}.run_command", run_in_process)
        yield
