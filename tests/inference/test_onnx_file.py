"""A file is refused unless it is intact and contains nothing but a network of finite weights."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.hostile_onnx import (
    MODEL,
    NOT_A_NETWORK,
    fuzzed,
    needs_onnx,
    onnx,
    refusal,
    signed,
    weight_that_is_not_finite,
)
from mnist_lit.errors import InputError
from mnist_lit.inference import onnx_model
from mnist_lit.inference.onnx_file import CHECKSUM_BYTES, check_file, convolution_outputs, with_checksum, with_outputs
from mnist_lit.inference.onnx_model import OnnxModel

CONTENT = MODEL.read_bytes()


@needs_onnx
def test_the_checksum_is_the_sha256_of_everything_before_it() -> None:
    check_file(CONTENT)
    assert with_checksum(CONTENT[:-CHECKSUM_BYTES]) == CONTENT
    assert hashlib.sha256(CONTENT[:-CHECKSUM_BYTES]).hexdigest() == CONTENT[-64:].decode()
    metadata = {entry.key: entry.value for entry in onnx.load(MODEL).metadata_props}
    assert metadata["sha256"] == CONTENT[-64:].decode()


@pytest.mark.parametrize("position", [0, 1_000, len(CONTENT) // 2, -CHECKSUM_BYTES - 1, -CHECKSUM_BYTES, -65, -64, -1])
def test_a_changed_bit_is_noticed(position: int) -> None:
    changed = bytearray(CONTENT)
    changed[position] ^= 1
    with pytest.raises(InputError, match="checksum; export it again"):
        check_file(bytes(changed))


@pytest.mark.parametrize("content", [b"", b"\x08\x07nothing", CONTENT[:-1], CONTENT[:-CHECKSUM_BYTES], CONTENT + b"\n"])
def test_a_file_that_does_not_end_with_a_checksum_must_be_exported_again(content: bytes) -> None:
    assert "it does not end with a checksum; export it again" in refusal(content)


@needs_onnx
@pytest.mark.parametrize("model", NOT_A_NETWORK, ids=lambda model: model.__name__)
def test_onnxruntime_never_sees_what_is_not_a_network(
    model: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_session", lambda *args, **options: pytest.fail("a session was created"))
    assert NOT_A_NETWORK[model] in refusal(signed(model()))


@needs_onnx
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(value: float) -> None:
    check_file(signed(weight_that_is_not_finite(0)))
    with pytest.raises(InputError, match="not finite"):
        check_file(signed(weight_that_is_not_finite(value)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x05\x0a",  # a graph of five bytes, one of which is there
        b"\x08" + b"\xff" * 20,  # a number that does not end
        b"\x3b\x3c",  # a group, which protobuf has replaced by messages
        b"\x3a\x01\x80",  # a graph of half a field's number
    ],
)
def test_malformed_fields_are_refused(content: bytes) -> None:
    assert "it is malformed" in refusal(with_checksum(content))


@pytest.mark.parametrize("seed", range(30))
def test_every_damaged_file_is_refused(seed: int) -> None:
    assert "checksum" in refusal(fuzzed(seed))


@pytest.mark.slow
def test_two_thousand_damaged_files_are_refused() -> None:
    for seed in range(2_000):
        assert "checksum" in refusal(fuzzed(seed)), seed


@pytest.mark.slow
def test_damaged_files_with_a_matching_checksum_are_refused_or_run() -> None:
    for seed in range(500):
        Path("other.onnx").write_bytes(fuzzed(seed, sign=True))
        with contextlib.suppress(InputError):
            OnnxModel(Path("other.onnx"))


@needs_onnx
def test_a_tensor_becomes_one_more_output() -> None:
    names = list(convolution_outputs(CONTENT).values())
    model = onnx.load_from_string(with_outputs(CONTENT, names))
    assert [output.name for output in model.graph.output] == ["probabilities", "outlier", *names]
    assert names == [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    assert model.graph.node == onnx.load(MODEL).graph.node


@needs_onnx
def test_the_name_of_an_output_may_be_long() -> None:
    names = ["x" * length for length in (1, 127, 128, 16_383, 16_384, 40_000)]
    outputs = onnx.load_from_string(with_outputs(CONTENT, names)).graph.output
    assert [one.name for one in outputs[-len(names) :]] == names
