"""Wrong options are one line with the nearest valid name."""

import pytest

from mnist_lit.errors import InputError
from mnist_lit.system.arguments import CommandParser, did_you_mean, explain_error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--modle", "x"], "unknown option modle; did you mean model?"),
        (["--data_dri", "x"], "unknown option data_dri; did you mean data_dir?"),
        (["--model"], "argument --model/--ckpt_path: expected one argument"),
    ],
)
def test_a_parser_raises_one_line(args: list[str], message: str) -> None:
    parser = CommandParser("predict", "Read digits.")
    parser.add_model_argument("the model")
    parser.add_data_dir_argument()
    assert parser.parse_args(["--ckpt_path", "a", "--data_dir", "b"]).model == "a"
    with pytest.raises(InputError) as caught:
        parser.parse_args(args)
    assert str(caught.value) == message


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
