"""Pooling, padding, resizing and the exchange of depth for space."""

from __future__ import annotations

import numpy as np

from edgekit.compress.prune.graph.trace.entries import entries_at
from edgekit.compress.prune.graph.trace.records import EntryFix, Labels
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute


def pool(tracing: Tracing, index: int) -> None:
    """Every channel alone; places are not told apart by channel only in the first output."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None or len([o for o in node.output if o]) > 1:
        tracing.opaque(index, "tells places by their number")
        return
    tracing.block(x[2:], node, "moves over this axis")
    tracing.give(node.output[0], (*x[:2], *(None,) * (len(x) - 2)))


def pad(tracing: Tracing, index: int) -> None:
    """Axes that are not padded keep their labels."""
    node = tracing.model.graph.node[index]
    x, pads = tracing.read(index, 0), tracing.constant(node, 1)
    listed = attribute(node, "pads")
    pads = np.array(listed) if listed is not None else pads
    axes = tracing.constant(node, 3)
    if x is None or pads is None or (len(node.input) > 3 and node.input[3] and axes is None):
        tracing.opaque(index, "adds a border that is computed")
        return
    chosen = range(len(x)) if axes is None else [int(a) % len(x) for a in axes.ravel()]
    begins, ends = np.split(pads.ravel(), 2)
    padded = {a for a, b, e in zip(chosen, begins, ends, strict=True) if b or e}
    tracing.block((x[a] for a in padded), node, "adds to it")
    tracing.give(node.output[0], tuple(None if a in padded else labels for a, labels in enumerate(x)))


def resize(tracing: Tracing, index: int) -> None:
    """Axes that keep their size keep their labels."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None or attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        tracing.opaque(index)
        return
    axes = [int(a) % len(x) for a in attribute(node, "axes", range(len(x)))]
    found = list(x)
    for position, axis in enumerate(axes):
        found[axis] = _resized(tracing, index, x[axis], axis, position)
    tracing.give(node.output[0], tuple(found))


def _resized(tracing: Tracing, index: int, labels: Labels, axis: int, position: int) -> Labels:
    node = tracing.model.graph.node[index]
    if labels is None:
        return None
    at = 1 if node.op_type == "Upsample" or tracing.opset < 11 else 2
    scales = tracing.constant(node, at)
    if scales is not None and scales.size:
        if scales.ravel()[position] == 1:
            return labels
    elif (entries := entries_at(tracing, index, 3)) is not None and len(entries) > position:
        entry = entries[position]
        if entry.value == len(labels):
            tracing.fix(EntryFix(entry.node, entry.input, entry.index, labels))
            return labels
        if entry.labels is not None and len(entry.labels) == len(labels):
            tracing.partition.unify(labels, entry.labels)
            return labels
    tracing.block([labels], node, "may change its size")
    return None


def depth_to_space(tracing: Tracing, index: int) -> None:
    """A channel is made of a block of channels, which go together."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    block = int(attribute(node, "blocksize", 1)) ** 2
    if x is None or x[1] is None or len(x[1]) % block:
        tracing.opaque(index)
        return
    grid = x[1].reshape(-1, block).T if attribute(node, "mode", b"DCR") == b"CRD" else x[1].reshape(block, -1)
    tracing.partition.unify(grid, grid[:1])
    tracing.block(x[2:], node, "spreads over this axis")
    tracing.give(node.output[0], (x[0], np.ascontiguousarray(grid[0]), None, None))


def space_to_depth(tracing: Tracing, index: int) -> None:
    """A block of places becomes as many times the channels."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None:
        tracing.opaque(index)
        return
    block = int(attribute(node, "blocksize", 1)) ** 2
    tracing.block(x[2:], node, "gathers from this axis")
    tracing.give(node.output[0], (x[0], None if x[1] is None else np.tile(x[1], block), None, None))


_POOLS = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool"

RULES = {
    **dict.fromkeys(_POOLS.split(), pool),
    "Pad": pad,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
