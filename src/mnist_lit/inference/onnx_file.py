"""Check an ONNX file before onnxruntime sees it: it must be intact, and contain nothing but a network.

onnxruntime loads most damaged files without complaint, and runs whatever a file contains. The checksum finds damage. It
proves nothing about the file's author, so the parts of the file are checked too. Needs neither torch nor onnx.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from mnist_lit.errors import InputError

MAX_BYTES = 1 << 30
MAX_FIELDS = 30_000  # numbers, names and messages; torchvision's DenseNet-121 takes 9,600

# What torch's exporter writes for networks. None of these operators contains a graph (If, Loop, Scan), draws random
# numbers or processes text. Some produce more than they are given (Concat, Expand, Pad, …): see `onnx_model`.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd
    BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Col2Im Concat ConstantOfShape Conv ConvTranspose Cos
    Cosh CumSum DFT DepthToSpace Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
    HardSwish Identity InstanceNormalization IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905  # a list would take a line each
)

# The fields that an export consists of: their numbers in onnx.proto and their wire types. Any other is refused, such as
# weights in another file (TensorProto 13 and 14), a graph inside a node (AttributeProto 6 and 11), an operator that is
# not ONNX's own (NodeProto 7) or functions (ModelProto 25).
VARINT, BYTES, FLOAT = 0, 2, 5  # wire types
FIELDS = {
    "ModelProto": {(1, VARINT), (2, BYTES), (3, BYTES), (7, BYTES), (8, BYTES), (14, BYTES)},
    "GraphProto": {(1, BYTES), (2, BYTES), (5, BYTES), (10, BYTES), (11, BYTES), (12, BYTES), (13, BYTES)},
    "NodeProto": {(1, BYTES), (2, BYTES), (3, BYTES), (4, BYTES), (5, BYTES), (6, BYTES)},
    "AttributeProto": {(1, BYTES), (2, FLOAT), (3, VARINT), (4, BYTES), (8, VARINT), (20, VARINT)},
    "TensorProto": {(1, VARINT), (2, VARINT), (8, BYTES), (9, BYTES)},
}
INNER = {  # the fields that are messages to check
    ("ModelProto", 7): "GraphProto",
    ("GraphProto", 1): "NodeProto",
    ("GraphProto", 5): "TensorProto",
    ("NodeProto", 5): "AttributeProto",
}
GRAPH = 7  # in ModelProto
NODE, OUTPUT = 1, 12  # in GraphProto
NODE_INPUT, NODE_OUTPUT, OP_TYPE = 1, 2, 4  # in NodeProto
VALUE_NAME = 1  # in ValueInfoProto
DIMS, DATA_TYPE, RAW_DATA = 1, 2, 9  # in TensorProto
DTYPES = {1: "<f4", 2: "u1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}

# Protobuf merges messages that follow each other, so the checksum can be appended to a serialized model, as one more of
# its metadata_props (field 14): the key "sha256" (field 1), and as value (field 2) 64 hexadecimal digits.
CHECKSUM_START = b"\x72\x4a\x0a\x06sha256\x12\x40"
CHECKSUM_BYTES = len(CHECKSUM_START) + 64


class Field(NamedTuple):
    """One field of a protobuf message."""

    number: int
    wire_type: int
    integer: int = 0  # a varint's value
    content: memoryview = memoryview(b"")  # any other value


def with_checksum(model: bytes) -> bytes:
    """A serialized model with the SHA-256 of its bytes appended."""
    return model + _checksum(model)


def _checksum(model: bytes | memoryview) -> bytes:
    return CHECKSUM_START + hashlib.sha256(model).hexdigest().encode()


def check_file(data: bytes) -> None:
    """Raise InputError, with the reason, unless a file is intact and holds nothing but a network of finite weights."""
    checksum = data[-CHECKSUM_BYTES:]
    check_end(checksum)
    if checksum != _checksum(memoryview(data)[:-CHECKSUM_BYTES]):
        raise InputError("its content does not match its checksum; export it again")
    unchecked, allowed = [("ModelProto", memoryview(data))], MAX_FIELDS
    while unchecked:
        kind, message = unchecked.pop()
        fields = list(islice(_fields(message), allowed + 1))
        allowed -= len(fields)
        if allowed < 0:
            raise InputError(f"expected at most {MAX_FIELDS:,} fields")
        for field in fields:
            if (field.number, field.wire_type) not in FIELDS[kind]:
                raise InputError(f"field {field.number} of {kind} is not allowed")
            if inner := INNER.get((kind, field.number)):
                unchecked.append((inner, field.content))
            if (kind, field.number) == ("NodeProto", OP_TYPE):
                operator = str(field.content, "ascii", "replace")
                if operator not in OPERATORS:
                    raise InputError(f"the operator {operator[:40]!r} is not allowed")
        if kind == "TensorProto":
            _check_tensor(fields)


def check_end(checksum: bytes) -> None:
    """Raise InputError unless the last CHECKSUM_BYTES of a file look like a checksum."""
    if not checksum.startswith(CHECKSUM_START):
        raise InputError("it does not end with a checksum; export it again")


def convolution_outputs(model: bytes) -> dict[str, str]:
    """The name of each convolution's output, by the name of its weights. model: a file that `check_file` passed."""
    nodes = [node for graph in _contents(memoryview(model), GRAPH) for node in _contents(graph, NODE)]
    convolutions = [node for node in nodes if _contents(node, OP_TYPE) == [b"Conv"]]
    return {
        str(_contents(node, NODE_INPUT)[1], "utf-8"): str(_contents(node, NODE_OUTPUT)[0], "utf-8")
        for node in convolutions
    }


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """A serialized model that also returns these tensors: protobuf merges the second graph with the first."""
    return model + _encoded(GRAPH, b"".join(_encoded(OUTPUT, _encoded(VALUE_NAME, name.encode())) for name in names))


