"""One ONNX file that says the same as the checkpoint, and needs no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mnist_lit
from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import THRESHOLD, load_calibrated
from mnist_lit.inference.export import BATCH_SIZES, TOLERANCE, max_difference, onnx_bytes
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.checkpoint import METADATA_KEY
from mnist_lit.runs.locate import PRETRAINED_DIR

Cli = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--data.dataset", "digits", "--trainer.max_epochs", "1")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = trained / "checkpoints" / "best.ckpt"
    target = tmp_path_factory.mktemp("exported") / "model.onnx"
    target.write_bytes(onnx_bytes(*(loaded := load_calibrated(path))[:3], loaded.content[METADATA_KEY]))
    return target


def test_it_is_one_valid_file_that_names_no_folder_of_this_machine(exported: Path, trained: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]
    assert not any(part.data_location for part in model.graph.initializer)
    (images,), (probabilities, outlier) = model.graph.input, model.graph.output
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    sides = images.type.tensor_type.shape.dim
    assert sides[0].dim_param
    assert [side.dim_value for side in sides[1:]] == [28, 28]
    assert (probabilities.name, outlier.name) == ("probabilities", "outlier")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["labels"]) == [str(digit) for digit in range(10)]
    assert float(told["threshold"]) == THRESHOLD
    whole = exported.read_bytes()
    assert str(trained.parents[1]).encode() in trained.joinpath("checkpoints/best.ckpt").read_bytes()
    for place in (trained.parents[1], Path(mnist_lit.__file__).parent, "site-packages"):
        assert str(place).encode() not in whole


def test_it_says_what_the_checkpoint_says(exported: Path, trained: Path) -> None:
    images = load_dataset("digits", "").test_images.numpy()
    one, other = DigitReader.load(trained), DigitReader.load(exported)
    assert max_difference(one, other, images) <= TOLERANCE
    assert one.labels == other.labels
    assert one.threshold == other.threshold


@pytest.mark.slow
def test_it_does_so_on_all_of_mnists_test_images_in_each_batch_size(mnist_dir: str) -> None:
    images = load_dataset("mnist", mnist_dir).test_images.numpy()
    one = DigitReader.load(PRETRAINED_DIR / "model.ckpt")
    other = DigitReader.load("pretrained")
    wanted = np.column_stack(one.classify(images))
    for size in BATCH_SIZES:
        parts = [other.classify(images[start : start + size]) for start in range(0, len(images), size)]
        assert np.abs(np.concatenate([np.column_stack(part) for part in parts]) - wanted).max() <= TOLERANCE


def test_a_difference_is_found(exported: Path, trained: Path) -> None:
    images = load_dataset("digits", "").test_images[:50].numpy()
    model = onnx.load(exported)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]
    Path("altered.onnx").write_bytes(model.SerializeToString())
    assert max_difference(DigitReader.load(trained), DigitReader.load("altered.onnx"), images) > TOLERANCE


def test_it_reads_without_torch(exported: Path) -> None:
    program = (
        "import sys, numpy as np; from mnist_lit.inference.reader import DigitReader\n"
        f"reader = DigitReader.load({str(exported)!r})\n"
        "assert reader.classify(np.zeros((3, 28, 28), np.uint8))[0].shape == (3, 10)\n"
        "assert not {'torch', 'lightning', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_run_that_is_not_calibrated_can_be_exported(cli: Cli) -> None:
    assert cli(*FIT, "--data.val_size", "0", "--data.data_dir", "/far/away")[0] == 0
    code, out, err = cli("export")
    assert (code, err) == (0, "")
    assert "not calibrated, so it rejects nothing" in out
    assert DigitReader.load("lightning_logs/version_0/model.onnx").threshold == 1
    with pytest.raises(InputError, match="not calibrated"):
        DigitReader.load("lightning_logs/version_0/model.onnx", threshold=0.5)
    assert b"/far/away" not in Path("lightning_logs/version_0/model.onnx").read_bytes()


def test_the_command_writes_into_the_run(cli: Cli) -> None:
    assert cli(*FIT, "--data.val_size", "180", "--model.optimizer", "adamw")[0] == 0
    code, out, err = cli("export")
    assert (code, err) == (0, "")
    assert "lightning_logs/version_0/model.onnx: within " in out
    assert "on 360 images" in out
    assert DigitReader.load("lightning_logs/version_0/model.onnx").threshold == THRESHOLD
    code, _, err = cli("export", "--output", "missing/model.onnx")
    assert code == 2
    assert err == "mnist-lit: cannot write missing/model.onnx: No such file or directory\n"
    assert cli("export", "--model", "nothing.ckpt")[0] == 2
