"""Your own pictures are converted as `predict` converts them, cached, and rejected in one line if unusable."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_lit.data import image_folder
from mnist_lit.data.image_folder import CACHE, IMAGING, folder_classes, load_image_folder
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.imaging.find_digits import center_digit
from mnist_lit.imaging.open_picture import open_picture
from shapes import shape, shapes

Cli = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")

pytestmark = pytest.mark.usefixtures("small_calibration")


def test_a_picture_is_converted_as_for_predict_and_labeled_by_its_folder() -> None:
    shapes(train=2, val=1, test=1)
    data = load_image_folder("my-shapes")
    assert data.classes == ("circle", "square", "triangle")
    assert data.train_labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]  # those of `val` come last
    assert data.val == 3
    assert data.test_labels.tolist() == [0, 1, 2]
    converted = center_digit(open_picture("my-shapes/train/square/1.png"))
    assert data.train_images[3].numpy().tolist() == converted.tolist()


@pytest.mark.parametrize("name", [b"a\xff", b"a\x1b[2J", b"a\nb"])
def test_a_class_name_that_cannot_be_printed_is_refused(name: bytes) -> None:
    shapes(train=2, val=1, test=1)
    try:
        Path("my-shapes/train/circle").rename(os.fsdecode(b"my-shapes/train/" + name))
    except OSError:
        pytest.skip("this file system refuses such a name")
    with pytest.raises(InputError, match=r"printable names in UTF-8, got .*; rename it") as error:
        load_image_folder("my-shapes")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("my-shapes/train", "got no such folder; did you mean --data.data_dir my-shapes?"),
        ("my-shapes/test", "got no such folder; did you mean --data.data_dir my-shapes?"),
        ("my-shapes/train/circle", "got no such folder"),
        ("nods", "no folder nods"),
    ],
)
def test_a_folder_that_is_not_the_datasets_is_refused_with_the_nearest_that_may_be(folder: str, reason: str) -> None:
    shapes(train=2, test=1)
    with pytest.raises(InputError) as caught:
        folder_classes(folder)
    assert str(caught.value).endswith(reason)


def test_val_is_the_validation_split_and_without_it_val_size_applies() -> None:
    shapes()
    data = MNISTDataModule("my-shapes", "folder", batch_size=8)
    data.setup()
    assert data.val_size == len(data.val_indices) == 18
    assert data.val_indices.tolist() == list(range(72, 90))
    assert not {*data.train_indices.tolist()} & {*data.val_indices.tolist()}
    shapes("other", train=4)
    other = MNISTDataModule("other", "folder", batch_size=8, val_size=3)
    other.setup()
    assert other.in_memory.train_labels[other.val_indices].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="expected pictures in other/test/CLASS/, got none"):
        other.test_dataloader()


def test_val_counts_the_chosen_classes_only() -> None:
    shapes(train=2, val=6)
    data = MNISTDataModule("my-shapes", "folder", classes="circle,square", batch_size=4)
    data.setup()
    assert data.val_size == len(data.val_indices) == 12
    for name in ("circle", "square"):
        shutil.rmtree(Path("my-shapes/val", name))
    with pytest.raises(InputError, match=r"data\.classes: expected some with pictures in my-shapes/val, got circle,"):
        MNISTDataModule("my-shapes", "folder", classes="circle,square", batch_size=4)


def test_pictures_are_converted_once_and_again_after_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    shapes(train=2)
    first = load_image_folder("my-shapes")
    assert "reading 6 pictures" in capsys.readouterr().out
    again = load_image_folder("my-shapes")
    assert capsys.readouterr().out == ""
    assert again.train_images.equal(first.train_images)
    shape("circle", 99).save("my-shapes/train/circle/0.png")
    changed = load_image_folder("my-shapes")
    assert "reading 6 pictures" in capsys.readouterr().out
    assert not changed.train_images.equal(first.train_images)
    cache = Path("my-shapes", CACHE)
    intact = cache.read_bytes()
    for position in range(0, len(intact), 29):
        cache.write_bytes(intact[:position] + bytes([intact[position] ^ 255]) + intact[position + 1 :])
        assert load_image_folder("my-shapes").train_images.equal(changed.train_images), position
    Image.new("L", (224, 224)).save("my-shapes/train/circle/0.png.seen.png")  # as `predict --show` saves it
    assert len(load_image_folder("my-shapes").train_images) == 6


@pytest.mark.parametrize("changed", ["size", "time"])
def test_a_picture_of_another_size_or_time_is_converted_again(changed: str) -> None:
    shapes(train=1)
    path = Path("my-shapes/train/circle/0.png")
    path.write_bytes(path.read_bytes().ljust(9999, b"\0"))
    first, before = load_image_folder("my-shapes"), path.stat()
    shape("square", 1).save(path)
    path.write_bytes(path.read_bytes().ljust(9999 + (changed == "size"), b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (changed == "time")))
    assert not load_image_folder("my-shapes").train_images.equal(first.train_images)


def test_hidden_folders_are_no_classes_and_hidden_files_no_pictures() -> None:
    shapes(train=1)
    for name in (".thumbnails", "circle"):
        Path("my-shapes/train", name).mkdir(exist_ok=True)
        Path("my-shapes/train", name, ".hidden.png").write_bytes(b"no picture")
    data = load_image_folder("my-shapes")
    assert (data.classes, len(data.train_images)) == (("circle", "square", "triangle"), 3)


def test_pictures_are_converted_again_by_other_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads() -> bool:
        load_image_folder("my-shapes")
        return "reading 6 pictures" in capsys.readouterr().out

    shapes(train=2)
    assert (reads(), reads()) == (True, False)
    for name in ("cv2", "PIL"):
        monkeypatch.setattr(f"{name}.__version__", "0.0.1")
        assert (reads(), reads()) == (True, False)
    shutil.copytree(IMAGING, "imaging")
    monkeypatch.setattr(image_folder, "IMAGING", Path("imaging"))
    assert not reads()
    Path("imaging/ink.py").write_text("# changed", encoding="utf-8")
    assert (reads(), reads()) == (True, False)


def test_a_cache_that_no_folder_has_is_replaced_and_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    shapes(train=2)
    images = load_image_folder("my-shapes").train_images
    cache = Path("my-shapes", CACHE)
    intact = cache.read_bytes()
    with np.load(io.BytesIO(intact)) as arrays:
        members = {name: arrays[name] for name in arrays.files}

    def saved(kind: int, **more: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as file:
            for name, array in {**members, **more}.items():
                with file.open(f"{name}.npy", "w") as member:
                    np.save(member, array)
        return buffer.getvalue()

    capsys.readouterr()
    cache.write_bytes(saved(zipfile.ZIP_DEFLATED))
    load_image_folder("my-shapes")
    assert "reading" not in capsys.readouterr().out
    large = saved(zipfile.ZIP_DEFLATED, other=np.zeros(100_000, np.uint8))
    for content in (large, saved(zipfile.ZIP_BZIP2), saved(zipfile.ZIP_LZMA), b"PK" + bytes(1 << 20), None):
        cache.unlink()
        if content is None and hasattr(os, "mkfifo"):
            os.mkfifo(cache)
        elif content:
            cache.write_bytes(content)
        assert load_image_folder("my-shapes").train_images.equal(images)
        assert "reading 6 pictures" in capsys.readouterr().out
        assert cache.read_bytes() == intact


def test_numeric_class_names_are_in_numeric_order() -> None:
    for name in ("10", "9", "x", "2"):
        Path("few/train", name).mkdir(parents=True)
    assert folder_classes("few") == ("2", "9", "10", "x")


def test_undecodable_bytes_in_a_file_name_become_replacement_characters() -> None:
    shapes()
    odd = Path("my-shapes/test/circle", os.fsdecode(b"caf\xe9.png"))
    try:
        shape("circle", 5).save(str(odd))
    except OSError:
        pytest.skip("this file system allows no such name")
    assert "test/circle/caf\ufffd.png" in load_image_folder("my-shapes").files


def test_wrong_folders_are_rejected_in_one_line(cli: Cli) -> None:
    def rejected() -> str:
        code, _, err = cli(*FIT)
        assert (code, err.count("\n")) == (2, 1)
        assert not Path("lightning_logs").exists()
        return err

    assert "expected pictures in my-shapes/train/CLASS/" in rejected()
    Path("my-shapes/train/circle").mkdir(parents=True)
    assert "got 1 class folders" in rejected()
    Path("my-shapes/train/square").mkdir()
    assert "expected pictures in my-shapes/train/circle, got none" in rejected()
    shape("circle", 1).save("my-shapes/train/circle/a.png")
    Image.new("L", (50, 50), 255).save("my-shapes/train/square/blank.png")
    Path("my-shapes/train/square/bad.png").write_bytes(b"not a picture")
    message = rejected()
    assert "repair or remove my-shapes/train/square/bad.png: expected a picture" in message
    assert "my-shapes/train/square/blank.png: the picture is blank" in message
    Path("my-shapes/val/line").mkdir(parents=True)
    assert "my-shapes/val has the class line, my-shapes/train does not" in rejected()
    Path("my-shapes/train/circle/gone.png").symlink_to("nowhere.png")
    Path("my-shapes/val/line").rmdir()
    assert "repair or remove my-shapes/train/circle/gone.png: No such file" in rejected()


def test_continental_strokes_are_for_digits_only() -> None:
    shapes(train=1)
    with pytest.raises(InputError, match=r"data\.handwriting: expected 0 unless the classes are the digits 0 to 9"):
        MNISTDataModule("my-shapes", "folder", continental=0.3).setup()


def test_test_pictures_alone_are_enough_for_a_test() -> None:
    shapes(test=2)
    data = MNISTDataModule("my-shapes", "folder", val_size=0)
    data.setup("test")
    images = [image for batch in data.test_dataloader() for image in batch[0]]
    assert (len(images), data.classes) == (2 * data.num_classes, ("circle", "square", "triangle")[: data.num_classes])
    with pytest.raises(InputError, match="expected pictures in my-shapes/train/CLASS/, got none"):
        data.setup("fit")
    for path in Path("my-shapes/test").rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="expected pictures in my-shapes/test/CLASS/, got none"):
        MNISTDataModule("my-shapes", "folder", val_size=0).setup("test")


def test_a_test_ignores_the_options_of_training() -> None:
    """So that a model trained on MNIST can be tested on a few pictures."""
    shapes(train=1, test=1)
    data = MNISTDataModule("my-shapes", "folder", continental=0.3, val_size=5000, batch_size=256)
    data.setup("test")
    assert len(data.test_dataloader()) == 1
    for stage in ("fit", "validate", None):
        with pytest.raises(InputError, match=r"data\.continental"):
            data.setup(stage)
    small = MNISTDataModule("my-shapes", "folder", val_size=0, batch_size=1)
    small.setup("test")
    assert len(small.train_dataloader()) == len(small.train_indices)  # a test need not be the last stage
    small.setup("fit")
    assert len(small.train_dataloader()) == len(small.train_indices)