def _encoded(number: int, content: bytes) -> bytes:
    """A field of bytes, whose length is a varint."""
    rest, length = len(content), bytearray()
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((number << 3 | BYTES, *length, rest)) + content


def _contents(message: memoryview, number: int) -> list[memoryview]:
    return [field.content for field in _fields(message) if field.number == number]


def _check_tensor(fields: list[Field]) -> None:
    """Raise InputError unless a tensor's numbers are finite and all in the file: a few bytes can claim a huge shape."""
    shape = [field.integer for field in fields if field.number == DIMS]
    types = [field.integer for field in fields if field.number == DATA_TYPE]
    contents = [field.content for field in fields if field.number == RAW_DATA]
    if len(types) != 1 or len(contents) != 1:
        raise InputError("expected one data type and one array in each tensor")
    (data_type,), (content,) = types, contents
    if data_type not in DTYPES:
        raise InputError(f"a tensor of ONNX's data type {data_type} is not allowed")
    dtype = np.dtype(DTYPES[data_type])
    if math.prod(shape) * dtype.itemsize != len(content):
        raise InputError("the shape of a tensor does not match its data")
    if not np.isfinite(np.frombuffer(content, dtype)).all():
        raise InputError("it has weights or constants that are not finite")


def _fields(message: memoryview) -> Iterator[Field]:
    """The fields of a protobuf message, in the file's order. Raises InputError if it is malformed."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        integer, length = 0, 4
        if wire_type != FLOAT:
            integer, position = _varint(message, position)
            length = integer if wire_type == BYTES else 0
        if wire_type not in (VARINT, BYTES, FLOAT) or position + length > len(message):
            raise InputError("it is malformed")
        yield Field(number, wire_type, integer, message[position : position + length])
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The variable-length integer at a position, seven bits per byte from the lowest, and the position after it."""
    integer = 0
    for index, byte in enumerate(message[position : position + 10]):
        integer |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return integer, position + index + 1
    raise InputError("it is malformed")
