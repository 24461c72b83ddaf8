"""The exported file gives the checkpoint's scores and holds nothing of this machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mnist_lit
from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import CalibratedNetwork, load_calibrated
from mnist_lit.inference.export import BATCH_SIZES, TOLERANCE, max_difference, onnx_bytes
from mnist_lit.inference.onnx_file import with_checksum
from mnist_lit.inference.onnx_model import OnnxModel
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.locate import PRETRAINED_DIR

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_calibrated(trained / "checkpoints" / "best.ckpt")
    target = tmp_path_factory.mktemp("exported") / "model.onnx"
    target.write_bytes(onnx_bytes(model))
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
    Path("altered.onnx").write_bytes(with_checksum(model.SerializeToString()))
    assert max_difference(DigitReader.load(trained), DigitReader.load("altered.onnx"), images) > TOLERANCE


class Noise(nn.Module):
    """A layer that ONNX can express, but not with the operators that are allowed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def export_own(network: nn.Module, trained: Path) -> tuple[CalibratedNetwork, bytes]:
    """A network of one's own with an untrained detector, and its ONNX file."""
    calibrated = CalibratedNetwork(network, 10).eval().requires_grad_(False)
    model = load_calibrated(trained / "checkpoints" / "best.ckpt")
    return calibrated, onnx_bytes(model._replace(network=calibrated, threshold=1.0))


def test_a_network_that_would_not_be_loaded_is_not_exported(trained: Path) -> None:
    with pytest.raises(InputError, match="to ONNX: the operator 'RandomUniformLike' is not allowed"):
        export_own(nn.Sequential(Noise(), nn.Flatten(), nn.Linear(784, 10)), trained)


class ManyLayers(nn.Module):
    """Layers of several kinds: recurrent, attention, normalization, resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ZeroPad2d(1), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Hardswish(), nn.AvgPool2d(2)
        )
        self.up = nn.Sequential(nn.GroupNorm(2, 8), nn.Upsample(scale_factor=2), nn.MaxPool2d(7, 3), nn.Dropout())
        self.attention = nn.TransformerEncoderLayer(64, 4, 32, activation="gelu", batch_first=True)
        self.recurrent = nn.LSTM(64, 16, batch_first=True, bidirectional=True)
        self.output = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.conv(x)).flatten(2)  # (B, 8, 64)
        x, _ = self.recurrent(self.attention(x))  # (B, 8, 32)
        return self.output(x.mean(1))  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_network_of_other_layers_can_be_exported(trained: Path) -> None:
    network, file = export_own(ManyLayers(), trained)
    Path("own.onnx").write_bytes(file)
    images = load_dataset("digits", "").test_images[:5]
    for expected, exported in zip(network(images), OnnxModel(Path("own.onnx"))(images.numpy()), strict=True):
        np.testing.assert_allclose(exported, expected.numpy(), atol=TOLERANCE)
