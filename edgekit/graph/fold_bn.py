"""BatchNormalization folded into the convolution before it.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.graph.read import every_graph
from edgekit.graph.scopes import Names, attribute, count_uses, fixed_initializers
from edgekit.specs import Array


@dataclass(frozen=True)
class _Pair:
    conv: onnx.NodeProto
    norm: onnx.NodeProto


def fold_batch_norms(model: onnx.ModelProto) -> None:
    """Fold inference-mode BatchNormalization into the Conv or ConvTranspose that alone feeds it.

    y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta is conv with weight W * s and bias (b - mean) * s + beta,
    s = gamma / sqrt(var + eps) by output channel. Weights shared with other nodes are copied, not changed.
    """
    names = Names(model)
    for graph in every_graph(model):
        fixed = fixed_initializers(graph)
        folded = {pair.norm.output[0] for pair in _pairs(graph, fixed) if _fold(graph, pair, fixed, names)}
        _drop_norms(graph, folded)


def _drop_norms(graph: onnx.GraphProto, outputs: set[str]) -> None:
    for i in reversed(range(len(graph.node))):
        if graph.node[i].op_type == "BatchNormalization" and graph.node[i].output[0] in outputs:
            del graph.node[i]


def _pairs(graph: onnx.GraphProto, fixed: dict[str, onnx.TensorProto]) -> list[_Pair]:
    uses = count_uses(graph)
    convs = {
        n.output[0]: n
        for n in graph.node
        if n.op_type in ("Conv", "ConvTranspose") and not n.domain and uses[n.output[0]] == 1
    }
    norms = [n for n in graph.node if n.op_type == "BatchNormalization" and n.input[0] in convs]
    return [
        _Pair(convs[n.input[0]], n)
        for n in norms
        if _is_inference(n, uses) and all(i in fixed for i in [*convs[n.input[0]].input[1:], *n.input[1:]] if i)
    ]


def _is_inference(node: onnx.NodeProto, uses: dict[str, int]) -> bool:
    spatial = attribute(node, "spatial", 1)
    return not attribute(node, "training_mode", 0) and bool(spatial) and not any(uses.get(o) for o in node.output[1:])


def _fold(graph: onnx.GraphProto, pair: _Pair, fixed: dict[str, onnx.TensorProto], names: Names) -> bool:
    weight = numpy_helper.to_array(fixed[pair.conv.input[1]])
    bias_name = pair.conv.input[2] if len(pair.conv.input) > 2 else ""
    gamma, beta, mean, var = (numpy_helper.to_array(fixed[i]).astype(np.float64) for i in pair.norm.input[1:5])
    epsilon = attribute(pair.norm, "epsilon", 1e-5)
    scale = gamma / np.sqrt(var + float(epsilon))
    bias = numpy_helper.to_array(fixed[bias_name]).astype(np.float64) if bias_name else np.zeros_like(scale)
    groups = int(attribute(pair.conv, "group", 1))
    scaled = scale_output_channels(weight, scale, groups if pair.conv.op_type == "ConvTranspose" else None)
    shifted = ((bias - mean) * scale + beta).astype(weight.dtype)
    if not (np.isfinite(scaled).all() and np.isfinite(shifted).all()):
        return False
    new = [
        _add(graph, scaled, names.fresh(f"{pair.conv.input[1]}_bn"), fixed),
        _add(graph, shifted, names.fresh(f"{pair.conv.input[1]}_bias"), fixed),
    ]
    del pair.conv.input[1:]
    pair.conv.input.extend(new)
    pair.conv.output[0] = pair.norm.output[0]
    return True


def scale_output_channels(weight: Array, scale: Array, transposed_groups: int | None = None) -> Array:
    """Multiply a convolution's weight by one factor an output channel.

    Args:
        weight: Conv: (out, in / groups, ...); ConvTranspose: (in, out / groups, ...).
        scale: (out,).
        transposed_groups: The groups of a ConvTranspose; None for a Conv.

    Returns:
        The same shape and dtype as `weight`.
    """
    spatial = (1,) * (weight.ndim - 2)
    if transposed_groups is None:
        return (weight * scale.reshape(-1, 1, *spatial)).astype(weight.dtype)
    grouped = weight.reshape(transposed_groups, -1, *weight.shape[1:])
    factors = scale.reshape(transposed_groups, 1, -1, *spatial)
    return (grouped * factors).reshape(weight.shape).astype(weight.dtype)


def _add(graph: onnx.GraphProto, value: Array, name: str, fixed: dict[str, onnx.TensorProto]) -> str:
    tensor = numpy_helper.from_array(value, name)
    graph.initializer.append(tensor)
    fixed[name] = tensor
    return name
