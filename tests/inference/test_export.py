"""The exported file gives the checkpoint's scores and holds nothing of this machine."""

import json
from pathlib import Path

import numpy as np
import pytest

import mnist_lit
from mnist_lit.data.datasets import load_dataset
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.inference.export import BATCH_SIZES, TOLERANCE, max_difference, onnx_bytes
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.checkpoint import Metadata
from mnist_lit.runs.locate import PRETRAINED_DIR

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, labels, threshold, content = load_calibrated(trained / "checkpoints" / "best.ckpt")
    target = tmp_path_factory.mktemp("exported") / "model.onnx"
    target.write_bytes(onnx_bytes(network, labels, threshold, Metadata.of(content)))
    return target


def test_the_export_is_one_valid_file_without_paths_of_this_machine(exported: Path, trained: Path) -> None:
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
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["labels"]) == [str(digit) for digit in range(10)]
    assert float(metadata["threshold"]) == load_calibrated(trained / "checkpoints" / "best.ckpt").threshold < 1
    content = exported.read_bytes()
    assert str(trained.parents[1]).encode() in trained.joinpath("checkpoints/best.ckpt").read_bytes()
    for path in (trained.parents[1], Path(mnist_lit.__file__).parent, "site-packages"):
        assert str(path).encode() not in content


def test_the_export_gives_the_checkpoints_scores(exported: Path, trained: Path) -> None:
    images = load_dataset("digits", "").test_images.numpy()
    reference, reader = DigitReader.load(trained), DigitReader.load(exported)
    assert max_difference(reference, reader, images) <= TOLERANCE
    assert reference.labels == reader.labels
    assert reference.threshold == reader.threshold


@pytest.mark.slow
def test_the_shipped_export_gives_the_checkpoints_scores_on_all_of_mnist(mnist_dir: str) -> None:
    images = load_dataset("mnist", mnist_dir).test_images.numpy()
    reference, exported = DigitReader.load(PRETRAINED_DIR / "model.ckpt"), DigitReader.load("pretrained")
    expected = np.column_stack(reference.classify(images))
    for batch_size in BATCH_SIZES:
        assert np.abs(np.column_stack(exported.classify(images, batch_size)) - expected).max() <= TOLERANCE


def test_a_different_model_is_noticed(exported: Path, trained: Path) -> None:
    images = load_dataset("digits", "").test_images[:50].numpy()
    model = onnx.load(exported)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]
    Path("altered.onnx").write_bytes(model.SerializeToString())
    assert max_difference(DigitReader.load(trained), DigitReader.load("altered.onnx"), images) > TOLERANCE
