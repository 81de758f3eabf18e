"""GELU in the order of operations that ONNX Runtime fuses into one kernel.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415: x * 0.5 * (1 + erf(x / sqrt 2)).
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from edgekit.graph.read import every_graph
from edgekit.graph.scopes import count_uses, fixed_initializers


def reorder_gelu(model: onnx.ModelProto) -> None:
    """Turn x * (0.5 * (1 + erf(x / sqrt 2))), which exporters write, into (x * (1 + erf(x / sqrt 2))) * 0.5."""
    for graph in every_graph(model):
        fixed, uses = fixed_initializers(graph), count_uses(graph)
        makers = {o: n for n in graph.node for o in n.output}
        for outer in graph.node:
            if outer.op_type == "Mul" and not outer.domain:
                _reorder(outer, makers, fixed, uses)


def _reorder(
    outer: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    fixed: dict[str, onnx.TensorProto],
    uses: dict[str, int],
) -> None:
    for i, name in enumerate(outer.input):
        inner = makers.get(name)
        if inner is None or inner.op_type != "Mul" or uses[name] != 1:
            continue
        half = next((h for h in inner.input if _is_half(fixed.get(h))), None)
        gate = next((g for g in inner.input if g != half and _is_gate(g, outer.input[1 - i], makers)), None)
        if half is not None and gate is not None:
            x = outer.input[1 - i]
            inner.input[:] = [x, gate]
            outer.input[:] = [name, half]
            return


def _is_half(tensor: onnx.TensorProto | None) -> bool:
    return (
        tensor is not None and list(tensor.dims) in ([], [1]) and float(numpy_helper.to_array(tensor).ravel()[0]) == 0.5
    )


def _is_gate(name: str, x: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a value is erf(something of x) + 1."""
    add = makers.get(name)
    if add is None or add.op_type != "Add":
        return False
    erf = next((makers[i] for i in add.input if i in makers and makers[i].op_type == "Erf"), None)
    scaled = makers.get(erf.input[0]) if erf is not None else None
    return scaled is not None and scaled.op_type in ("Div", "Mul") and x in scaled.input
