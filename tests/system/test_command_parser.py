"""A command's options are parsed, and wrong ones are one line."""

import pytest

from mnist_lit.errors import InputError
from mnist_lit.system.command_parser import CommandParser


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


def test_options_may_stand_between_files() -> None:
    parser = CommandParser("predict", "Read digits.")
    parser.add_argument("pictures", nargs="+")
    parser.add_data_dir_argument()
    options = parser.parse_args(["a.png", "--data_dir", "b", "c.png"])
    assert (options.pictures, options.data_dir) == (["a.png", "c.png"], "b")
    options = parser.parse_args(["--data_dir", "b", "--", "-c.png"])
    assert (options.pictures, options.data_dir) == (["-c.png"], "b")
