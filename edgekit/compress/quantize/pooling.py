"""Means over all spatial axes become GlobalAveragePool, which has an int8 kernel; ReduceMean has none."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from edgekit.graph.scopes import attribute, fixed_initializers
from edgekit.graph.shapes import infer_shapes


def pool_by_mean(model: onnx.ModelProto) -> None:
    """Replace every ReduceMean over exactly the spatial axes, in place."""
    if not any(n.op_type == "ReduceMean" for n in model.graph.node):
        return
    shapes = infer_shapes(model, cheap=True)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rank = len(shapes.get(node.input[0], ())) if node.op_type == "ReduceMean" else 0
        if rank >= 3 and {a % rank for a in _axes(node, model)} == set(range(2, rank)):
            nodes.extend(_pool(node))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _axes(node: onnx.NodeProto, model: onnx.ModelProto) -> list[int]:
    if len(node.input) > 1 and node.input[1]:
        found = fixed_initializers(model.graph).get(node.input[1])
        return [] if found is None else [int(a) for a in numpy_helper.to_array(found).reshape(-1)]
    return list(attribute(node, "axes", []))


def _pool(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    result = node.output[0]
    if attribute(node, "keepdims", 1):
        return [helper.make_node("GlobalAveragePool", [node.input[0]], [result], name=node.name)]
    pooled = f"{result}/pooled"
    return [
        helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name),
        helper.make_node("Flatten", [pooled], [result], name=f"{node.name}/flatten", axis=1),
    ]
