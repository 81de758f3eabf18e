"""Operators that put values elsewhere: labels move along with them."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import onnx

from edgekit.compress.prune.graph.trace.records import CountFix, EntryFix, Labels
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_SPLIT_BY_INPUT = 13


def transpose(tracing: Tracing, index: int) -> None:
    """Axes change places."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None:
        tracing.opaque(index)
        return
    order = attribute(node, "perm", list(range(len(x)))[::-1])
    tracing.give(node.output[0], tuple(x[a] for a in order))


def concat(tracing: Tracing, index: int) -> None:
    """Channels side by side; along every other axis they are one."""
    node = tracing.model.graph.node[index]
    parts = [tracing.read(index, i) for i in range(len(node.input))]
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        tracing.opaque(index, "meets a value of unknown shape")
        return
    axis = int(attribute(node, "axis", 0)) % len(known[0])
    joined = _side_by_side(tracing, index, axis, [p[axis] for p in known])
    axes = [_together(tracing, node, [p[a] for p in known]) if a != axis else joined for a in range(len(known[0]))]
    tracing.give(node.output[0], tuple(axes))


def _side_by_side(tracing: Tracing, index: int, axis: int, parts: list[Labels]) -> Labels:
    node = tracing.model.graph.node[index]
    if all(p is None for p in parts):
        return None
    sizes = [tracing.size(name, axis) for name in node.input]
    if any(s is None for s in sizes):
        tracing.block(parts, node, "meets a value of unknown size")
        return None
    found = []
    for labels, size in zip(parts, sizes, strict=True):
        if labels is None:
            labels = tracing.partition.fresh(size or 0)
            tracing.block([labels], node, "takes it from a value whose channels must stay")
        found.append(labels)
    tracing.parts.extend(found)
    return np.concatenate(found)


def _together(tracing: Tracing, node: onnx.NodeProto, parts: list[Labels]) -> Labels:
    labelled = [p for p in parts if p is not None]
    if not labelled:
        return None
    if len(labelled) < len(parts):
        tracing.block(labelled, node, "meets a value whose channels must stay")
        return None
    for other in labelled[1:]:
        tracing.partition.unify(labelled[0], other)
    return labelled[0]


def split(tracing: Tracing, index: int) -> None:
    """Channels part; how many each part gets is counted anew."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None:
        tracing.opaque(index)
        return
    axis = int(attribute(node, "axis", 0)) % len(x)
    labels = x[axis]
    sizes = [tracing.size(name, axis) for name in node.output] if labels is not None else []
    if labels is not None and (any(s is None for s in sizes) or sum(s or 0 for s in sizes) != len(labels)):
        tracing.opaque(index, "parts it into pieces of unknown size")
        return
    parts: list[Labels] = [None] * len(node.output)
    if labels is not None:
        pieces = np.split(labels, list(accumulate(s or 0 for s in sizes))[:-1])
        if not _count_pieces(tracing, index, pieces):
            tracing.opaque(index, "parts it into pieces of sizes that are computed")
            return
        parts = list(pieces)
        tracing.parts.extend(pieces)
    for name, piece in zip(node.output, parts, strict=True):
        tracing.give(name, (*x[:axis], piece, *x[axis + 1 :]))


def _count_pieces(tracing: Tracing, index: int, pieces: list[Array]) -> bool:
    node = tracing.model.graph.node[index]
    by_input = tracing.opset >= _SPLIT_BY_INPUT
    if by_input and len(node.input) > 1 and tracing.constant(node, 1) is None:
        return False
    sizes = tuple(len(p) for p in pieces)
    for i, piece in enumerate(pieces):
        fix = EntryFix(index, 1, i, piece, sizes) if by_input else CountFix(index, "split", piece, i, sizes)
        tracing.fix(fix)
    return True


def slice_(tracing: Tracing, index: int) -> None:
    """A run of channels; its bounds are counted anew."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    bounds = [tracing.constant(node, i) for i in range(1, 3)]
    start, end = bounds
    axes, steps = (tracing.constant(node, i) for i in (3, 4))
    computed = any(len(node.input) > i and node.input[i] and c is None for i, c in ((3, axes), (4, steps)))
    if x is None or start is None or end is None or computed:
        tracing.opaque(index, "takes a run whose bounds are not constant")
        return
    chosen = np.arange(start.size) if axes is None else axes.ravel()
    stride = np.ones(start.size, np.int64) if steps is None else steps.ravel()
    found = list(x)
    for i, axis in enumerate(int(a) % len(x) for a in chosen):
        bounds_here = (int(start.ravel()[i]), int(end.ravel()[i]), int(stride[i]))
        found[axis] = _run(tracing, index, x[axis], bounds_here, i)
    tracing.give(node.output[0], tuple(found))


def _run(tracing: Tracing, index: int, labels: Labels, bounds: tuple[int, int, int], position: int) -> Labels:
    node = tracing.model.graph.node[index]
    if labels is None:
        return None
    start, end, step = slice(*bounds).indices(len(labels))
    if step != 1 or end <= start:
        tracing.block([labels], node, "takes every other channel, or none")
        return None
    tracing.fix(EntryFix(index, 1, position, labels[:start]))
    tracing.fix(EntryFix(index, 2, position, labels[:end]))
    tracing.parts.append(labels[start:end])
    return labels[start:end] if end - start > 1 else None


def gather(tracing: Tracing, index: int) -> None:
    """Picks positions of one axis, which stays; the others go along."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    rank = tracing.rank(node.input[1])
    if x is None or rank is None:
        tracing.opaque(index)
        return
    axis = int(attribute(node, "axis", 0)) % len(x)
    tracing.block([x[axis]], node, "picks channels by their number")
    if node.input[1] in tracing.axes:
        tracing.block(tracing.axes[node.input[1]], node, "picks by it")
    tracing.give(node.output[0], (*x[:axis], *(None,) * rank, *x[axis + 1 :]))


def squeeze(tracing: Tracing, index: int) -> None:
    """Axes of size 1 go."""
    node = tracing.model.graph.node[index]
    x, axes = tracing.read(index, 0), _listed(tracing, node)
    if x is None or axes is None:
        tracing.opaque(index, "takes away axes that are not known")
        return
    gone = {int(a) % len(x) for a in axes}
    tracing.give(node.output[0], tuple(labels for a, labels in enumerate(x) if a not in gone))


def unsqueeze(tracing: Tracing, index: int) -> None:
    """Axes of size 1 come."""
    node = tracing.model.graph.node[index]
    x, axes = tracing.read(index, 0), _listed(tracing, node)
    if x is None or axes is None:
        tracing.opaque(index, "adds axes that are not known")
        return
    rank = len(x) + len(axes)
    new, old = {int(a) % rank for a in axes}, iter(x)
    tracing.give(node.output[0], tuple(None if a in new else next(old) for a in range(rank)))


def _listed(tracing: Tracing, node: onnx.NodeProto) -> Array | None:
    listed = attribute(node, "axes")
    found = tracing.constant(node, 1) if listed is None else np.array(listed)
    return None if found is None else found.ravel()


RULES = {
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
