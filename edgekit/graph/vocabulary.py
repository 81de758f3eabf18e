"""How large the ids of an input may be: an embedding that they look things up in has so many rows."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgekit.graph.scopes import attribute

# What hands ids on as they are, whatever it does to their shape or type.
_PASSED_ON = {"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Expand"}
# What stands between a stored table and its lookup, where the table is quantised or in half precision.
_RESTORED = {"Identity", "Cast", "DequantizeLinear", "Mul"}
# Ids and table by their places among the inputs; EmbedLayerNormalization is ONNX Runtime's fusion of three lookups.
_LOOKUPS: dict[str, tuple[tuple[int, int], ...]] = {
    "Gather": ((1, 0),),
    "GatherBlockQuantized": ((1, 0),),
    "EmbedLayerNormalization": ((0, 2), (1, 4)),
}


def vocabularies(model: onnx.ModelProto) -> dict[str, int]:
    """Rows of the smallest table that each input indexes; inputs that index none are left out.

    Only the outermost graph is looked at, where embeddings are.
    """
    graph = model.graph
    ids = {v.name: v.name for v in graph.input}
    tables = {w.name: tuple(w.dims) for w in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        first = node.input[0] if node.input else ""
        if node.op_type == "Constant":
            tables[node.output[0]] = tuple(attribute(node, "value", onnx.TensorProto()).dims)
        if node.op_type in _RESTORED and first in tables:
            tables[node.output[0]] = tables[first]
        if node.op_type in _PASSED_ON and first in ids:
            ids[node.output[0]] = ids[first]
        for source, rows in _lookups(node, ids, tables):
            found[source] = min(rows, found.get(source, rows))
    return found


def _lookups(
    node: onnx.NodeProto, ids: dict[str, str], tables: dict[str, tuple[int, ...]]
) -> Iterator[tuple[str, int]]:
    for place, table in _LOOKUPS.get(node.op_type, ()):
        if max(place, table) < len(node.input) and node.input[place] in ids and node.input[table] in tables:
            dims = tables[node.input[table]]
            axis = attribute(node, "axis", attribute(node, "gather_axis", 0))
            if -len(dims) <= axis < len(dims) and dims[axis] > 0:
                yield ids[node.input[place]], dims[axis]
