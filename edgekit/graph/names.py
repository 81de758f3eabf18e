"""Short names for the values inside a graph: exporters spend up to a tenth of a small file on long ones."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Mapping

import onnx

from edgekit.graph.scopes import defined_names, subgraphs_of


def shorten_values(model: onnx.ModelProto) -> None:
    """Rename every value that is no input or output of the model; nodes keep their names.

    Args:
        model: Changed in place; without functions of its own, whose values have scopes of their own.
    """
    graph = model.graph
    kept = {v.name for v in [*graph.input, *graph.output]}
    _rename(graph, {}, kept, (name for name in _short_names() if name not in kept))


def _short_names() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_letters, repeat=length))


def _rename(graph: onnx.GraphProto, outer: Mapping[str, str], kept: set[str], fresh: Iterator[str]) -> None:
    own = {name: name if name in kept else next(fresh) for name in _in_order(graph)}
    names = {**outer, **own}
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
        for inner in subgraphs_of(node):
            _rename(inner, names, set(), fresh)
    for part in (graph.input, graph.output, graph.initializer, graph.value_info):
        for item in part:
            item.name = names.get(item.name, item.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    del graph.quantization_annotation[:]


def _in_order(graph: onnx.GraphProto) -> list[str]:
    """The names that a graph defines, in an order that does not change from run to run."""
    own = defined_names(graph)
    listed = [*(i.name for i in graph.initializer), *(o for n in graph.node for o in n.output)]
    return list(dict.fromkeys([*(n for n in listed if n), *sorted(own)]))
