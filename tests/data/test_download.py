"""Published files are found, verified, downloaded once and repaired; a mirror that fails is named with its reason.

The files are small ones made here, the mirrors are servers on this machine.
"""

import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torchvision.datasets import KMNIST, MNIST

from mnist_lit.data import download
from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.download import (
    EXTRACTED_MD5,
    IDX_FILES,
    AllMirrorsFailed,
    download_dataset,
    download_file,
    md5,
    read_archives,
)
from mnist_lit.errors import InputError

COUNTS = {"train": 30, "t10k": 20}
NAMES = tuple(IDX_FILES.values())
DATA = bytes(range(256)) * 800  # what a working mirror sends


def idx(values: np.ndarray) -> bytes:
    """The IDX format as described: 0, 0, type 8 (unsigned byte), number of dimensions, sizes, values."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files that stand in for MNIST's."""
    rng = np.random.default_rng(0)
    files = {}
    for part, count in COUNTS.items():
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setitem(EXTRACTED_MD5, "mnist", {name: md5(data) for name, data in files.items()})
    archives = [(f"{name}.gz", hashlib.md5(gzip.compress(data, mtime=0)).hexdigest()) for name, data in files.items()]
    monkeypatch.setattr(MNIST, "resources", archives)
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
    """The folder of a mirror that serves the files."""
    folder = tmp_path / "mirror"
    write(folder, contents, packed=True)
    monkeypatch.setattr(MNIST, "mirrors", [serve(folder)])
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.mark.parametrize("packed", [True, False], ids=["archives", "extracted"])
@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
def test_files_are_read_in_place(contents: dict[str, bytes], tmp_path: Path, folder: str, *, packed: bool) -> None:
    write(tmp_path / folder, contents, packed=packed)
    data = load_dataset("mnist", tmp_path)
    assert data.train_images.numpy().tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert data.test_images.shape == (20, 28, 28)
    assert data.test_images.dtype == torch.uint8
    assert data.train_labels.tolist() == list(contents["train-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
@pytest.mark.parametrize("kind", ["flip", "truncate"])
@pytest.mark.usefixtures("offline")
def test_a_damaged_file_is_rejected_by_name_and_offline_not_repaired(
    contents: dict[str, bytes], tmp_path: Path, kind: str, *, packed: bool
) -> None:
    for name in NAMES:
        data_dir = tmp_path / name
        raw = data_dir / "MNIST/raw"
        write(raw, contents, packed=packed)
        file = raw / (f"{name}.gz" if packed else name)
        damage(file, kind)
        with pytest.raises(InputError, match=rf"{file} is damaged; download it with `mnist-lit data .*`"):
            read_archives("mnist", data_dir)
        remedy = r"replace that file by hand, or try"
        with pytest.raises(InputError, match=rf"{file} is damaged, and every mirror failed \(.*refused\); {remedy}"):
            download_dataset("mnist", data_dir)
        for path in raw.iterdir():
            path.rename(data_dir / path.name)
        moved = data_dir / file.name
        with pytest.raises(InputError, match=rf"no {raw / name}.gz \({moved} is not the published file\)"):
            read_archives("mnist", data_dir)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
def test_no_file_is_read_beyond_the_size_of_the_largest(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    zeros = idx(np.zeros((30, 28, 28), np.uint8))  # unlike random ones, smaller as an archive
    monkeypatch.setitem(EXTRACTED_MD5["mnist"], NAMES[0], md5(zeros))
    write(tmp_path / "MNIST/raw", {**contents, NAMES[0]: zeros}, packed=packed)
    largest = len(zeros)
    monkeypatch.setattr("mnist_lit.data.download.MAX_BYTES", largest)
    assert read_archives("mnist", tmp_path)
    monkeypatch.setattr("mnist_lit.data.download.MAX_BYTES", largest - 2)
    with pytest.raises(InputError, match=rf"{NAMES[0]}(\.gz)? is damaged"):
        read_archives("mnist", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.usefixtures("mirror")
def test_a_pipe_is_replaced_and_not_waited_for(contents: dict[str, bytes], tmp_path: Path) -> None:
    raw = tmp_path / "MNIST/raw"
    write(raw, contents, packed=False)
    raw.joinpath(NAMES[0]).unlink()
    os.mkfifo(raw / NAMES[0])
    download_dataset("mnist", tmp_path)
    assert raw.joinpath(NAMES[0]).read_bytes() == contents[NAMES[0]]


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "extracted"])
@pytest.mark.parametrize("kind", ["flip", "truncate"])
@pytest.mark.parametrize("both", [True, False], ids=["both", "alone"])
@pytest.mark.usefixtures("mirror")
def test_a_damaged_file_is_repaired(
    contents: dict[str, bytes], tmp_path: Path, kind: str, *, packed: bool, both: bool
) -> None:
    for name in NAMES:
        raw = tmp_path / name / "MNIST/raw"
        for form in {packed, packed if not both else not packed}:
            write(raw, contents, packed=form)
        before = {path.name: path.read_bytes() for path in raw.iterdir()}
        damage(raw / (f"{name}.gz" if packed else name), kind)
        download_dataset("mnist", tmp_path / name)
        assert read_archives("mnist", tmp_path / name)
        after = {path.name: path.read_bytes() for path in raw.iterdir()}
        if not both and not packed:
            archive = after.pop(f"{name}.gz")  # downloaded to repair the extracted file
            assert gzip.decompress(archive) == contents[name]
        assert after == before


@pytest.mark.usefixtures("offline")
def test_offline_intact_copies_suffice_and_what_stays_damaged_is_named(
    contents: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "MNIST/raw"
    for packed in (True, False):
        write(raw, contents, packed=packed)
    damage(raw / f"{NAMES[0]}.gz", "flip")
    damage(raw / NAMES[1], "truncate")
    download_dataset("mnist", tmp_path)
    out = capsys.readouterr().out
    assert f"data: {raw / NAMES[0]}.gz is damaged, and every mirror failed" in out
    assert f"data: repaired {raw / NAMES[1]}\n" in out
    assert raw.joinpath(NAMES[1]).read_bytes() == contents[NAMES[1]]


def test_the_users_folder_is_read_and_never_written(contents: dict[str, bytes], mirror: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "mine"
    write(data_dir, contents, packed=False)
    damage(data_dir / NAMES[2], "flip")
    before = {path.name: path.read_bytes() for path in data_dir.iterdir()}
    download_dataset("mnist", data_dir)
    assert {path.name: path.read_bytes() for path in data_dir.iterdir() if path.is_file()} == before
    assert [path.name for path in (data_dir / "MNIST/raw").iterdir()] == [f"{NAMES[2]}.gz"]
    assert read_archives("mnist", data_dir)


def test_a_missing_file_is_named_with_the_command_that_downloads_it(contents: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no .*raw/train-images-idx3-ubyte.gz; download it with `mnist-lit data .*`"):
        read_archives("mnist", tmp_path)


def test_only_missing_files_are_downloaded(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out.count("data: downloaded ") == 4
    raw = tmp_path / "data/MNIST/raw"
    assert sorted(path.name for path in raw.iterdir()) == [f"{name}.gz" for name in sorted(contents)]
    assert len(load_dataset("mnist", tmp_path / "data").train_images) == 30
    raw.joinpath(f"{NAMES[3]}.gz").unlink()
    raw.joinpath(f".{NAMES[3]}.gz.123.part").touch()  # left by a killed process
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out.count("data: downloaded ") == 1
    assert len(list(raw.iterdir())) == 4
    download_dataset("mnist", tmp_path / "data")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("offline")
def test_without_a_network_one_line_offers_alternatives_and_no_folder_is_left(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"; put the four .gz files into .*MNIST/raw by hand, or try") as caught:
        download_dataset("mnist", tmp_path / "mistyped/data")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_no_partial_files(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write to .*data.*: No space left on device; choose another"):
        download_dataset("mnist", tmp_path / "data")
    assert not tmp_path.joinpath("data").exists()


def test_an_unwritable_folder_is_one_line(contents: dict[str, bytes], mirror: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file.*; choose another --data\.data_dir"):
        download_dataset("mnist", tmp_path / "file/data")


def test_eight_concurrent_processes_download_once_and_see_complete_files(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, serve: Callable[..., str]
) -> None:
    requested: list[str] = []
    url = serve(mirror, requested, 0.2)  # slow, so that the processes overlap
    arguments = json.dumps([EXTRACTED_MD5["mnist"], MNIST.resources, url])
    program = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from mnist_lit.data import download
download.EXTRACTED_MD5["mnist"], resources, url = json.loads(sys.argv[1])
download._torchvision_class = lambda dataset: SimpleNamespace(resources=resources)  # torchvision imports slowly
print("ready", flush=True)
input()
download.download_dataset("mnist", Path("data"), [url])
print(len(download.read_archives("mnist", Path("data"))))
"""
    start = [sys.executable, "-c", program, arguments]
    processes = [subprocess.Popen(start, stdin=-1, stdout=-1, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [out.splitlines()[-1] for out in outputs] == ["4"] * 8
    assert sorted(requested) == sorted(f"/{name}.gz" for name in NAMES)
    assert sum("waiting for it" in out for out in outputs) >= 1
    assert len(list(Path("data/MNIST/raw").iterdir())) == 4


def test_another_datasets_archives_are_verified_by_their_own_md5(
    contents: dict[str, bytes], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, contents, packed=True)  # MNIST's files, which must stay as they are
    with pytest.raises(
        InputError, match=r"is not the published file\); download it with `mnist-lit data --dataset kmnist"
    ):
        load_dataset("kmnist", tmp_path)
    monkeypatch.setattr(KMNIST, "resources", MNIST.resources)
    monkeypatch.setattr(KMNIST, "mirrors", MNIST.mirrors)
    assert len(load_dataset("kmnist", tmp_path).test_labels) == 20
    tmp_path.joinpath("t10k-labels-idx1-ubyte.gz").unlink()
    raw = tmp_path / "KMNIST/raw"
    write(raw, {"t10k-labels-idx1-ubyte": b"of unknown md5"}, packed=False)
    download_dataset("kmnist", tmp_path)
    assert raw.joinpath("t10k-labels-idx1-ubyte").read_bytes() == contents["t10k-labels-idx1-ubyte"]
    assert {path.name for path in raw.iterdir()} == {"t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"}


class FaultyMirror(http.server.BaseHTTPRequestHandler):
    """Misbehaves in the way that the first part of the path names."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind.isdigit():
            self.send_error(int(kind))
            return
        body = b"<html>we have moved</html>" if kind == "html" else DATA
        if kind == "mute":
            time.sleep(2)
            return
        self.send_response(200)
        if kind != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind in ("cut", "stall"):
            body = body[:1000]
        try:
            for i in range(0, len(body), 1 if kind == "drip" else len(body)):
                self.wfile.write(body[i : i + 1] if kind == "drip" else body)
                time.sleep(0.05 if kind == "drip" else 0)
        except OSError:
            pass  # the client has disconnected
        time.sleep(1 if kind == "stall" else 0)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def faulty_mirrors() -> Iterator[str]:
    """A base URL; append the fault."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FaultyMirror)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("403", "answered 403 Forbidden"),
        ("404", "answered 404 Not Found"),
        ("503", "answered 503 Service Unavailable"),
        ("html", "sent 26 bytes that are not this file (a web page)"),
        ("cut", "cut off after 1,000 of 204,800 bytes"),
        ("mute", "no answer in time"),
        ("stall", "stalled after 1,000 bytes"),
        ("drip", "not finished after 0.5 s"),
    ],
)
def test_a_failed_mirror_is_named_with_its_reason_and_the_next_is_tried(
    faulty_mirrors: str, kind: str, reason: str
) -> None:
    with pytest.raises(AllMirrorsFailed) as caught:
        download_file("file", [f"{faulty_mirrors}/{kind}/"], md5(DATA), 0.5)
    assert str(caught.value) == f"{faulty_mirrors}/{kind}/: {reason}"
    good = f"{faulty_mirrors}/good"
    assert download_file("file", [f"{faulty_mirrors}/{kind}", good], md5(DATA), 0.5) == (DATA, good)


def test_a_mirror_that_stalls_is_given_up_long_before_the_time_is_over(
    faulty_mirrors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.3)
    with pytest.raises(AllMirrorsFailed, match="stalled after 1,000 bytes"):
        download_file("file", [f"{faulty_mirrors}/stall"], md5(DATA), 60)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_how_much_has_arrived(
    faulty_mirrors: str, monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    monkeypatch.setattr(download, "Console", lambda **_: console)
    download_file("file", [f"{faulty_mirrors}/good"], md5(DATA), 5)
    assert ("204.8/204.8 kB" in screen.getvalue()) == terminal
    assert bool(screen.getvalue()) == terminal


@pytest.mark.parametrize("kind", ["good", "unsized"])
def test_a_file_is_complete_with_and_without_a_content_length(faulty_mirrors: str, kind: str) -> None:
    assert download_file("file", [f"{faulty_mirrors}/{kind}"], md5(DATA), 5)[0] == DATA


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [("http://127.0.0.1:9", "Connection refused"), ("nowhere", "unknown url type"), ("http://[::1", "Invalid IPv6")],
)
def test_an_unreachable_or_malformed_url_is_named(mirror: str, reason: str) -> None:
    with pytest.raises(AllMirrorsFailed, match=reason):
        download_file("file", [mirror], md5(DATA), 5)


def test_a_mirror_that_sends_too_much_is_given_up(faulty_mirrors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.data.download.MAX_BYTES", 1000)
    with pytest.raises(AllMirrorsFailed, match="sent more than 1,000 bytes"):
        download_file("file", [f"{faulty_mirrors}/good"], md5(DATA), 5)


@pytest.mark.parametrize("given", ["", ",", [""], ", {}"])
@pytest.mark.usefixtures("mirror")
def test_an_empty_address_is_not_a_mirror(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str | list[str]
) -> None:
    usual = MNIST.mirrors[0]
    download_dataset("mnist", tmp_path, given.format(usual) if isinstance(given, str) else given)
    assert capsys.readouterr().out.count(f" from {usual}\n") == 4


@pytest.mark.usefixtures("contents")
def test_a_comma_after_the_last_mirror_adds_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"every mirror failed \(http://127\.0\.0\.1:9/: [^;]*refused\); "):
        download_dataset("mnist", tmp_path, "http://127.0.0.1:9/,")


def test_an_empty_list_of_mirrors_is_an_error() -> None:
    with pytest.raises(AllMirrorsFailed, match="no mirrors given"):
        download_file("file", [], md5(DATA), 5)
