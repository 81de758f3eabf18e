"""`If` nodes whose condition is known: the branch taken replaces the node."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from edgekit.graph.scopes import Names, attribute, defined_names, fixed_initializers, rename_uses, subgraphs_of


def resolve_branches(model: onnx.ModelProto) -> bool:
    """Replace every If with a constant condition by the branch it takes, in subgraphs too.

    Returns:
        Whether any was replaced.
    """
    return _resolve(model.graph, {}, Names(model))


def _resolve(graph: onnx.GraphProto, outer: dict[str, onnx.TensorProto], names: Names) -> bool:
    own = defined_names(graph)
    known = {k: v for k, v in outer.items() if k not in own} | fixed_initializers(graph)
    taken = {i: n for i, n in enumerate(graph.node) if n.op_type == "If" and not n.domain and n.input[0] in known}
    for i in reversed(taken):
        condition = bool(numpy_helper.to_array(known[taken[i].input[0]]).all())
        _inline(graph, i, condition, names)
    inner = [g for n in graph.node for g in subgraphs_of(n)]
    return any([bool(taken), *(_resolve(g, known, names) for g in inner)])


def _inline(graph: onnx.GraphProto, index: int, condition: bool, names: Names) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[index])
    branch = attribute(node, "then_branch" if condition else "else_branch")
    if not isinstance(branch, onnx.GraphProto):
        return
    made = {o for n in branch.node for o in n.output if o}
    renamed = {name: names.fresh(name) for name in sorted(defined_names(branch))}
    results = dict(zip((o.name for o in branch.output), node.output, strict=False))
    renamed |= {name: result for name, result in results.items() if name in made and result}
    rename_uses(branch, renamed)
    for inner in branch.node:
        inner.output[:] = [renamed.get(o, o) for o in inner.output]
        inner.name = names.fresh(inner.name) if inner.name else ""
    for tensor in branch.initializer:
        tensor.name = renamed[tensor.name]
    graph.initializer.extend(branch.initializer)
    _splice(graph, index, [*branch.node, *_forwards(branch, node, renamed, made)])


def _forwards(
    branch: onnx.GraphProto, node: onnx.NodeProto, renamed: dict[str, str], made: set[str]
) -> list[onnx.NodeProto]:
    """Identities for results that no node of the branch makes, or that are wanted twice."""
    forwards = []
    for value, result in zip(branch.output, node.output, strict=False):
        source = renamed.get(value.name, value.name)
        if result and (value.name not in made or source != result):
            forwards.append(helper.make_node("Identity", [source], [result]))
    return forwards


def _splice(graph: onnx.GraphProto, index: int, nodes: list[onnx.NodeProto]) -> None:
    after = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node[index + 1 :]]
    del graph.node[index:]
    graph.node.extend([*nodes, *after])
