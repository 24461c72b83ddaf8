"""Pictures of one's own: read by the same door as `predict`, with the names of their classes all the way."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mnist_lit.data.image_folder import CACHE, folder_classes, load_image_folder
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import center_digit
from mnist_lit.imaging.open_picture import open_picture
from mnist_lit.inference.reader import DigitReader
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import METADATA_KEY, class_names_of, load_checkpoint, network_of, strip_for_sharing
from mnist_lit.runs.folders import LOGS, newest_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.results import read_predictions
from shapes import shape, shapes

Cli = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")


def test_a_picture_is_what_predict_sees_and_belongs_to_its_folder() -> None:
    shapes(train=2, val=1, test=1)
    data = load_image_folder("my-shapes")
    assert data.classes == ("circle", "square", "triangle")
    assert data.train_labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]  # those of `val` last
    assert data.val == 3
    assert data.test_labels.tolist() == [0, 1, 2]
    seen = center_digit(open_picture("my-shapes/train/square/1.png"))
    assert data.train_images[3].numpy().tolist() == seen.tolist()


def test_val_is_what_is_set_aside_and_without_it_the_usual_share() -> None:
    shapes()
    data = MNISTDataModule("my-shapes", "folder", batch_size=8)
    data.setup()
    assert data.val_size == len(data.val_indices) == 18
    assert data.val_indices.tolist() == list(range(72, 90))
    assert not {*data.train_indices.tolist()} & {*data.val_indices.tolist()}
    shapes("other", train=4)
    other = MNISTDataModule("other", "folder", batch_size=8, val_size=3)
    other.setup()
    assert other.digits
    assert other.digits.train_labels[other.val_indices].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="expected pictures in other/test/CLASS/, got none"):
        other.test_dataloader()


def test_pictures_are_read_once_and_again_after_a_change(capsys: pytest.CaptureFixture[str]) -> None:
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
    kept = Path("my-shapes", CACHE)
    whole = kept.read_bytes()
    for place in range(0, len(whole), 29):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        assert load_image_folder("my-shapes").train_images.equal(changed.train_images), place
    Image.new("L", (224, 224)).save("my-shapes/train/circle/0.png.seen.png")  # as `predict --show` makes it
    assert len(load_image_folder("my-shapes").train_images) == 6


def test_numbers_are_classes_in_their_order() -> None:
    for name in ("10", "9", "x", "2"):
        Path("few/train", name).mkdir(parents=True)
    assert folder_classes("few") == ("2", "9", "10", "x")


def test_a_file_whose_name_is_no_text_is_told_with_question_marks() -> None:
    shapes()
    odd = Path("my-shapes/test/circle", os.fsdecode(b"caf\xe9.png"))
    try:
        shape("circle", 5).save(str(odd))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert "test/circle/caf\ufffd.png" in load_image_folder("my-shapes").files


def test_wrong_folders_are_refused_in_one_line(cli: Cli) -> None:
    def refused() -> str:
        code, _, err = cli(*FIT)
        assert (code, err.count("\n")) == (2, 1)
        assert not Path("lightning_logs").exists()
        return err

    assert "expected pictures in my-shapes/train/CLASS/" in refused()
    Path("my-shapes/train/circle").mkdir(parents=True)
    assert "got 1 of them" in refused()
    Path("my-shapes/train/square").mkdir()
    assert "no picture in my-shapes/train/circle" in refused()
    shape("circle", 1).save("my-shapes/train/circle/a.png")
    Image.new("L", (50, 50), 255).save("my-shapes/train/square/blank.png")
    Path("my-shapes/train/square/bad.png").write_bytes(b"no picture")
    told = refused()
    assert "mend or remove my-shapes/train/square/bad.png: expected a picture" in told
    assert "my-shapes/train/square/blank.png: nothing is written here" in told
    Path("my-shapes/val/line").mkdir(parents=True)
    assert "my-shapes/val has the class line, and my-shapes/train has not" in refused()
    Path("my-shapes/train/circle/gone.png").symlink_to("nowhere.png")
    Path("my-shapes/val/line").rmdir()
    assert "mend or remove my-shapes/train/circle/gone.png: No such file" in refused()


def test_strokes_of_ones_and_sevens_are_for_digits_alone() -> None:
    shapes(train=1)
    with pytest.raises(InputError, match=r"data\.continental: expected 0 for what is no digit"):
        MNISTDataModule("my-shapes", "folder", continental=0.3)


def test_names_reach_the_checkpoint_the_tables_the_export_and_the_reader(cli: Cli) -> None:
    shapes()
    options = ("--trainer.max_epochs", "6", "--data.batch_size", "24", "--model.init_from", "pretrained")
    assert cli(*FIT, *options)[0] == 0
    run = Path("lightning_logs/version_0")
    assert class_names_of(load_checkpoint(run / "checkpoints/best.ckpt")) == ("circle", "square", "triangle")
    code, out, _ = cli("test")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["circle", "square", "triangle"]
    scored = read_predictions(run)
    assert scored
    assert scored.classes == ["circle", "square", "triangle"]
    assert scored.acc > 0.8
    with run.joinpath("predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(
        path.relative_to("my-shapes").as_posix() for path in Path("my-shapes/test").rglob("*.png")
    )
    assert all(Path(row["file"]).parent.name == scored.classes[int(row["label"])] for row in rows)
    shape("triangle", 1000).save("photo.png")
    assert cli("export")[0] == 0
    for model in ("latest", str(run / "model.onnx")):
        reader = DigitReader.load(model)
        assert reader.labels == ("circle", "square", "triangle")
        assert reader.read("photo.png").digit == "triangle"
    assert cli("predict", "photo.png", "--output", "rows.jsonl")[0] == 0
    assert json.loads(Path("rows.jsonl").read_text(encoding="utf-8"))["digit"] == "triangle"
    Path("my-shapes/train/triangle").rename("my-shapes/train/wedge")
    for split in ("val", "test"):
        Path("my-shapes", split, "triangle").rename(Path("my-shapes", split, "wedge"))
    code, _, err = cli("test")
    assert (code, "tells apart circle, square, triangle, and the data has circle, square, wedge" in err) == (2, True)


def test_a_fit_starts_from_a_trained_model_and_a_resumed_one_from_its_own(cli: Cli) -> None:
    shipped = network_of(load_checkpoint(PRETRAINED_DIR / "model.ckpt")).state_dict()
    ten, three = MNISTModule(ema_decay=0.9), MNISTModule(num_classes=3)
    assert ten.ema
    before = three.network.fc2.weight.clone()
    for module in (ten, three):
        assert not torch.equal(module.network.conv1.weight, shipped["conv1.weight"])
        module.start_from("pretrained")
        assert torch.equal(module.network.conv1.weight, shipped["conv1.weight"])
    assert torch.equal(ten.network.fc2.weight, shipped["fc2.weight"])
    assert torch.equal(ten.ema.fc1.weight, shipped["fc1.weight"])
    assert torch.equal(three.network.fc2.weight, before)
    Path("start.ckpt").write_bytes((PRETRAINED_DIR / "model.ckpt").read_bytes())
    fit = (
        "fit",
        "--config",
        "quickstart",
        "--model.init_from",
        "start.ckpt",
        "--model.lr",
        "1e-9",
        "--model.ema_decay",
        "0",
    )
    assert cli(*fit, "--trainer.max_epochs", "1")[0] == 0
    best = newest_checkpoint(Path(LOGS))
    moved = network_of(load_checkpoint(best)).state_dict()["conv1.weight"]
    assert torch.allclose(moved, shipped["conv1.weight"], atol=1e-5)
    Path("start.ckpt").unlink()  # neither a test nor a resume needs it
    assert cli("test")[0] == 0
    assert cli(*fit, "--trainer.max_epochs", "2", "--ckpt_path", str(best.with_name("last.ckpt")))[0] == 0
    code, _, err = cli(*fit, "--trainer.max_epochs", "1")
    assert (code, "no model at start.ckpt" in err) == (2, True)
    assert not Path("lightning_logs/version_2").exists()


def test_what_a_run_started_from_stands_in_its_configuration_and_goes_to_nobody_as_a_path(cli: Cli) -> None:
    fit = ("fit", "--config", "quickstart", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    latest = ("--model.init_from", "latest")
    assert cli(*fit)[0] == 0
    assert cli(*fit, *latest)[0] == 0
    told = load_checkpoint("lightning_logs/version_1/checkpoints/best.ckpt")
    assert "init_from: lightning_logs/version_0/checkpoints/best.ckpt" in told[METADATA_KEY]["config"]
    slim = strip_for_sharing(told)
    assert "init_from: best.ckpt" in slim[METADATA_KEY]["config"]
    told["hyper_parameters"]["init_from"] = "/some/where/a.ckpt"
    assert strip_for_sharing(told)["hyper_parameters"]["init_from"] == "a.ckpt"
    code, _, err = cli(*fit, *latest, "--resume", "auto")
    assert (code, "latest would be another one the next time" in err) == (2, True)
