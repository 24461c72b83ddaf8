"""Published files are found, verified, downloaded once and mended. On a small dataset made here."""

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import KMNIST, MNIST

from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.download import EXTRACTED_MD5, IDX_FILES, download_dataset, md5, read_archives
from mnist_lit.errors import InputError

COUNTS = {"train": 30, "t10k": 20}
NAMES = tuple(IDX_FILES.values())


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
    monkeypatch.setitem(EXTRACTED_MD5, "mnist", {name: md5(data) for name, data in files.items()})
    packed = {name: hashlib.md5(gzip.compress(data, mtime=0)).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(MNIST, "resources", [(f"{name}.gz", md5) for name, md5 in packed.items()])
    return files


def write(folder: Path, contents: dict[str, bytes], *, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        if packed:
            folder.joinpath(f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            folder.joinpath(name).write_bytes(data)


def damage(file: Path, kind: str) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if kind == "flip" else data[: len(data) // 2])


@pytest.fixture
def mirror(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> Path:
    """A mirror on this machine; its folder."""
    folder = tmp_path / "mirror"
    write(folder, contents, packed=True)
    monkeypatch.setattr(MNIST, "mirrors", [serve(folder)])
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.mark.parametrize("packed", [True, False], ids=["archives", "extracted"])
@pytest.mark.parametrize("place", ["MNIST/raw", "."])
def test_files_are_read_where_they_lie(contents: dict[str, bytes], tmp_path: Path, place: str, *, packed: bool) -> None:
    write(tmp_path / place, contents, packed=packed)
    data = load_dataset("mnist", tmp_path)
    assert data.train_images.numpy().tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert data.test_images.shape == (20, 28, 28)
    assert data.test_images.dtype == torch.uint8
    assert data.train_labels.tolist() == list(contents["train-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
@pytest.mark.parametrize("kind", ["flip", "truncate"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("offline")
def test_a_damaged_file_is_refused_by_name_and_offline_not_mended(
    contents: dict[str, bytes], tmp_path: Path, name: str, kind: str, *, packed: bool
) -> None:
    raw = tmp_path / "MNIST/raw"
    write(raw, contents, packed=packed)
    file = raw / (f"{name}.gz" if packed else name)
    damage(file, kind)
    with pytest.raises(InputError, match=rf"{file} is damaged; `mnist-lit data .*` fetches it"):
        read_archives("mnist", tmp_path)
    with pytest.raises(InputError, match=rf"{file} is damaged, and no mirror gives it \(.*refused\); put"):
        download_dataset("mnist", tmp_path)
    for path in raw.iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(InputError, match=rf"no {raw / name}.gz \({tmp_path / file.name} is not the published file\)"):
        read_archives("mnist", tmp_path)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
@pytest.mark.parametrize("kind", ["flip", "truncate"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("both", [True, False], ids=["both", "alone"])
@pytest.mark.usefixtures("mirror")
def test_a_damaged_file_is_mended(
    contents: dict[str, bytes], tmp_path: Path, name: str, kind: str, *, packed: bool, both: bool
) -> None:
    raw = tmp_path / "MNIST/raw"
    for form in {packed, packed if not both else not packed}:
        write(raw, contents, packed=form)
    whole = {path.name: path.read_bytes() for path in raw.iterdir()}
    file = raw / (f"{name}.gz" if packed else name)
    damage(file, kind)
    download_dataset("mnist", tmp_path)
    assert read_archives("mnist", tmp_path)
    now = {path.name: path.read_bytes() for path in raw.iterdir()}
    if not both and not packed:
        archive = now.pop(f"{name}.gz")  # the extracted file was mended from what was downloaded for it
        assert gzip.decompress(archive) == contents[name]
    assert now == whole


@pytest.mark.usefixtures("offline")
def test_offline_whole_contents_are_enough_and_what_stays_damaged_is_named(
    contents: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "MNIST/raw"
    for packed in (True, False):
        write(raw, contents, packed=packed)
    damage(raw / f"{NAMES[0]}.gz", "flip")
    damage(raw / NAMES[1], "truncate")
    download_dataset("mnist", tmp_path)
    out = capsys.readouterr().out
    assert f"data: {raw / NAMES[0]}.gz is damaged, and no mirror gives it" in out
    assert f"data: mended {raw / NAMES[1]}\n" in out
    assert raw.joinpath(NAMES[1]).read_bytes() == contents[NAMES[1]]


def test_a_users_own_folder_is_read_and_never_written(contents: dict[str, bytes], mirror: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write(mine, contents, packed=False)
    damage(mine / NAMES[2], "flip")
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    download_dataset("mnist", mine)
    assert {path.name: path.read_bytes() for path in mine.iterdir() if path.is_file()} == before
    assert [path.name for path in (mine / "MNIST/raw").iterdir()] == [f"{NAMES[2]}.gz"]
    assert read_archives("mnist", mine)


def test_a_missing_file_is_named_with_what_to_do(contents: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no .*raw/train-images-idx3-ubyte.gz; `mnist-lit data .*` fetches it"):
        read_archives("mnist", tmp_path)


def test_a_download_fetches_what_is_missing_and_nothing_else(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out.count("data: fetched ") == 4
    raw = tmp_path / "data/MNIST/raw"
    assert sorted(path.name for path in raw.iterdir()) == [f"{name}.gz" for name in sorted(contents)]
    assert len(load_dataset("mnist", tmp_path / "data").train_images) == 30
    raw.joinpath(f"{NAMES[3]}.gz").unlink()
    raw.joinpath(f".{NAMES[3]}.gz.123.part").touch()  # left by a kill
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out.count("data: fetched ") == 1
    assert len(list(raw.iterdir())) == 4
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("offline")
def test_no_network_is_one_line_with_a_way_out_and_leaves_no_folder(contents: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by hand") as refused:
        download_dataset("mnist", tmp_path / "mistyped/data")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_is_one_line_and_leaves_no_litter(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write to .*data.*: No space left on device; choose another"):
        download_dataset("mnist", tmp_path / "data")
    assert not tmp_path.joinpath("data").exists()


def test_a_folder_that_cannot_be_written_is_one_line(contents: dict[str, bytes], mirror: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file.*; choose another --data\.data_dir"):
        download_dataset("mnist", tmp_path / "file/data")


def test_eight_processes_at_once_make_one_download_and_see_whole_files(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, serve: Callable[..., str]
) -> None:
    asked: list[str] = []
    address = serve(mirror, asked, 0.2)  # slow, so that they meet
    facts = json.dumps([EXTRACTED_MD5["mnist"], MNIST.resources, address])
    program = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from mnist_lit.data import download
download.EXTRACTED_MD5["mnist"], resources, address = json.loads(sys.argv[1])
download._torchvision_class = lambda dataset: SimpleNamespace(resources=resources)  # a second to import, eight times
print("ready", flush=True)
input()
download.download_dataset("mnist", Path("data"), [address])
print(len(download.read_archives("mnist", Path("data"))))
"""
    start = [sys.executable, "-c", program, facts]
    processes = [subprocess.Popen(start, stdin=-1, stdout=-1, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [out.splitlines()[-1] for out in said] == ["4"] * 8
    assert sorted(asked) == sorted(f"/{name}.gz" for name in NAMES)
    assert sum("waiting for it" in out for out in said) >= 1
    assert len(list(Path("data/MNIST/raw").iterdir())) == 4


def test_another_datasets_archives_are_known_by_their_own_digest(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, contents, packed=True)  # MNIST's, which are left alone
    with pytest.raises(InputError, match=r"is not the published file\); `mnist-lit data --dataset kmnist"):
        load_dataset("kmnist", tmp_path)
    monkeypatch.setattr(KMNIST, "resources", MNIST.resources)
    monkeypatch.setattr(KMNIST, "mirrors", MNIST.mirrors)
    assert len(load_dataset("kmnist", tmp_path).test_labels) == 20
    tmp_path.joinpath("t10k-labels-idx1-ubyte.gz").unlink()
    raw = tmp_path / "KMNIST/raw"
    write(raw, {"t10k-labels-idx1-ubyte": b"nobody vouches for this"}, packed=False)
    download_dataset("kmnist", tmp_path)
    assert raw.joinpath("t10k-labels-idx1-ubyte").read_bytes() == contents["t10k-labels-idx1-ubyte"]
    assert {path.name for path in raw.iterdir()} == {"t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"}
