"""A checkpoint's data module holds the data and the split that it was trained on."""

from pathlib import Path

import pytest
import torch
import yaml

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint, require_same_data
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY


def test_the_split_is_the_runs_own(trained: Path, digits_data: MNISTDataModule) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    data = datamodule_from_checkpoint(content, "elsewhere")
    assert data.data_dir == "elsewhere"
    assert torch.equal(data.val_indices, digits_data.val_indices)
    require_same_data(content, data, "best.ckpt")


def test_other_data_is_refused_in_one_line(trained: Path, digits_data: MNISTDataModule) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    content[METADATA_KEY]["data"] = "0" * 32
    with pytest.raises(InputError, match=r"^best\.ckpt was trained on different data from that in data; .*--data_dir$"):
        require_same_data(content, digits_data, "best.ckpt")


def test_nothing_is_downloaded_on_request(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[MNISTDataModule] = []
    monkeypatch.setattr(MNISTDataModule, "prepare_data", lambda self: prepared.append(self))
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert datamodule_from_checkpoint(content, download=False).in_memory
    assert prepared == []
    assert [datamodule_from_checkpoint(content)] == prepared  # the control


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"foo": 1}, "describes no data that can be read: .*foo.*: .*unexpected keyword argument 'foo'$"),
        ({"batch_size": "abc"}, "^data.batch_size: expected a whole number, got 'abc'$"),
        ({"classes": 5}, "^data.classes: expected text, got 5$"),
    ],
    ids=str,
)
def test_settings_without_a_meaning_are_refused_in_one_line(
    trained: Path, damage: dict[str, object], reason: str
) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    config = yaml.safe_load(content[METADATA_KEY]["config"])
    config["data"] |= damage
    content[METADATA_KEY]["config"] = yaml.safe_dump(config)
    with pytest.raises(InputError, match=reason):
        datamodule_from_checkpoint(content)
