"""The options of `verify-resume`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_wrong_options_are_one_line(cli: Cli) -> None:
    assert cli("verify-resume", "--kills=-1") == (2, "", "mnist-lit: --kills: expected 0 or more, got -1\n")
    code, out, err = cli("verify-resume", "--seeds", "3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "choose it with --seed_everything" in err
    message = "mnist-lit: unknown option --kils; did you mean --kills?\n"
    assert cli("verify-resume", "--kils", "3") == (2, "", message)
    Path("file").touch()
    assert cli("verify-resume", "--folder", "file") == (2, "", "mnist-lit: cannot write file: File exists\n")


def test_other_options_go_to_fit_and_the_folder_is_kept_if_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def verify(fit: Sequence[str], kills: int, seed: int, folder: Path) -> int:
        calls.append((fit, kills, seed, folder))
        assert folder.is_dir()
        return 1

    monkeypatch.setattr("mnist_lit.experiments.verify_resume.verify_resume", verify)
    assert cli("verify-resume", "--kills", "2", "--model.lr", "1", "--folder", "kept/here")[0] == 1
    assert cli("verify-resume", "--kill_seed", "3")[0] == 1
    assert calls[0] == (["--model.lr", "1"], 2, 0, Path("kept/here"))
    assert calls[1][:3] == ([], 5, 3)
    assert not calls[1][3].exists()
