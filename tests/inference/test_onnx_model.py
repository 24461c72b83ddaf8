"""An exported model runs without torch; any other file is refused in one line."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.hostile_onnx import (
    MODEL,
    OUTSIDE,
    TOO_LARGE,
    external_data,
    floats,
    integers,
    needs_onnx,
    network,
    node,
    onnx,
    refusal,
    signed,
)
from mnist_lit.errors import InputError
from mnist_lit.inference.onnx_file import CHECKSUM_BYTES, with_checksum
from mnist_lit.inference.onnx_model import OnnxModel
from mnist_lit.system.regular_file import read_regular_file


def test_an_exported_model_runs_without_torch() -> None:
    program = (
        "import sys, numpy as np; from mnist_lit.inference.reader import DigitReader\n"
        f"reader = DigitReader.load({str(MODEL)!r})\n"
        "assert reader.classify(np.zeros((3, 28, 28), np.uint8))[0].shape == (3, 10)\n"
        "assert not {'torch', 'lightning', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@needs_onnx
@pytest.mark.parametrize(("name", "value"), [("labels", '["a", "b"]'), ("threshold", "nan"), ("threshold", "1.5")])
def test_a_model_that_does_not_match_its_metadata_is_refused(name: str, value: str) -> None:
    model = onnx.load(MODEL)
    (entry,) = (entry for entry in model.metadata_props if entry.key == name)
    entry.value = value
    assert "its outputs do not match its metadata" in refusal(signed(model))


@needs_onnx
@pytest.mark.parametrize(
    "labels", [["\ud800", *range(9)], ["\x1b[2J", *"012345678"], ["0"] * 10, [*range(10)], "0123456789", 5], ids=ascii
)
def test_labels_that_cannot_be_printed_or_told_apart_are_refused(labels: object) -> None:
    model = onnx.load(MODEL)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "labels")
    entry.value = json.dumps(labels)
    assert "expected at most 10,000 class names, printable and all different" in refusal(signed(model))


@needs_onnx
def test_a_model_whose_outputs_are_not_finite_is_refused() -> None:
    root_of_a_negative = network(node("Sqrt", ["start"], ["x"]), start=floats(-1))
    assert "or are not finite" in refusal(signed(root_of_a_negative))


@needs_onnx
def test_onnxruntime_prints_nothing_about_a_damaged_file(capfd: pytest.CaptureFixture[str]) -> None:
    """It would, and try again, if its message contains a name that is not UTF-8."""
    misfit = network(node("Add", ["a", "b"], ["x"], name="name"), a=floats(1, 2), b=floats(1, 2, 3))
    content = misfit.SerializeToString()
    assert "UnicodeDecodeError" in refusal(with_checksum(content.replace(b"name", b"\xff" * 4)))
    assert capfd.readouterr() == ("", "")


@needs_onnx
@pytest.mark.parametrize("location", ["weights.bin", "../x/weights.bin"])
def test_onnxruntime_is_not_allowed_to_read_weights_from_another_file(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the check of the file, which refuses them too, had a gap."""
    monkeypatch.setattr("mnist_lit.inference.onnx_model.check_file", lambda data: None)
    Path("x").mkdir()
    monkeypatch.chdir("x")
    OUTSIDE.tofile("weights.bin")
    assert "Fail" in refusal(signed(external_data(location)))


@needs_onnx
@pytest.mark.parametrize("model", TOO_LARGE, ids=lambda model: model.__name__)
def test_a_model_that_needs_a_gigabyte_is_refused_before_it_gets_one(model: Callable[[], Any]) -> None:
    assert "it cannot classify an image within 256 MiB" in refusal(signed(model()))


@needs_onnx
@pytest.mark.slow
def test_large_weights_do_not_count_as_memory_of_the_run() -> None:
    row, rows = integers(0), np.zeros((300 << 18, 1), np.float32)  # 300 MiB
    Path("large.onnx").write_bytes(signed(network(node("Gather", ["rows", "row"], ["x"]), rows=rows, row=row)))
    assert OnnxModel(Path("large.onnx")).threshold == 0.5


def test_a_model_that_does_not_finish_is_refused_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    class EndlessSession:
        def run(self, names: object, inputs: object, options: Any) -> None:
            while not options.terminate:
                time.sleep(0.01)
            stopped.set()

        def get_modelmeta(self) -> Any:
            return SimpleNamespace(custom_metadata_map={"labels": "[]", "threshold": "1"})

    monkeypatch.setattr("mnist_lit.inference.onnx_model._session", lambda *args, **options: EndlessSession())
    monkeypatch.setattr("mnist_lit.inference.onnx_model.TRIAL_SECONDS", 0.05)
    assert "(TimeoutError)" in refusal(MODEL.read_bytes())
    assert stopped.wait(60)


def test_a_huge_file_is_refused_without_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file was read"))
    with Path("huge.onnx").open("wb") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    with pytest.raises(InputError, match=r"expected at most 1,073,741,824 bytes"):
        OnnxModel(Path("huge.onnx"))


def test_only_the_end_is_read_of_a_file_without_a_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def noted(path: Path, max_bytes: int = -1, start: int = 0) -> bytes:
        read.append(len(content := read_regular_file(path, max_bytes, start)))
        return content

    monkeypatch.setattr("mnist_lit.inference.onnx_model.read_regular_file", noted)
    assert "it does not end with a checksum" in refusal(bytes(10_000))
    assert read == [CHECKSUM_BYTES]
    assert "it does not end with a checksum" in refusal(b"short")
