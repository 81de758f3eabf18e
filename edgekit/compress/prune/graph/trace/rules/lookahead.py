"""What becomes of a reshaped value further on: that decides how the channels of an axis that parts are told apart."""

from __future__ import annotations

import math

import onnx

from edgekit.compress.prune.graph.trace.records import Axes, Turn
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute

_PICKS = ("Gather", "Split", "Slice")


def turn_behind(tracing: Tracing, index: int) -> Turn | None:
    """How a Reshape that merges a dynamic axis with another is undone; None where it is not."""
    node = tracing.model.graph.node[index]
    turned = _only_reader(tracing, node.output[0])
    parted = _only_reader(tracing, turned.output[0]) if turned is not None and turned.op_type == "Transpose" else None
    if turned is None or parted is None or parted.op_type != "Reshape":
        return None
    shapes = [tracing.shapes.concrete.get(n) for n in (node.input[0], node.output[0], parted.output[0])]
    whole, flat, after = shapes
    perm = attribute(turned, "perm", [])
    if whole is None or flat is None or after is None or not perm or perm[0] != 0 or len(perm) != len(flat):
        return None
    merged = len(whole) - len(flat) + 1
    order = (*range(merged), *(merged - 1 + a for a in perm[1:]))
    undone = merged > 1 and flat == (math.prod(whole[:merged]), *whole[merged:])
    if not undone or after != tuple(whole[a] for a in order):
        return None
    split = next(i for i, n in enumerate(tracing.model.graph.node) if n.output and n.output[0] == parted.output[0])
    return Turn(index, split, merged, order)


def turned_axes(turn: Turn, axes: Axes) -> Axes:
    """The labels of a value behind a turn."""
    return tuple(axes[a] for a in turn.order)


def is_shuffle(tracing: Tracing, index: int, parts: int) -> bool:
    """Whether two axes made of one change places and merge again: then the second counts within each group."""
    output = tracing.model.graph.node[index].output[0]
    swap = _only_reader(tracing, output)
    if parts != 2 or swap is None or swap.op_type != "Transpose":
        return False
    order, rank = attribute(swap, "perm", []), tracing.rank(output)
    swapped = any(order[i] == order[i + 1] + 1 for i in range(len(order) - 1)) and rank is not None
    again = _only_reader(tracing, swap.output[0])
    back = again is not None and again.op_type == "Reshape" and tracing.rank(again.output[0]) == (rank or 0) - 1
    return swapped and back and rank in (4, 5)


def is_picked_apart(tracing: Tracing, name: str, axis: int) -> bool:
    """Whether positions along an axis are taken one by one: packed queries, keys and values are."""
    readers = _readers(tracing, name)
    return any(_picks(tracing, node, axis) for node in readers)


def _picks(tracing: Tracing, node: onnx.NodeProto, axis: int) -> bool:
    if node.op_type in _PICKS:
        return axis in _chosen_axes(tracing, node)
    moved = _moved(tracing, node, axis)
    return moved is not None and is_picked_apart(tracing, node.output[0], moved)


def _chosen_axes(tracing: Tracing, node: onnx.NodeProto) -> list[int]:
    rank = tracing.rank(node.input[0]) or 1
    if node.op_type != "Slice":
        return [int(attribute(node, "axis", 0)) % rank]
    axes = tracing.constant(node, 3)
    return list(range(rank)) if axes is None else [int(a) % rank for a in axes.ravel()]


def _moved(tracing: Tracing, node: onnx.NodeProto, axis: int) -> int | None:
    """Where an axis is behind a node that only moves it; None behind any other."""
    if node.op_type == "Transpose":
        order = attribute(node, "perm", [])
        return order.index(axis) if axis in order else None
    rank = tracing.rank(node.output[0] if node.op_type == "Unsqueeze" else node.input[0])
    listed = attribute(node, "axes", tracing.constant(node, 1))
    if node.op_type not in ("Squeeze", "Unsqueeze") or rank is None or listed is None:
        return None
    axes = sorted(int(a) % rank for a in listed)
    if node.op_type == "Squeeze":
        return None if axis in axes else axis - sum(a < axis for a in axes)
    return [a for a in range(rank) if a not in axes][axis]


def _readers(tracing: Tracing, name: str) -> list[onnx.NodeProto]:
    return [n for n in tracing.model.graph.node if name in n.input]


def _only_reader(tracing: Tracing, name: str) -> onnx.NodeProto | None:
    """The node that alone reads a value, as its first input; None where others do, or a caller."""
    if tracing.reads[name] != 1:
        return None
    return next((n for n in tracing.model.graph.node if n.input and n.input[0] == name), None)
