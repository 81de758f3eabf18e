"""Multiply-accumulates of a model, counted from shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from edgekit.errors import ModelError, unknown
from edgekit.graph.fold_shapes import infer_concrete_shapes
from edgekit.graph.scopes import attribute, subgraphs_of
from edgekit.graph.shapes import without_weights

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class MacCount:
    """Multiply-accumulates of one run.

    Attributes:
        by_op: By operator type; a Loop's body counts once, of an If the branch with more.
        uncounted: Nodes of counted types whose shapes nothing told, by operator type.
    """

    by_op: Mapping[str, int]
    uncounted: Mapping[str, int]

    @property
    def total(self) -> int:
        """Of all operators."""
        return sum(self.by_op.values())


def count_macs(model: onnx.ModelProto, dims: Mapping[str, int] | None = None) -> MacCount:
    """Count the multiply-accumulates of convolutions, matrix products and recurrent layers.

    Args:
        model: Any model that the checker accepts.
        dims: Sizes of symbolic dimensions by name; the others, and those without a name, are 1.

    Raises:
        ModelError: for a dimension that the model does not have.
    """
    settled = settle_dims(without_weights(model), dims or {})
    shapes = infer_concrete_shapes(settled)
    uncounted: Counter[str] = Counter()
    by_op = _count_graph(settled.graph, shapes, uncounted)
    return MacCount(dict(by_op.most_common()), dict(uncounted.most_common()))


def macs_of_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of the nodes of the main graph, by first output; what is not counted is not there.

    Args:
        model: Its dimensions that have no size are taken for 1.
    """
    settled = settle_dims(without_weights(model), {})
    shapes = infer_concrete_shapes(settled)
    counted = (
        (n.output[0], _tried(_COUNTERS[n.op_type], n, shapes)) for n in settled.graph.node if n.op_type in _COUNTERS
    )
    return {name: macs for name, macs in counted if macs}


def settle_dims(model: onnx.ModelProto, dims: Mapping[str, int]) -> onnx.ModelProto:
    """A copy with every dimension of its inputs settled and with its functions inlined, for shape inference."""
    copy = _inlined(model)
    known = {d.dim_param for i in copy.graph.input for d in i.type.tensor_type.shape.dim if d.dim_param}
    for name, size in dims.items():
        if name not in known:
            raise ModelError(unknown("dimension", name, known) if known else "the model has no symbolic dimensions")
        if size < 1:
            raise ModelError(f"dimension {name!r} cannot be {size}; give at least 1")
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = dims.get(dim.dim_param, 1)
    # declared shapes downstream still carry the names, and contradict what is inferred now
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    return copy


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    if model.functions:
        from onnx import inliner

        try:
            return inliner.inline_local_functions(model)
        except (RuntimeError, ValueError):  # it refuses some functions of several opsets; their calls stay uncounted
            pass
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _count_graph(graph: onnx.GraphProto, shapes: Shapes, uncounted: Counter[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for node in graph.node:
        count = _COUNTERS.get(node.op_type)
        if count is not None:
            macs = _tried(count, node, shapes)
            counted[node.op_type] += macs or 0
            uncounted[node.op_type] += macs is None
        inner = [_count_graph(sub, shapes, uncounted) for sub in subgraphs_of(node)]
        if node.op_type == "If":
            inner = [max(inner, key=lambda c: sum(c.values()))]
        for branch in inner:
            counted += branch
    uncounted += Counter()  # drop the zeros
    return counted


def _tried(count: Callable[[onnx.NodeProto, Shapes], int], node: onnx.NodeProto, shapes: Shapes) -> int | None:
    try:
        return count(node, shapes)
    except (KeyError, IndexError):  # a shape is not known, or an input is left out
        return None


def _conv(weight: int) -> Callable[[onnx.NodeProto, Shapes], int]:
    def count(node: onnx.NodeProto, shapes: Shapes) -> int:
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[weight]][1:])

    return count


def _conv_transpose(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _matmul(right: int) -> Callable[[onnx.NodeProto, Shapes], int]:
    def count(node: onnx.NodeProto, shapes: Shapes) -> int:
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]

    def count_by_inputs(node: onnx.NodeProto, shapes: Shapes) -> int:
        try:
            return count(node, shapes)
        except KeyError:
            a, b = shapes[node.input[0]], shapes[node.input[right]]
            batch = max(math.prod(a[:-2]), math.prod(b[:-2]))
            return batch * (a[-2] if len(a) > 1 else 1) * a[-1] * (b[-1] if len(b) > 1 else 1)

    return count_by_inputs


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    a, b = shapes[node.input[0]], shapes[node.input[1]]
    columns = b[0] if attribute(node, "transB", 0) else b[1]
    return math.prod(a) * columns


def _n_bits(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.input[0]]) * int(attribute(node, "N", 0))


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    steps, batch = shapes[node.input[0]][:2]  # or (batch, steps); the product is the same
    return steps * batch * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    terms = attribute(node, "equation").decode().replace(" ", "").split("->")[0].split(",")
    sizes = {
        letter: size
        for term, name in zip(terms, node.input, strict=True)
        for letter, size in zip(term.replace("...", ""), shapes[name], strict=False)
    }
    return math.prod(sizes.values())


_COUNTERS: dict[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv"), _conv(1)),
    "QLinearConv": _conv(3),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _matmul(1)),
    "QLinearMatMul": _matmul(3),
    "Gemm": _gemm,
    "MatMulNBits": _n_bits,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "Einsum": _einsum,
}
