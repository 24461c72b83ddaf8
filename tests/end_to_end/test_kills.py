"""A kill before any change to a file costs nothing: the resumed run has the same files with the same content."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kill_at_every_write.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_kill_before_any_file_operation_loses_nothing(tmp_path: Path, tiny_fit: tuple[str, ...]) -> None:
    fit = (*tiny_fit[1:], "--trainer.max_epochs", "2", "--keep_epochs", "true", "--checkpoint_every_n_steps", "1")
    command = [sys.executable, str(PROGRAM), "1", str(tmp_path / "runs"), *fit, "--figures", "false"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "one kill before each, 0 runs that differ" in run.stdout
    assert int(run.stdout.split()[0]) > 50
