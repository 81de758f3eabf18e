"""What of a quantised graph is trained: which constants, and which steps."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgekit.graph.fake import BIAS, WEIGHT, is_fake

# Inputs of an operator that hold what it has learnt.
_LEARNT = {"Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (1,), "LayerNormalization": (1, 2)}
_FAKE = {WEIGHT: (0,), BIAS: (0,)}


def learnt_constants(model: onnx.ModelProto) -> set[str]:
    """Float constants that are trained: weights and biases of products, convolutions and normalisations."""
    floats = {i.name: i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    products = {n.output[0] for n in model.graph.node if n.op_type == "MatMul"}
    found = {name for node in model.graph.node for name in _learnt_of(node) if name in floats}
    for node in model.graph.node:
        if node.op_type == "Add" and products & {*node.input}:
            found |= {name for name in node.input if name in floats and len(floats[name].dims) == 1}
    return found


def learnt_steps(model: onnx.ModelProto) -> set[str]:
    """Steps that are trained: of weights, and of tensors that are read with the step and zero they are written with.

    Others are tied to a bound of the graph, as that of a hard sigmoid that an addition computes.
    """
    candidates = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    candidates |= {n.input[1] for n in model.graph.node if is_fake(n) and n.op_type == WEIGHT}
    constants = {i.name for i in model.graph.initializer}
    tied = {n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants}
    readers = _readers(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            ways = {tuple(node.input[1:]), *(tuple(d.input[1:]) for d in _ends(node.output[0], readers))}
            tied |= {way[0] for way in ways if len(ways) > 1}
    return (candidates & constants) - tied


def whole_pairs(model: onnx.ModelProto) -> set[str]:
    """Integers that nothing but a DequantizeLinear with the same step and zero reads."""
    readers, outputs = _readers(model), {o.name for o in model.graph.output}
    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
        and node.output[0] not in outputs
        and all(
            r.op_type == "DequantizeLinear" and r.input[1:] == node.input[1:] for r in readers.get(node.output[0], [])
        )
    }


def _learnt_of(node: onnx.NodeProto) -> Iterator[str]:
    places = (_FAKE if is_fake(node) else _LEARNT).get(node.op_type, ())
    yield from (node.input[i] for i in places if i < len(node.input))


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _ends(integers: str, readers: dict[str, list[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """The DequantizeLinear nodes behind some integers, also behind what only moves them."""
    for node in readers.get(integers, []):
        if node.op_type == "DequantizeLinear":
            yield node
        else:
            yield from _ends(node.output[0], readers)
