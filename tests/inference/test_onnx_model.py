"""An exported model runs without torch; any other file is refused in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.inference.onnx_model import OnnxModel
from mnist_lit.runs.locate import PRETRAINED_DIR

MODEL = PRETRAINED_DIR / "model.onnx"


def test_an_exported_model_runs_without_torch() -> None:
    program = (
        "import sys, numpy as np; from mnist_lit.inference.reader import DigitReader\n"
        f"reader = DigitReader.load({str(MODEL)!r})\n"
        "assert reader.classify(np.zeros((3, 28, 28), np.uint8))[0].shape == (3, 10)\n"
        "assert not {'torch', 'lightning', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(("name", "value"), [("labels", '["a", "b"]'), ("threshold", "nan"), ("threshold", "1.5")])
def test_a_model_that_does_not_match_its_metadata_is_refused(name: str, value: str) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")
    model = onnx.load(MODEL)
    (entry,) = (entry for entry in model.metadata_props if entry.key == name)
    entry.value = value
    onnx.save(model, "altered.onnx")
    with pytest.raises(InputError, match=r"altered\.onnx is not a model exported by mnist-lit"):
        OnnxModel(Path("altered.onnx"))


@pytest.mark.parametrize("location", ["weights.bin", "../x/weights.bin"])
def test_a_model_with_weights_in_another_file_is_refused(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")
    Path("x").mkdir()
    monkeypatch.chdir("x")
    split = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 1024}
    onnx.save_model(onnx.load(MODEL), "split.onnx", **split)
    model = onnx.load("split.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    Path("split.onnx").write_bytes(model.SerializeToString())
    assert Path(location).stat().st_size > 100_000
    with pytest.raises(InputError, match=r"split\.onnx is not a model exported by mnist-lit") as refused:
        OnnxModel(Path("split.onnx"))
    assert "\n" not in str(refused.value)


def test_a_damaged_file_is_refused_in_one_line() -> None:
    Path("damaged.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(InputError, match=r"damaged\.onnx") as refused:
        OnnxModel(Path("damaged.onnx"))
    assert "\n" not in str(refused.value)
