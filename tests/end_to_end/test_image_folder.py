"""Train on your own pictures; their class names appear in every output."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.results import read_predictions
from shapes import shape, shapes

Cli = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("small_calibration")
FIT = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")


@pytest.mark.slow
def test_class_names_reach_the_checkpoint_the_tables_the_export_and_the_reader(cli: Cli) -> None:
    shapes()
    options = ("--trainer.max_epochs", "6", "--data.batch_size", "24", "--model.init_from", "pretrained")
    assert cli(*FIT, *options)[0] == 0
    run = Path("lightning_logs/version_0")
    assert Metadata.of(load_checkpoint(run / "checkpoints/best.ckpt")).classes == ("circle", "square", "triangle")
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
    assert (code, "trained on the classes circle, square, triangle, but the data has circle, square, wedge" in err) == (
        2,
        True,
    )


def test_a_test_without_pictures_of_a_class_says_how_to_leave_it_out(cli: Cli) -> None:
    """Here the folder has no `train`, so its classes are the folders in `test`."""
    for name in ("7", "9"):
        Path("mine/test", name).mkdir(parents=True)
        shape("circle", int(name)).save(f"mine/test/{name}/a.png")
    test = ("test", "pretrained", "--data.dataset", "folder", "--data.data_dir", "mine")
    missing = "0, 1, 2, 3, 4, 5, 6, 8"
    assert cli(*test)[2].endswith(f"data has 7, 9; add empty folders for the missing classes: {missing}\n")
    for name in missing.split(", "):
        Path("mine/test", name).mkdir()
    assert cli(*test)[0] == 0
    Path("mine/test/ten").mkdir()
    assert cli(*test)[2].endswith("data has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ten\n")
