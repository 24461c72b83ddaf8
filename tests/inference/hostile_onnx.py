"""Damaged and hostile ONNX files: the shipped model with random damage, and small models that do what none should."""

import importlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.inference.onnx_file import CHECKSUM_BYTES, with_checksum
from mnist_lit.inference.onnx_model import OnnxModel
from mnist_lit.runs.locate import PRETRAINED_DIR

MODEL = PRETRAINED_DIR / "model.onnx"
GIGABYTE = 1 << 28  # float32 numbers

onnx: Any = importlib.import_module("onnx") if importlib.util.find_spec("onnx") else None
needs_onnx = pytest.mark.skipif(onnx is None, reason="needs onnx: pip install 'mnist-lit[export]'")


def refusal(content: bytes) -> str:
    """The error, in one line, that loading a file must end with."""
    Path("other.onnx").write_bytes(content)
    with pytest.raises(InputError) as refused:
        OnnxModel(Path("other.onnx"))
    message = str(refused.value)
    assert message.startswith("other.onnx is not a model exported by mnist-lit: ")
    assert "\n" not in message
    return message


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32)


def integers(*numbers: int) -> NDArray[np.int64]:
    return np.asarray(numbers, np.int64)


def node(operator: str, *arguments: Any, **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, *arguments, **attributes)


def signed(model: Any) -> bytes:
    """A file with a checksum that matches, which anybody can compute."""
    return with_checksum(model.SerializeToString())


def fuzzed(seed: int, *, sign: bool = False) -> bytes:
    """The shipped model with a few random changes: bytes, blocks, its length, operators. sign: with a checksum that
    matches the changed content."""
    rng = np.random.default_rng(seed)
    original = MODEL.read_bytes()
    content = original[:-CHECKSUM_BYTES] if sign else original
    damage = (flip, cut, swap, splice)[rng.integers(4 if onnx else 3)]
    while (changed := damage(content, rng)) == content:
        pass
    return with_checksum(changed) if sign else changed


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Other values for one to eight bytes of the file, of the nodes at its start or of the metadata at its end."""
    changed, size = bytearray(content), len(content)
    start, end = ((0, size), (0, 4_000), (size - 6_000, size))[rng.integers(3)]
    for position in rng.integers(start, end, rng.integers(1, 9)):
        changed[position] ^= rng.integers(1, 256)
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The beginning, or all but a block."""
    start, end = sorted(rng.integers(len(content), size=2))
    return content[:start] if rng.integers(2) else content[:start] + content[end:]


def swap(content: bytes, rng: np.random.Generator) -> bytes:
    """Two blocks of the same length exchanged."""
    length = int(2 ** rng.integers(1, 16))
    a, b = sorted(rng.integers(len(content) - 2 * length, size=2))
    b += length
    return (
        content[:a]
        + content[b : b + length]
        + content[a + length : b]
        + content[a : a + length]
        + content[b + length :]
    )


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """A node removed, repeated, moved, or with another operator."""
    model = onnx.load_from_string(content)
    nodes = model.graph.node
    chosen, other = rng.integers(len(nodes), size=2)
    match rng.integers(4):
        case 0:
            del nodes[chosen]
        case 1:
            nodes.insert(other, nodes[chosen])
        case 2:
            nodes.insert(other, nodes.pop(chosen))
        case 3:
            nodes[chosen].op_type = rng.choice([schema.name for schema in onnx.defs.get_all_schemas()])
    return model.SerializeToString()  # type: ignore[no-any-return]


