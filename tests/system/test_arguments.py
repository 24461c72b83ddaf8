"""Wrong options are one line with the nearest valid name."""

import pytest

from mnist_lit.system.arguments import did_you_mean, explain_error


def test_other_frameworks_names_are_understood() -> None:
    assert did_you_mean("train", ["fit", "test"]) == "; did you mean fit?"
    assert did_you_mean("trainer.gpus", ["trainer.devices"]) == "; did you mean trainer.devices?"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Parser key \"a.b\":\n  Expected a <class 'int'>. Got value: x", "a.b: expected a whole number, got x"),
        ("Parser key \"a.b\":\n  Expected a <class 'path.Class'>. Got value: x", "a.b: cannot take x"),
        ("Call to compute_fn of link 'a' failed: too\n  many", "too many"),
    ],
)
def test_jsonargparses_errors_become_one_line(message: str, line: str) -> None:
    assert explain_error(message, []) == line
