"""What a graph carries and nobody needs: identities, dead nodes, unused weights, documentation, missing names."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from edgekit.graph.read import every_graph, every_node
from edgekit.graph.scopes import (
    Names,
    attribute,
    count_captures,
    count_uses,
    defined_names,
    drop_initializers,
    drop_producers,
    fixed_initializers,
    opset_of,
    rename_uses,
    subgraphs_of,
)


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove documentation and exporters' notes from everything but the model itself."""
    things: list[onnx.GraphProto | onnx.NodeProto | onnx.FunctionProto] = [
        *every_graph(model),
        *every_node(model),
        *model.functions,
    ]
    for thing in things:
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    for graph in every_graph(model):
        for part in (graph.input, graph.output, graph.initializer):
            for item in part:
                item.ClearField("doc_string")
                item.ClearField("metadata_props")


def strip_value_info(model: onnx.ModelProto) -> None:
    """Remove recorded types of intermediate values, which later steps would make wrong.

    The element type of what a foreign operator makes stays: a runtime may be unable to infer it.
    """
    for graph in every_graph(model):
        foreign = {o for n in graph.node if n.domain not in ("", "ai.onnx") for o in n.output}
        kept = [v for v in graph.value_info if v.name in foreign and v.type.HasField("tensor_type")]
        del graph.value_info[:]
        for value in kept:
            elem = onnx.helper.make_tensor_type_proto(value.type.tensor_type.elem_type, None)
            graph.value_info.append(onnx.helper.make_value_info(value.name, elem))


def remove_identities(model: onnx.ModelProto) -> None:
    """Remove Identity, and Dropout as it is at inference; outputs of a graph keep their names."""
    for graph in every_graph(model):
        _bypass(graph, opset_of(model))
        _merge_into_outputs(graph, opset_of(model))


def _bypass(graph: onnx.GraphProto, opset: int) -> None:
    outputs = {o.name for o in graph.output}
    uses = count_uses(graph)
    fixed = fixed_initializers(graph)
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.output and node.output[0] not in outputs and _passes_through(node, opset, uses, fixed):
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
    drop_producers(graph, set(renamed))
    rename_uses(graph, renamed)


def _passes_through(node: onnx.NodeProto, opset: int, uses: dict[str, int], fixed: dict[str, onnx.TensorProto]) -> bool:
    if node.domain not in ("", "ai.onnx") or not node.input or not node.input[0]:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(uses.get(o) for o in node.output[1:]):
        return False
    if opset < 7:
        return bool(attribute(node, "is_test", 0))
    mode = node.input[2] if len(node.input) > 2 else ""
    return not mode or (mode in fixed and not numpy_helper.to_array(fixed[mode]).any())


def _merge_into_outputs(graph: onnx.GraphProto, opset: int) -> None:
    """Let the producer of an Identity's input make the graph output itself, where both are of this graph."""
    outputs = {o.name for o in graph.output}
    made = {o for n in graph.node for o in n.output if o}
    uses, fixed = count_uses(graph), fixed_initializers(graph)
    renamed: dict[str, str] = {}
    for node in graph.node:
        if not node.output or node.output[0] not in outputs or not _passes_through(node, opset, uses, fixed):
            continue
        source = node.input[0]
        if source in made and source not in outputs and source not in renamed:
            renamed[source] = node.output[0]
    drop_producers(graph, set(renamed.values()))
    for node in graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = renamed.get(name, name)
    rename_uses(graph, renamed)


def remove_dead(model: onnx.ModelProto) -> None:
    """Remove nodes and initializers that no output depends on; no ONNX operator acts but by its outputs."""
    for graph in reversed(list(every_graph(model))):  # innermost first: what dies there frees what is outside
        _remove_dead_nodes(graph)
        _remove_unused_initializers(graph)


def _remove_dead_nodes(graph: onnx.GraphProto) -> None:
    uses = count_uses(graph)
    for i in reversed(range(len(graph.node))):
        node = graph.node[i]
        if any(uses.get(o, 0) > 0 for o in node.output if o):
            continue
        uses.subtract(name for name in node.input if name)
        for inner in subgraphs_of(node):
            uses.subtract(count_captures(inner))
        del graph.node[i]


def _remove_unused_initializers(graph: onnx.GraphProto) -> None:
    unused = set(fixed_initializers(graph)) - set(count_uses(graph))
    drop_initializers(graph, unused)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, the ones in subgraphs too; good names stay."""
    names, seen = Names(model), set[str]()
    for node in every_node(model):
        if not node.name or node.name in seen:
            node.name = names.fresh(node.name or node.op_type)
        seen.add(node.name)


def name_weights(model: onnx.ModelProto) -> None:
    """Give every initializer of a subgraph a name that no other graph uses: what later steps note goes by name."""
    main, *inner = every_graph(model)
    names, seen = Names(model), defined_names(main)
    for graph in inner:
        outputs = {o.name for o in graph.output}
        renamed = {n: names.fresh(n) for n in fixed_initializers(graph) if n in seen and n not in outputs}
        for tensor in graph.initializer:
            tensor.name = renamed.get(tensor.name, tensor.name)
        rename_uses(graph, renamed)
        seen |= defined_names(graph)
