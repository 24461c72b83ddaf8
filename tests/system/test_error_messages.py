"""Wrong options are one line with the nearest valid name."""

import pytest

from mnist_lit.system.error_messages import did_you_mean, explain_error


def test_other_frameworks_names_are_understood() -> None:
    assert did_you_mean("train", ["fit", "test"]) == "; did you mean fit?"
    assert did_you_mean("trainer.gpus", ["trainer.devices"]) == "; did you mean trainer.devices?"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Parser key \"a.b\":\n  Expected a <class 'int'>. Got value: x", "a.b: expected a whole number, got x"),
        ("Parser key \"a.b\":\n  Expected a <class 'path.Class'>. Got value: x", "a.b: cannot take x"),
        (
            'Parser key "model.network":\n  Not a subclass. Got value: my_package',
            "model.network: cannot take my_package; name a class of your own with its module, as in my_package.MyNet",
        ),
        ("Parser key \"a.b\":\n  Expected a <class 'int'>. Got value: ", "a.b: expected a whole number, got nothing"),
        ("argument --size: invalid float value: ''", "--size: expected a number, got nothing"),
        ("argument -h/--help: ignored explicit argument '1'", "--help: expected no value, got 1"),
        ("Call to compute_fn of link 'a' failed: too\n  many", "too many"),
        ('Parser key "model":\nUnable to load config \'a.B\'\n  - Parser key "model": Unable to load config "a.B"',
            "model: expected options such as --model.lr 0.1; a network of your own is --model.network package.Class"),
        ("Subtypes: [<class 'torch.nn.modules.module.Module'>]\nErrors:\n  - one\n    and two\n  - Expected a <class "
            "'NoneType'>\nGiven value: Namespace(class_path='a.Net')", "model.network: Net: one and two"),
        ("Parser key \"model.network\":\n  Problem with given class_path 'a.Net':\n    No module named 'a'\nGiven "
            "value: a", "model.network: Net: No module named 'a'; modules are searched for in installed packages "
            "and in the working directory"),
        ('Parser key "data":\nUnable to load config \'My\'\n  - Parser key "data": Unable to load config "My"',
            "data: expected options such as --data.batch_size 64; your own pictures are --data.dataset folder "
            "--data.data_dir FOLDER"),
        ("Parser key \"trainer.logger\":\n  Errors:\n    - Not a valid subclass of Logger\n      Subclass types expect "
            "one of:\n      - a class path (str)\n    - Problem with given class_path 'a.CSVLogger':\n        the "
            "following arguments are required: save_dir\n  Given value type: <class 'list'>\n  Given value: [Namespace("
            "class_path='a.CSVLogger')]",
            "trainer.logger: CSVLogger: the following arguments are required: save_dir"),
        ("Parser key \"a.b\":\n  Problem with given class_path 'pathlib.PosixPth':\n    module 'pathlib' has no "
            "attribute 'PosixPth'\nGiven value: a", "a.b: PosixPth: module 'pathlib' has no attribute 'PosixPth'; did "
            "you mean PosixPath?"),
        ("Subcommand 'fit' does not accept option 'data.class_path'", "unknown option data.class_path; a data module "
            "or loaders of your own are used in Python, see docs/lightning.md"),
        ("Subcommand 'fit' does not accept option 'model.class_path'", "unknown option model.class_path; a "
            "LightningModule of your own is trained in Python, see docs/own-module.md"),
    ],
)  # fmt: skip
def test_jsonargparses_errors_become_one_line(message: str, line: str) -> None:
    assert explain_error(message, []) == line
