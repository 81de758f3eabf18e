"""Arithmetic on shapes, folded: exporters compute shapes in the graph, and ONNX's inference stops at much of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.graph.scopes import attribute, opset_of
from edgekit.graph.shapes import dims_of, without_weights
from edgekit.specs import Array

_MOST_ELEMENTS = 4096
_ROUNDS = 8
_FOLDED = frozenset(
    (
        *("Identity", "Constant", "Cast", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Concat", "Slice"),
        *("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Min", "Max", "Floor", "Ceil", "ReduceProd", "ConstantOfShape"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Where"),
    )
)


def infer_concrete_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the values of the main graph and its subgraphs, where all inputs have sizes.

    Args:
        model: Its inputs have no symbolic dimensions; it is not changed.

    Returns:
        Shapes by name; what cannot be told is not there.
    """
    light = without_weights(model)
    _fix_defaults(light)
    for node in light.graph.node:
        _stand_in(node, light.graph)
    inferred = light
    for _ in range(_ROUNDS):
        inferred = _inferred(light)
        if not _fold(light.graph, _shapes(inferred.graph), opset_of(model)):
            break
    found: dict[str, tuple[int, ...]] = {}
    graphs = [inferred.graph]
    while graphs:
        graph = graphs.pop()
        found = {**_shapes(graph), **found}
        graphs += [a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found


def _fix_defaults(light: onnx.ModelProto) -> None:
    """Take initializers that a caller may override for constants; old files declare all of theirs so."""
    light.ir_version, graph = max(4, light.ir_version), light.graph
    held = {t.name for t in graph.initializer}
    for i in reversed(range(len(graph.input))):
        if graph.input[i].name in held:
            del graph.input[i]


# Contrib operators whose first output has the shape of an ONNX operator's: its type and which inputs that one reads.
_STAND_INS: dict[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat"), ("MatMul", (0, 1))),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), ("Add", (0, 3))),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), ("Identity", (0,))),
    **dict.fromkeys(("FastGelu", "Gelu", "BiasGelu", "QuickGelu", "QLinearLeakyRelu"), ("Identity", (0,))),
    "FusedConv": ("Conv", (0, 1)),
}


def _stand_in(node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    """Turn a contrib node into an ONNX node of the same output shape; inference stops at what it does not know."""
    if node.domain != "com.microsoft" or not node.output:
        return
    if node.op_type == "MatMulNBits":
        dims = [int(attribute(node, "K", 0)), int(attribute(node, "N", 0))]
        weight = onnx.helper.make_tensor_value_info(f"{node.output[0]}/weight", onnx.TensorProto.FLOAT, dims)
        graph.input.append(weight)
        _become(node, "MatMul", [node.input[0], weight.name])
    elif node.op_type in _STAND_INS:
        op_type, reads = _STAND_INS[node.op_type]
        _become(node, op_type, [node.input[i] for i in reads])


def _become(node: onnx.NodeProto, op_type: str, inputs: list[str]) -> None:
    kept = [a for a in node.attribute if op_type == "Conv" and a.name not in ("activation", "activation_params")]
    replacement = onnx.NodeProto(op_type=op_type, name=node.name, input=inputs, output=node.output[:1], attribute=kept)
    node.CopyFrom(replacement)


def _inferred(light: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return light


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    found = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = tuple(d for d in dims_of(value) if isinstance(d, int))
            if len(dims) == len(value.type.tensor_type.shape.dim):
                found[value.name] = dims
    return found


def _fold(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], opset: int) -> bool:
    """Replace nodes whose value is known by initializers; whether there were any."""
    held = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept, folded = [], False
    for node in graph.node:
        value = _value(node, held, shapes, opset)
        if value is None:
            kept.append(node)
            continue
        folded = True
        held[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if folded:
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
        del graph.node[:]
        graph.node.extend(copies)
    return folded


def _value(
    node: onnx.NodeProto, held: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], opset: int
) -> Array | None:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type == "Shape" and node.input[0] in shapes:
        start, end = (next((a.i for a in node.attribute if a.name == key), None) for key in ("start", "end"))
        return np.array(shapes[node.input[0]][start:end], np.int64)
    if node.op_type == "Size" and node.input[0] in shapes:
        return np.array(math.prod(shapes[node.input[0]]), np.int64)
    if node.op_type not in _FOLDED or not all(not name or name in held for name in node.input):
        return None
    return _evaluated(node, [held[name] if name else None for name in node.input], opset)


def _evaluated(node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int) -> Array | None:
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "ConstantOfShape" and (inputs[0] is None or math.prod(inputs[0].tolist()) > _MOST_ELEMENTS):
        return None
    axes = attribute(node, "axes")
    if node.op_type == "Unsqueeze" and axes is not None:  # the reference fails on axes of an attribute
        return np.expand_dims(np.asarray(inputs[0]), tuple(axes))
    feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    try:
        results: Any = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
        value = results[0]
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, NotImplementedError, ZeroDivisionError):
        return None  # the reference is stricter than the runtimes here and there; the shape stays unknown
    return value if isinstance(value, np.ndarray) and value.size <= _MOST_ELEMENTS else None
