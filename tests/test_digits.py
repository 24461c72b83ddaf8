"""Files are found, verified and parsed; what is altered is refused. On a small dataset made here."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import KMNIST, MNIST

from mnist_lit import digits
from mnist_lit.errors import InputError

COUNTS = {"train": 30, "t10k": 20}


def idx(values: np.ndarray) -> bytes:
    """The IDX format by its description: 0, 0, type 8 (unsigned byte), dimensions, sizes, bytes."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files, published in MNIST's place."""
    rng = np.random.default_rng(0)
    files = {}
    for part, count in COUNTS.items():
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setitem(digits.EXTRACTED, "mnist", {name: digits.digest(data) for name, data in files.items()})
    archives = {name: hashlib.md5(gzip.compress(data, mtime=0)).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(MNIST, "resources", [(f"{name}.gz", md5) for name, md5 in archives.items()])
    return files


def write(folder: Path, contents: dict[str, bytes], *, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        if packed:
            folder.joinpath(f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            folder.joinpath(name).write_bytes(data)


@pytest.fixture
def mirror(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> Path:
    """A mirror on this machine; its folder."""
    folder = tmp_path / "mirror"
    write(folder, contents, packed=True)
    monkeypatch.setattr(MNIST, "mirrors", [serve(folder)])
    return folder


@pytest.mark.parametrize("packed", [True, False], ids=["archives", "extracted"])
@pytest.mark.parametrize("place", ["MNIST/raw", "."])
def test_files_are_read_where_they_lie(contents: dict[str, bytes], tmp_path: Path, place: str, *, packed: bool) -> None:
    write(tmp_path / place, contents, packed=packed)
    data = digits.load("mnist", tmp_path)
    assert data.train_images.numpy().tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert data.test_images.shape == (20, 28, 28)
    assert data.test_images.dtype == torch.uint8
    assert data.train_labels.tolist() == list(contents["train-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
@pytest.mark.parametrize("name", digits.FILES.values())
def test_an_altered_file_is_refused_by_name(
    contents: dict[str, bytes], tmp_path: Path, name: str, damage: str, *, packed: bool
) -> None:
    write(tmp_path, contents, packed=packed)
    file = tmp_path / (f"{name}.gz" if packed else name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    with pytest.raises(InputError, match=rf"{file.name}: not as it was published\); run `mnist-lit data"):
        digits.load("mnist", tmp_path)


def test_an_altered_extracted_file_is_passed_over_for_its_archive(contents: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path, contents, packed=True)
    tmp_path.joinpath("t10k-labels-idx1-ubyte").write_bytes(b"nonsense")
    assert digits.load("mnist", tmp_path).test_labels.tolist() == [n % 10 for n in range(20)]


def test_a_missing_file_is_named_with_what_to_do(contents: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no train-images-idx3-ubyte.gz of mnist in .*raw; run `mnist-lit data"):
        digits.load("mnist", tmp_path)


def test_a_download_fetches_what_is_missing_and_nothing_else(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(digits.fetch("mnist", tmp_path / "data")) == 4
    assert sorted(path.name for path in (tmp_path / "data/MNIST/raw").iterdir()) == [
        f"{n}.gz" for n in sorted(contents)
    ]
    assert len(digits.load("mnist", tmp_path / "data").train_images) == 30
    assert digits.fetch("mnist", tmp_path / "data") == []


def test_an_altered_file_is_downloaded_again(contents: dict[str, bytes], mirror: Path, tmp_path: Path) -> None:
    write(tmp_path / "MNIST/raw", contents, packed=True)
    broken = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    assert digits.fetch("mnist", tmp_path) == [broken]
    assert len(digits.load("mnist", tmp_path).test_images) == 20


def test_a_mirror_that_sends_something_else_leaves_nothing_behind(mirror: Path, tmp_path: Path) -> None:
    for file in mirror.iterdir():
        file.write_text("<html>we have moved</html>")
    with pytest.raises(InputError, match="cannot download"):
        digits.fetch("mnist", tmp_path / "data")
    assert not list((tmp_path / "data/MNIST/raw").iterdir())


def test_no_network_is_one_line_with_a_way_out(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError, match="by hand") as refused:
        digits.fetch("mnist", tmp_path)
    assert "\n" not in str(refused.value)


def test_another_datasets_archives_are_known_by_their_own_digest(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, contents, packed=True)  # MNIST's, which are left alone
    with pytest.raises(InputError, match=r"run `mnist-lit data --dataset kmnist"):
        digits.load("kmnist", tmp_path)
    monkeypatch.setattr(KMNIST, "resources", MNIST.resources)
    monkeypatch.setattr(KMNIST, "mirrors", MNIST.mirrors)
    assert len(digits.load("kmnist", tmp_path).test_labels) == 20
    tmp_path.joinpath("t10k-labels-idx1-ubyte.gz").unlink()
    assert digits.fetch("kmnist", tmp_path) == [tmp_path / "KMNIST/raw/t10k-labels-idx1-ubyte.gz"]


def test_the_embedded_digits_are_scikit_learns_each_once() -> None:
    data = digits.load("digits", "unused")
    _, labels = load_digits(return_X_y=True)
    assert (len(data.train_labels), len(data.test_labels)) == (1437, 360)
    assert torch.cat((data.train_labels, data.test_labels)).bincount().tolist() == np.bincount(labels).tolist()
    images = torch.cat((data.train_images, data.test_images)).flatten(1)
    assert len(torch.unique(images, dim=0)) == len(images)


def test_embedded_digits_fill_the_box_and_sit_in_the_middle() -> None:
    images = digits.load("digits", "unused").train_images
    for axis in (1, 2):
        filled = images.amax(dim=3 - axis) > 0
        assert int(filled.sum(dim=1).max()) == 20
    mass = images.double().sum(dim=1)
    centre = (mass @ (torch.arange(28).double() + 0.5)) / mass.sum(dim=1)
    assert (centre - 14).abs().max() <= 0.51


def test_a_split_is_stratified_whole_and_by_seed() -> None:
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    rest, chosen = digits.stratified_split(labels, 101, seed=0)
    assert torch.cat((rest, chosen)).sort().values.equal(torch.arange(1000))
    assert len(chosen) == 101
    assert (labels[chosen].bincount() - torch.tensor([50.5, 30.3, 20.2])).abs().max() < 1
    assert chosen.equal(digits.stratified_split(labels, 101, seed=0)[1])
    assert not chosen.equal(digits.stratified_split(labels, 101, seed=1)[1])


def test_the_fingerprint_sees_one_flipped_bit() -> None:
    data = digits.load("digits", "unused")
    before = data.fingerprint()
    assert before == digits.load("digits", "unused").fingerprint()
    data.test_images[-1, -1, -1] ^= 1
    assert data.fingerprint() != before
