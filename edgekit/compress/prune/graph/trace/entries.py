"""Integer vectors that exporters compute from shapes, element by element: what is constant and what follows a size."""

from __future__ import annotations

import onnx

from edgekit.compress.prune.graph.trace.records import Entries, Entry
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_MOST = 64


_PASSING = ("Cast", "Squeeze", "Unsqueeze")
# Which inputs of which operators are followed; anywhere else the sizes that a vector tells must not change.
_READERS = {
    ("Concat", None),
    ("Gather", 0),
    ("Slice", 0),
    ("Reshape", 1),
    ("Expand", 1),
    ("Resize", 3),
    ("ConstantOfShape", 0),
    *((op, 0) for op in _PASSING),
}

USE_ENTRIES = ("Reshape", "Expand", "Resize", "ConstantOfShape")  # the others only pass them on


def reads_entries(node: onnx.NodeProto, position: int) -> bool:
    """Whether an operator's input is a vector of sizes that is followed."""
    return (node.op_type, position) in _READERS or (node.op_type, None) in _READERS


def entries_at(tracing: Tracing, index: int, position: int) -> Entries | None:
    """The elements of a node's integer input; None where they are not known one by one."""
    node = tracing.model.graph.node[index]
    name = node.input[position] if position < len(node.input) else ""
    if name in tracing.entries:
        return tracing.entries[name]
    value = tracing.constant(node, position)
    if value is None or value.dtype.kind != "i" or value.size > _MOST:
        return None
    return tuple(Entry(int(v), None, index, position, i) for i, v in enumerate(value.ravel()))


def read_entries(tracing: Tracing, index: int) -> bool:
    """Follow a vector of sizes through a node; False where the node is about something else."""
    node = tracing.model.graph.node[index]
    found = _result(tracing, index, node)
    if found is None:
        return False
    tracing.entries[node.output[0]] = found
    tracing.give(node.output[0], tracing.unlabelled(node.output[0]))
    return True


def _result(tracing: Tracing, index: int, node: onnx.NodeProto) -> Entries | None:
    if node.op_type == "Shape":
        axes = tracing.axes.get(node.input[0])
        if axes is None:
            return None
        sizes = tuple(Entry(None, labels) for labels in axes)
        return sizes[attribute(node, "start", 0) : attribute(node, "end")]
    if not any(name in tracing.entries for name in node.input):
        return None
    if node.op_type == "Concat":
        parts = [entries_at(tracing, index, i) for i in range(len(node.input))]
        return None if any(p is None for p in parts) else tuple(e for p in parts if p is not None for e in p)
    first = tracing.entries.get(node.input[0])
    if first is None:
        return None
    if node.op_type in _PASSING:
        return first
    if node.op_type == "Gather":
        return _gathered(first, tracing.constant(node, 1))
    return _sliced(tracing, node, first) if node.op_type == "Slice" else None


def _gathered(entries: Entries, indices: Array | None) -> Entries | None:
    return None if indices is None else tuple(entries[int(i)] for i in indices.ravel())


def _sliced(tracing: Tracing, node: onnx.NodeProto, entries: Entries) -> Entries | None:
    bounds = [tracing.constant(node, i) for i in (1, 2)]
    steps = tracing.constant(node, 4)
    if any(b is None or b.size != 1 for b in bounds) or (steps is not None and steps.ravel()[0] != 1):
        return None
    start, end = (int(b.ravel()[0]) for b in bounds if b is not None)
    return entries[start:end]
