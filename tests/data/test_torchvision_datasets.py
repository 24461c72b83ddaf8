"""EMNIST and QMNIST as torchvision reads them: orientation, labels from 0, class names. The files are made here."""

import string
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.download import download_lock
from mnist_lit.data.torchvision_datasets import emnist_classes, load_from_torchvision
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an IDX file of bytes, as LeCun's page describes it."""
    head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def upright(count: int) -> np.ndarray:
    """Pictures of a stroke in the first row, as a reader sees them: uint8 (count, 28, 28)."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, :] = 200
    return images


def write_emnist(root: Path, split: str, labels: list[int]) -> None:
    for part in ("train", "test"):
        stem = root / "EMNIST/raw" / f"emnist-{split}-{part}"
        write_idx(Path(f"{stem}-images-idx3-ubyte"), upright(len(labels)).transpose(0, 2, 1))
        write_idx(Path(f"{stem}-labels-idx1-ubyte"), np.array(labels))


def test_emnist_letters_are_upright_and_counted_from_0(tmp_path: Path) -> None:
    write_emnist(tmp_path, "letters", [1, 2, 26])
    data = load_dataset("emnist", tmp_path, "letters")
    assert torch.from_numpy(upright(3)).equal(data.train_images)
    assert data.test_labels.tolist() == [0, 1, 25]
    assert data.classes == tuple(string.ascii_lowercase)
    assert [data.classes[label] for label in data.test_labels] == ["a", "b", "z"]


def test_emnist_has_the_published_classes() -> None:
    assert emnist_classes("digits") == tuple(string.digits)
    balanced = emnist_classes("balanced")
    assert len(balanced) == 47
    assert balanced[10] == "A"
    assert balanced[46] == "t"


def test_a_data_module_trains_on_a_part_of_emnist(tmp_path: Path) -> None:
    write_emnist(tmp_path, "letters", [*range(1, 27)] * 2)
    data = MNISTDataModule(str(tmp_path), "emnist", split="letters", classes="a,c", val_size=0, batch_size=4)
    data.prepare_data()
    data.setup()
    assert data.classes == ("a", "c")
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (4, 1, 28, 28)
    assert sorted(y.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize("dataset", ["emnist", "qmnist"])
def test_missing_files_give_one_line(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(InputError, match=rf"data\.dataset: cannot read {dataset} in .*: ") as caught:
        load_from_torchvision(dataset, "digits", tmp_path)
    assert "\n" not in str(caught.value)


def test_of_two_processes_one_downloads_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    downloaded: list[object] = []
    for name in ("download_url", "download_and_extract_archive"):
        monkeypatch.setattr(
            f"torchvision.datasets.mnist.{name}", lambda *args, **_: downloaded.append(args), raising=False
        )
    data = MNISTDataModule(str(tmp_path), "emnist", split="letters", val_size=0)
    waiting = threading.Thread(target=data.prepare_data, daemon=True)
    deadline = time.monotonic() + 60
    with download_lock(tmp_path / "EMNIST"):
        waiting.start()
        printed = ""
        while "another process is downloading" not in printed:
            assert waiting.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
            printed += capsys.readouterr().out
        write_emnist(tmp_path, "letters", [1, 2])
    waiting.join(60)
    assert not waiting.is_alive()
    assert not downloaded
    assert data.num_classes == 26


def test_a_folder_that_cannot_be_made_gives_one_line(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file/EMNIST: Not a directory"):
        MNISTDataModule(str(tmp_path / "file"), "emnist", split="letters").prepare_data()
