"""A run records the software, the machine and the commit of the checkout that it ran from, and nothing private."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mnist_lit
from mnist_lit.runs import versions
from mnist_lit.runs.versions import cpu_name, run_versions


def git(folder: Path, *args: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    run = subprocess.run(["git", "-C", str(folder), *identity, *args], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let a copy of `versions.py`, at a path below the test's folder, be asked for its commit."""
    if not shutil.which("git"):
        pytest.skip("needs git")

    def place(path: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text("# versions\n")
        monkeypatch.setattr(versions, "__file__", str(file))
        return file

    return place


@pytest.fixture(autouse=True)
def _asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "checkout_commit", versions.checkout_commit.__wrapped__)


def test_the_commit_is_the_checkouts_and_says_if_files_were_changed(
    copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copy("checkout/src/mnist_lit/runs/versions.py")
    checkout, other = tmp_path / "checkout", tmp_path / "other"
    other.mkdir()
    for folder in (checkout, other):
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "--allow-empty", "-m", f"one of {folder.name}")
    git(checkout, "tag", "-a", "v9", "-m", "nine")
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.chdir(other)  # an unrelated repository that the user works in
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as in a hook of it
    assert len(commit) == 40
    assert versions.checkout_commit() == run_versions()["commit"] == commit
    checkout.joinpath("notes.txt").write_text("not tracked\n")
    assert versions.checkout_commit() == commit
    file.write_text("# changed\n")
    assert versions.checkout_commit() == f"{commit}-dirty"


def test_a_repository_around_a_virtual_environment_is_not_the_checkout(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    copy("project/.venv/lib/site-packages/mnist_lit/runs/versions.py")
    git(tmp_path / "project", "init", "-q")
    tmp_path.joinpath("project", "code.py").touch()
    git(tmp_path / "project", "add", "code.py")
    git(tmp_path / "project", "commit", "-q", "-m", "theirs")
    assert versions.checkout_commit() is None
    assert "commit" not in run_versions()


def test_without_git_or_with_one_that_hangs_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions.checkout_commit() is None
    if sys.platform == "win32":
        return
    tmp_path.joinpath("git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    tmp_path.joinpath("git").chmod(0o755)
    monkeypatch.setattr(versions, "GIT_SECONDS", 0.01)
    assert versions.checkout_commit() is None


def test_the_commit_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    versions.checkout_commit()  # as `MNISTModule.setup` does before training
    monkeypatch.setattr(versions, "_git", lambda *_: pytest.fail("git was asked again"))
    versions.checkout_commit()


def test_software_and_machine_are_recorded_and_nothing_private() -> None:
    recorded = run_versions()
    assert recorded["mnist-lit"] == mnist_lit.__version__
    assert (recorded["python"], recorded["torch"]) == (platform.python_version(), str(torch.__version__))
    assert recorded["cpu"] == cpu_name()
    assert cpu_name().startswith(f"{os.cpu_count()} × ")
    assert recorded["threads"] == str(torch.get_num_threads())
    assert {*recorded} - {"commit"} == {"mnist-lit", "python", "torch", "lightning", "cpu", "threads"}
