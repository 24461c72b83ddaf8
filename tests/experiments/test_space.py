"""A search space is read from YAML, and errors name the option."""

from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range, read_space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got no mapping"),
        ("model.lr: 3", "expected a list"),
        ("model.lr: []", "expected a list"),
        ("model.lr: [[1]]", "expected a list"),
        ("model.lr: [1, 2, 1.0]", r"model.lr: expected values that all differ, got \[1, 2, 1.0\]"),
        ("model.lr: {low: 1}", "expected a list"),
        ("model.lr: {low: 1, high: 2, lag: true}", "expected a list"),
        ("model.lr: {low: 2, high: 1}", "expected low ≤ high"),
        ("model.lr: {low: x, high: 1}", "low: expected a number"),
        ("model.lr: {low: 0, high: 1, log: true}", "low > 0"),
        ("model.lr: {low: 1, high: .inf}", "both finite"),
        ("model.lr: {low: 1, high: 2, step: 0}", "expected more than 0"),
        ("model.lr: {low: 1, high: 2, step: .nan}", "expected more than 0"),
        ("model.lr: {low: 1, high: 4, step: 2}", "step: expected one that divides the range 1 to 4"),
        ("model.lr: {low: 1, high: 2, step: 1e10}", "step: expected one that divides the range 1 to 2"),
        ("model.lr: {low: 0, high: 1e308, step: 1e-10}", "step: expected one that divides"),
        ("model.lr: {", "cannot be read as YAML"),
    ],
)
def test_an_error_in_a_space_names_the_option(text: str, message: str) -> None:
    Path("space.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_space(Path("space.yaml"))


def test_numbers_may_have_exponents() -> None:
    Path("space.yaml").write_text(
        "a: {low: 1e-3, high: 1e1, log: true}\nb: {low: 1, high: 9, step: 2}\nc: [x, null]\n"
        "d: {low: 0, high: 0.3, step: 0.1}\n"
    )
    assert read_space(Path("space.yaml")) == {
        "a": Range(0.001, 10.0, log=True),
        "b": Range(1, 9, 2),
        "c": ["x", None],
        "d": Range(0, 0.3, 0.1),
    }
