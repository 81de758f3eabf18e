"""The walk over a graph: every node's rule in turn, from the inputs to the outputs."""

from __future__ import annotations

import onnx

from edgekit.compress.prune.graph.trace.entries import USE_ENTRIES, read_entries, reads_entries
from edgekit.compress.prune.graph.trace.rules import RULES
from edgekit.compress.prune.graph.trace.static_shapes import static_shapes
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import subgraphs_of


def trace_channels(model: onnx.ModelProto) -> Tracing:
    """Follow the channels of every value of a model's main graph.

    Args:
        model: As `graph.normalise` leaves it.
    """
    tracing = Tracing(model, static_shapes(model))
    for value in model.graph.input:
        tracing.give(value.name, tracing.unlabelled(value.name))
    for index, node in enumerate(model.graph.node):
        _forget_what_escapes(tracing, node)
        if read_entries(tracing, index):
            continue
        if node.op_type not in USE_ENTRIES:
            for name in node.input:
                tracing.release(name, node)
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") or node.op_type == "Gelu" else None
        if rule is None or next(subgraphs_of(node), None) is not None:
            tracing.opaque(index)
        else:
            rule(tracing, index)
    _block_outputs(tracing)
    return tracing


def _forget_what_escapes(tracing: Tracing, node: onnx.NodeProto) -> None:
    for position, name in enumerate(node.input):
        if name in tracing.entries and not reads_entries(node, position):
            tracing.release(name, node)


def _block_outputs(tracing: Tracing) -> None:
    for output in tracing.model.graph.output:
        for labels in tracing.axes.get(output.name, ()):
            if labels is not None:
                tracing.partition.block(labels, f"output {output.name!r} of the model keeps its shape")
        for entry in tracing.entries.get(output.name, ()):
            if entry.labels is not None:
                tracing.partition.block(entry.labels, f"output {output.name!r} of the model tells its size")