def network(*nodes: Any, **weights: Any) -> Any:
    """A model that fits the interface. Its probabilities depend on the output `x` of the given nodes."""
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", 28, 28])
    outputs = [float_value(name, None) for name in ("probabilities", "outlier")]
    weights |= {"axes": integers(1, 2), "all": integers(-1), "per_image": integers(-1, 1)}
    weights |= {"classes": np.arange(10, dtype=np.float32)}
    every_node = [
        *nodes,
        node("Cast", ["images"], ["ink"], to=onnx.TensorProto.FLOAT),
        node("ReduceMean", ["ink", "axes"], ["mean"], keepdims=0),
        node("Sigmoid", ["mean"], ["outlier"]),
        node("Reshape", ["x", "all"], ["x_all"]),
        node("ReduceMean", ["x_all"], ["x_mean"]),
        node("Add", ["mean", "x_mean"], ["sum"]),
        node("Reshape", ["sum", "per_image"], ["sum_column"]),
        node("Mul", ["sum_column", "classes"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(every_node, "network", [images], outputs, tensors)
    domains = [
        onnx.helper.make_opsetid(name, version) for name, version in (("", 20), ("com.microsoft", 1), ("own", 1))
    ]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    onnx.helper.set_model_props(model, {"labels": json.dumps([*"0123456789"]), "threshold": "0.5"})
    return model


def initializer(model: Any, name: str) -> Any:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor


def float_value(name: str, shape: Sequence[int] | None) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def endless_loop() -> Any:
    """2⁶² rounds, each of which adds 1 to `x`."""
    rounds = onnx.helper.make_tensor_value_info("round", onnx.TensorProto.INT64, [])
    before, after = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, []) for name in ("yes1", "yes2"))
    steps = [node("Add", ["x1", "step"], ["x2"]), node("Identity", ["yes1"], ["yes2"])]
    inputs, outputs = [rounds, before, float_value("x1", [1])], [after, float_value("x2", [1])]
    body = onnx.helper.make_graph(steps, "body", inputs, outputs)
    loop = node("Loop", ["count", "yes", "start"], ["x"], body=body)
    return network(loop, count=np.int64(1 << 62), yes=np.bool_(1), start=floats(0), step=floats(1))


def if_subgraph() -> Any:
    """Two graphs in the attributes of a node."""
    branches = {
        name: onnx.helper.make_graph([node("Neg", ["start"], [name])], name, [], [float_value(name, [1])])
        for name in ("then_branch", "else_branch")
    }
    return network(node("If", ["yes"], ["x"], **branches), yes=np.bool_(1), start=floats(0))


def subgraph_of_an_allowed_operator() -> Any:
    model = if_subgraph()
    model.graph.node[0].op_type = "Neg"
    return model


def function() -> Any:
    """An operator that the file defines itself, under a name that is allowed."""
    model = network(node("Relu", ["start"], ["x"], domain="own"), start=floats(0))
    steps, opset = [node("Neg", ["start"], ["x"])], [onnx.helper.make_opsetid("", 20)]
    model.functions.append(onnx.helper.make_function("own", "Relu", ["start"], ["x"], steps, opset))
    return model


def other_domain() -> Any:
    """An operator of onnxruntime's own, under a name that is allowed."""
    return network(node("Gelu", ["start"], ["x"], domain="com.microsoft"), start=floats(0))


OUTSIDE = np.ones(1000, np.float32)  # onnxruntime's optimizers look at the numbers of smaller tensors, and fail


def external_data(location: str = "weights.bin") -> Any:
    """A weight that is read from another file, which holds OUTSIDE."""
    model = network(node("Neg", ["weight"], ["x"]), weight=OUTSIDE)
    tensor = initializer(model, "weight")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return model


def weight_that_is_not_finite(value: float = np.nan) -> Any:
    """It is not used, so the outputs are finite."""
    return network(node("Gather", ["weight", "row"], ["x"]), weight=floats(0, value), row=integers(0))


def shape_without_numbers() -> Any:
    model = network(node("Neg", ["weight"], ["x"]), weight=floats(0))
    initializer(model, "weight").dims[:] = [GIGABYTE]
    return model


def weight_without_data() -> Any:
    model = network(node("Neg", ["weight"], ["x"]), weight=floats(0))
    initializer(model, "weight").ClearField("raw_data")
    return model


def sparse_gigabyte() -> Any:
    """A gigabyte of zeros except for one number."""
    model = network(node("Neg", ["start"], ["x"]), start=floats(0))
    value, index = (onnx.numpy_helper.from_array(array, "sparse") for array in (floats(1), integers(0)))
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(value, index, [GIGABYTE]))
    return model


def many_nodes() -> Any:
    """Loading them takes onnxruntime a minute."""
    names = [f"x{number}" for number in range(15_000)]
    chain = [node("Add", [before, before], [after]) for before, after in pairwise([*names, "x"])]
    return network(*chain, x0=floats(0))


def eight_bit_weight() -> Any:
    return network(node("Cast", ["weight"], ["x"], to=onnx.TensorProto.FLOAT), weight=np.zeros(1, np.int8))


NOT_A_NETWORK: dict[Callable[[], Any], str] = {  # refused before onnxruntime sees them, and why
    endless_loop: "the operator 'Loop' is not allowed",
    if_subgraph: "the operator 'If' is not allowed",
    subgraph_of_an_allowed_operator: "field 6 of AttributeProto is not allowed",
    function: "field 25 of ModelProto is not allowed",
    other_domain: "field 7 of NodeProto is not allowed",
    external_data: "field 13 of TensorProto is not allowed",
    weight_that_is_not_finite: "weights or constants that are not finite",
    shape_without_numbers: "the shape of a tensor does not match its data",
    weight_without_data: "expected one data type and one array in each tensor",
    sparse_gigabyte: "field 15 of GraphProto is not allowed",
    many_nodes: "at most 30,000 fields",
    eight_bit_weight: "a tensor of ONNX's data type 3 is not allowed",
}


def constant() -> Any:
    return network(node("ConstantOfShape", ["shape"], ["x"]), shape=integers(GIGABYTE))


def expanded() -> Any:
    return network(node("Expand", ["start", "shape"], ["x"]), start=floats(0), shape=integers(GIGABYTE))


def doubled() -> Any:
    """28 times."""
    names = [f"x{number}" for number in range(28)]
    chain = [node("Concat", [before, before], [after], axis=0) for before, after in pairwise([*names, "x"])]
    return network(*chain, x0=floats(0))


def rows_and_columns() -> Any:
    weights = np.zeros(1 << 14, np.float32)
    return network(node("Add", ["row", "column"], ["x"]), row=weights[None], column=weights[:, None])


def padded() -> Any:
    return network(node("Pad", ["start", "pads"], ["x"]), start=floats(0), pads=integers(0, GIGABYTE))


TOO_LARGE = (constant, expanded, doubled, rows_and_columns, padded)  # allowed operators that need a gigabyte
