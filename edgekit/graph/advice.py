"""What of a model can be quantised, how, and why the rest cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from edgekit.graph.read import every_node
from edgekit.graph.scopes import subgraphs_of

# Bytes of float weights below which an operator's weights are biases and scalars.
_SMALL_BYTES = 1024
_FLOATS = frozenset(
    (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
)
_PASS_ON = ("Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze", "Flatten")

_STATIC = "int8 kernels for data and weights; needs calibration data"
_FOLDED = "no int8 kernel; its weights are stored as int8 and folded into float when the model is loaded"
_BESIDE = "gains only between neighbours that are quantised, where it saves a conversion"
_PRECISE = "small, and sensitive to rounding; stays in float"
_DONE = "quantised already; left as it is"

_HEAVY_BODY = ("GRU", "RNN", "Einsum", "Attention", "MultiHeadAttention")
_BETWEEN = (
    *("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Concat", "Resize"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"),
)
_FLOAT_ONLY = (
    *("LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "RMSNormalization"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("Softmax", "LogSoftmax", "Erf", "Gelu"),
)
_QUANTISED = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"),
    *("QGemm", "QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
    *("MatMulIntegerToFloat", "MatMulNBits", "GatherBlockQuantized"),
)

# operator -> (methods with weights, methods without, reason)
_METHODS: dict[str, tuple[str, str, str]] = {
    "Conv": ("static, weights", "static", f"{_STATIC}; dynamic quantisation makes it 3 to 8 times slower"),
    "ConvTranspose": ("weights", "", _FOLDED),
    "MatMul": ("dynamic, static, int4, weights", "static", "int8 and int4 kernels; dynamic needs no calibration data"),
    "Gemm": ("dynamic, static, weights", "static", "int8 kernels; dynamic needs no calibration data"),
    "Gather": ("weights, int4", "", "a table: rows are stored in fewer bits, and only those looked up are converted"),
    "LSTM": ("weights, dynamic", "", "a dynamic int8 kernel, which can cost accuracy; or weights stored as int8"),
    **dict.fromkeys(_HEAVY_BODY, ("weights", "", _FOLDED)),
    **dict.fromkeys(_BETWEEN, ("static", "static", _BESIDE)),
    **dict.fromkeys(_FLOAT_ONLY, ("", "", _PRECISE)),
    **dict.fromkeys(_QUANTISED, ("", "", _DONE)),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), ("", "", "its body is looked into")),
}


@dataclass(frozen=True)
class OperatorAdvice:
    """What can be done for the nodes of one operator type.

    Attributes:
        op_type: With its domain where that is not ONNX's own.
        nodes: How many, in all graphs and functions.
        weight_bytes: Bytes of float weights that they read.
        methods: Ways to quantise them, the first one first; empty where there is none.
        reason: Why these, or why none.
    """

    op_type: str
    nodes: int
    weight_bytes: int
    methods: tuple[str, ...]
    reason: str


def advise(model: onnx.ModelProto) -> tuple[OperatorAdvice, ...]:
    """One row an operator type, those with most weights first."""
    counts = Counter(title(n) for n in every_node(model))
    weights = _weights_by_op(model)
    rows = [_advice(op, count, weights.get(op, 0)) for op, count in counts.items() if op != "Constant"]
    return tuple(sorted(rows, key=lambda r: (-r.weight_bytes, -r.nodes, r.op_type)))


def title(node: onnx.NodeProto) -> str:
    """A node's operator type, with its domain where that is not ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _advice(op: str, nodes: int, weight_bytes: int) -> OperatorAdvice:
    short = op.rsplit(".", 1)[-1]
    if short.startswith("QLinear"):
        return OperatorAdvice(op, nodes, weight_bytes, (), _DONE)
    heavy = weight_bytes >= _SMALL_BYTES
    if short not in _METHODS:
        methods, reason = ("weights", _FOLDED) if heavy else ("", "no quantised kernel, and no weights to speak of")
    else:
        with_weights, without, reason = _METHODS[short]
        methods = with_weights if heavy else without
        if not methods and with_weights:
            reason = "no weights to speak of"
    return OperatorAdvice(op, nodes, weight_bytes, tuple(filter(None, methods.split(", "))), reason)


def _weights_by_op(model: onnx.ModelProto) -> Mapping[str, int]:
    """Bytes of float weights by the operator type that reads them first."""
    found: dict[str, int] = defaultdict(int)
    for op, size in _reads(model.graph, {}):
        found[op] += size
    for function in model.functions:
        body = onnx.GraphProto(node=function.node)
        for op, size in _reads(body, {}):
            found[op] += size
    return found


def _reads(graph: onnx.GraphProto, outer: dict[str, list[int]]) -> Iterator[tuple[str, int]]:
    """(operator type, bytes) of each weight at its first reader; a weight's bytes are taken from its one-item list."""
    held = {**outer, **{t.name: [tensor_bytes(t)] for t in graph.initializer if t.data_type in _FLOATS}}
    for node in graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None and value.data_type in _FLOATS:
                held[node.output[0]] = [tensor_bytes(value)]
        elif node.op_type in _PASS_ON and node.input and node.input[0] in held:
            held[node.output[0]] = held[node.input[0]]
        else:
            for name in node.input:
                if held.get(name):
                    yield title(node), held[name].pop()
        for inner in subgraphs_of(node):
            yield from _reads(inner, held)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's values, wherever they are stored."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return (count * bits_of(tensor.data_type) + 7) // 8


def bits_of(data_type: int) -> int:
    """Bits of one element of an ONNX data type; 0 for strings."""
    name = onnx.TensorProto.DataType.Name(data_type)
    if name.startswith(("INT4", "UINT4", "FLOAT4")):
        return 4
    if name.startswith(("INT2", "UINT2")) and not name.startswith(("INT23", "UINT23")):
        return 2
    if name in ("STRING", "UNDEFINED"):
        return 0
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
