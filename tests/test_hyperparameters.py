"""Arguments of the wrong type, and those that a subclass changes on their way, are refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.module import MNISTModule
from plain import digits


@pytest.mark.parametrize(
    ("owner", "argument", "line"),
    [
        (MNISTModule, {"lr": "0.1"}, "model.lr: expected a number, got '0.1'"),
        (MNISTModule, {"ema_decay": True}, "model.ema_decay: expected a number, got True"),
        (MNISTModule, {"num_classes": 10.0}, "model.num_classes: expected a whole number, got 10.0"),
        (MNISTModule, {"compile": "false"}, "model.compile: expected true or false, got 'false'"),
        (MNISTModule, {"seed": -1}, "model.seed: expected 0 … 2³² - 1, got -1"),
        (MNISTModule, {"init_from": None}, "model.init_from: expected text, got None"),
        (MNISTDataModule, {"batch_size": "64"}, "data.batch_size: expected a whole number, got '64'"),
        (MNISTDataModule, {"val_size": 0.1}, "data.val_size: expected a whole number, got 0.1"),
        (MNISTDataModule, {"classes": [3, 7]}, "data.classes: expected text, got [3, 7]"),
        (MNISTDataModule, {"seed": 2**32}, "data.seed: expected 0 … 2³² - 1, got 4294967296"),
        (MNISTDataModule, {"split_seed": -1}, "data.split_seed: expected 0 … 2³² - 1, got -1"),
        (MNISTDataModule, {"split_seed": 2**32}, "data.split_seed: expected 0 … 2³² - 1, got 4294967296"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_in_one_line(owner: type, argument: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        owner(**argument)
    assert str(refused.value) == line


def test_lightnings_seed_must_be_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert MNISTModule().hparams["seed"] == 7
    monkeypatch.setenv("PL_GLOBAL_SEED", "abc")
    with pytest.raises(InputError, match="PL_GLOBAL_SEED: expected a whole number, got abc"):
        MNISTModule()


def test_numbers_of_numpy_and_torch_and_paths_are_accepted() -> None:
    module = MNISTModule(lr=np.float32(0.5), ema_decay=torch.tensor(0.5), seed=np.int64(3), momentum=0)  # type: ignore[arg-type]
    assert (module.hparams["lr"], module.hparams["ema_decay"], module.hparams["seed"]) == (0.5, 0.5, 3)
    assert digits(batch_size=np.int64(8), data_dir=Path("data")).data_dir == "data"


def test_a_subclass_may_not_pass_on_another_value_than_its_own_argument_of_the_same_name() -> None:
    class Renamed(MNISTModule):
        def __init__(self, factor: float = 10, momentum: float = 0.5) -> None:
            super().__init__(lr=0.01 * factor, momentum=momentum, schedule="constant")

    class FromPath(MNISTModule):
        def __init__(self, init_from: Path = Path("pretrained")) -> None:
            super().__init__(init_from=init_from)  # type: ignore[arg-type]

    class TenTimes(MNISTModule):
        def __init__(self, lr: float = 0.01) -> None:
            super().__init__(lr=lr * 10)

    assert FromPath().hparams["init_from"] == "pretrained"
    module = Renamed()
    assert (module.hparams["lr"], module.hparams["momentum"], module.hparams["factor"]) == (0.1, 0.5, 10)
    with pytest.raises(
        InputError, match=r"^model\.lr: the subclass's argument of this name is 0\.01, but it passes on 0\.1; rename"
    ):
        TenTimes()
