"""Names and scopes of a graph and its subgraphs: who defines a name, who uses it, how to rename it safely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import onnx

from edgekit.graph.read import every_graph


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds in its attributes (If, Loop, Scan, SequenceMap)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def nested_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and everything below it, outermost first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs_of(node):
            yield from nested_graphs(inner)


def defined_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph itself defines: inputs, initializers and outputs of its nodes."""
    names = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    names |= {s.values.name for s in graph.sparse_initializer}
    for node in graph.node:
        names.update(node.output)
    return names - {""}


def count_uses(graph: onnx.GraphProto) -> Counter[str]:
    """How often each name is read in a graph, its subgraphs included; a graph output is one use."""
    uses: Counter[str] = Counter(o.name for o in graph.output)
    for node in graph.node:
        uses.update(name for name in node.input if name)
        for inner in subgraphs_of(node):
            uses.update(count_captures(inner))
    return uses


def count_captures(graph: onnx.GraphProto) -> Counter[str]:
    """How often a subgraph reads each name of the graphs around it."""
    own = defined_names(graph)
    return Counter({name: count for name, count in count_uses(graph).items() if name not in own})


def rename_uses(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Make nodes of a graph and its subgraphs read other names; a subgraph that defines a name keeps its own."""
    if not names:
        return
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = names[name]
        for inner in subgraphs_of(node):
            own = defined_names(inner)
            visible = {k: v for k, v in names.items() if k not in own}
            rename_uses(inner, visible)
            for output in inner.output:
                output.name = visible.get(output.name, output.name)


def rename_node_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a value that a node of this graph makes another name, and make all its readers follow."""
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == old:
                node.output[i] = new
    rename_uses(graph, {old: new})


class Names:
    """Fresh names that no graph of a model uses yet.

    Args:
        model: Its value and node names are taken.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken: set[str] = set()
        self._next: Counter[str] = Counter()
        for graph in every_graph(model):
            self._taken |= defined_names(graph) | {n.name for n in graph.node}
            for node in graph.node:
                self._taken.update(node.input)

    def fresh(self, wish: str) -> str:
        """`wish` itself if it is free, else with the smallest free number after it."""
        name = wish
        while not name or name in self._taken:
            name = f"{wish}_{self._next[wish]}"
            self._next[wish] += 1
        self._taken.add(name)
        return name


def opset_of(model: onnx.ModelProto, domain: str = "") -> int:
    """The opset of a domain that a model imports; 1 where it names none."""
    names = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return max((o.version for o in model.opset_import if o.domain in names), default=1)


def set_opset(model: onnx.ModelProto, version: int, domain: str = "") -> None:
    """Make a model import this version of a domain."""
    for opset in model.opset_import:
        if opset.domain == domain or (not domain and opset.domain == "ai.onnx"):
            opset.version = version
            return
    model.opset_import.append(onnx.helper.make_opsetid(domain, version))


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or the default."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def fixed_initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers of a graph that no caller can override, by name."""
    inputs = {i.name for i in graph.input}
    return {i.name: i for i in graph.initializer if i.name not in inputs}


def drop_producers(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove the nodes whose first output is one of these names."""
    for i in reversed(range(len(graph.node))):
        if graph.node[i].output and graph.node[i].output[0] in names:
            del graph.node[i]


def drop_initializers(graph: onnx.GraphProto, names: set[str]) -> None:
    """Remove initializers of this graph by name."""
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name in names:
            del graph.initializer[i]
