"""`mnist-lit data` prints what a dataset contains and rejects wrong options in one line."""

import re
from collections.abc import Callable

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_each_split_is_printed_and_options_may_be_named_as_for_fit(cli: Cli) -> None:
    code, out, err = cli("data", "--dataset", "digits")
    assert (code, err) == (0, "")
    assert "train   1,437 images of 28×28, 10 classes\n" in out
    assert "test      360 images of 28×28, 10 classes\n" in out
    assert re.search(r"^digits: complete and verified; fingerprint [0-9a-f]{32}$", out, re.MULTILINE)
    assert cli("data", "--data.dataset", "digits", "--data.data_dir", "nowhere")[1] == out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--mirrors", "a,b"], "; b: unknown url type: "),
        (["--timeout", "0"], "data.timeout: expected seconds above 0, got 0"),
        (
            ["--dataset", "mnits"],
            "--dataset: expected mnist, fashion_mnist, kmnist, digits, got mnits; did you mean mnist?",
        ),
        (["--dataset", ""], "digits, got nothing"),
        (["--dataset", "qmnist"], "got qmnist; `fit` downloads it"),
        (["--deep"], "unknown option --deep"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(cli: Cli, args: list[str], line: str) -> None:
    code, out, err = cli("data", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err
