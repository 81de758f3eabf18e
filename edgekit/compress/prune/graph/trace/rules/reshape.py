"""Reshape, Flatten and Expand: axes part and merge; labels follow wherever they still fill whole slices of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.compress.prune.graph.trace.entries import Entries, Entry, entries_at
from edgekit.compress.prune.graph.trace.records import EntryFix, Labels
from edgekit.compress.prune.graph.trace.walk import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_MOST_POSITIONS = 1 << 24


@dataclass(frozen=True)
class Segment:
    """Neighbouring axes of a value that become neighbouring axes of another with as many positions."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def segments(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Segment]:
    """The smallest runs of axes with equal products; axes of size 1 join the run they stand in."""
    i = j = 0
    while i < len(before) or j < len(after):
        ins, outs, left, right = list[int](), list[int](), 1, 1
        while not ins or not outs or left != right:
            if (left <= right or j == len(after)) and i < len(before):
                left, i = left * before[i], i + 1
                ins.append(i - 1)
            elif j < len(after):
                right, j = right * after[j], j + 1
                outs.append(j - 1)
            else:
                break
        while i < len(before) and before[i] == 1:
            ins.append(i)
            i += 1
        while j < len(after) and after[j] == 1:
            outs.append(j)
            j += 1
        yield Segment(tuple(ins), tuple(outs))


def reshape(tracing: Tracing, index: int) -> None:
    """The new shape is a constant, or put together from constants and sizes."""
    node = tracing.model.graph.node[index]
    x, entries = tracing.read(index, 0), entries_at(tracing, index, 1)
    shapes = [tracing.shapes.concrete.get(name) for name in (node.input[0], node.output[0])]
    if x is None or entries is None or None in shapes or len(shapes[1] or ()) != len(entries):
        tracing.opaque(index, "gives it a shape that is computed")
        return
    labels = _reshaped(tracing, index, x)
    given = tuple(_entry_holds(tracing, index, found, e) for found, e in zip(labels, entries, strict=True))
    tracing.give(node.output[0], given)


def flatten(tracing: Tracing, index: int) -> None:
    """Two axes are left."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None or not {node.input[0], node.output[0]} <= set(tracing.shapes.concrete):
        tracing.opaque(index)
        return
    tracing.give(node.output[0], tuple(_reshaped(tracing, index, x)))


def expand(tracing: Tracing, index: int) -> None:
    """Axes of size 1 are repeated; the others keep their labels."""
    node = tracing.model.graph.node[index]
    x, entries, rank = tracing.read(index, 0), entries_at(tracing, index, 1), tracing.rank(node.output[0])
    if x is None or entries is None or rank is None:
        tracing.opaque(index, "gives it a shape that is computed")
        return
    padded: tuple[Labels, ...] = ((None,) * (rank - len(x)) + x)[:rank]
    wished: list[Entry] = [Entry(1)] * (rank - len(entries)) + list(entries)
    axes = (
        labels if e.value == 1 else _entry_holds(tracing, index, labels, e)
        for labels, e in zip(padded, wished, strict=True)
    )
    tracing.give(node.output[0], tuple(axes))


def constant_of_shape(tracing: Tracing, index: int) -> None:
    """Zeros where exporters start a state: as many as are asked for, so the size may follow."""
    node = tracing.model.graph.node[index]
    entries: Entries | None = entries_at(tracing, index, 0)
    if entries is None:
        tracing.opaque(index, "has a shape that is computed")
        return
    tracing.give(node.output[0], tuple(_new_axis(tracing, e) for e in entries))


def _new_axis(tracing: Tracing, entry: Entry) -> Labels:
    if entry.value is None or entry.value < 2:
        return entry.labels
    labels = tracing.partition.fresh(entry.value)
    tracing.fix(EntryFix(entry.node, entry.input, entry.index, labels))
    return labels


def _entry_holds(tracing: Tracing, index: int, labels: Labels, entry: Entry) -> Labels:
    """The labels of a new axis, if what its size is written as can follow."""
    node = tracing.model.graph.node[index]
    if labels is None:
        tracing.block([entry.labels], node, "uses its size for another axis")
        return None
    if entry.value is None:
        if entry.labels is None or len(entry.labels) != len(labels):
            tracing.block((labels, entry.labels), node, "gives it a size that is computed")
            return None
        tracing.partition.unify(labels, entry.labels)
    elif entry.value != -1:
        tracing.fix(EntryFix(entry.node, entry.input, entry.index, labels))
    return labels


def _reshaped(tracing: Tracing, index: int, axes: tuple[Labels, ...]) -> list[Labels]:
    node = tracing.model.graph.node[index]
    before, after = (tracing.shapes.concrete[name] for name in (node.input[0], node.output[0]))
    fixed = (tracing.shapes.fixed[node.input[0]], tracing.shapes.fixed[node.output[0]])
    found: list[Labels] = [None] * len(after)
    for part in segments(before, after):
        labelled = [a for a in part.before if axes[a] is not None]
        if not labelled:
            continue
        dynamic = any(fixed[0][a] is None for a in part.before) or any(fixed[1][a] is None for a in part.after)
        total = math.prod(before[a] for a in part.before)
        if dynamic or total > _MOST_POSITIONS or total != math.prod(after[a] for a in part.after):
            tracing.block((axes[a] for a in labelled), node, "mixes it with an axis of unknown size")
            continue
        tracing.block((axes[a] for a in labelled[1:]), node, "merges it with another axis")
        flat = _spread(axes[labelled[0]], [before[a] for a in part.before], part.before.index(labelled[0]))
        axis, labels = _gathered(tracing, index, flat, [after[a] for a in part.after])
        found[part.after[axis]] = labels
    return found


def _spread(labels: Labels, dims: list[int], axis: int) -> Array:
    """The labels of one axis at every position of several, flat."""
    shape = [1] * len(dims)
    shape[axis] = dims[axis]
    return np.broadcast_to(np.asarray(labels).reshape(shape), dims).ravel()


def _gathered(tracing: Tracing, index: int, flat: Array, dims: list[int]) -> tuple[int, Labels]:
    """The axis that labels run along, with its labels; what lies across becomes one channel."""
    grid = flat.reshape(dims)
    long = [a for a, d in enumerate(dims) if d > 1]
    if not long:
        return 0, None
    across = {a: np.moveaxis(grid, a, 0).reshape(dims[a], -1) for a in long}
    axis = next((a for a in long if (across[a] == across[a][:, :1]).all()), None)
    if axis is None:
        axis = long[-1] if _is_shuffle(tracing, index, dims) else long[0]
        tracing.partition.unify(across[axis], across[axis][:, :1])
    return axis, np.ascontiguousarray(across[axis][:, 0])


def _is_shuffle(tracing: Tracing, index: int, dims: list[int]) -> bool:
    """Whether two axes made of one change places and merge again: then the second counts within each group."""
    graph = tracing.model.graph
    output = graph.node[index].output[0]
    readers = [n for n in graph.node if output in n.input]
    if len(dims) != 2 or len(readers) != 1 or readers[0].op_type != "Transpose":
        return False
    order, rank = attribute(readers[0], "perm", []), tracing.rank(output)
    swapped = [order[i : i + 2] for i in range(len(order) - 1)]
    again = [n for n in graph.node if readers[0].output[0] in n.input]
    shuffled = any(pair[0] == pair[1] + 1 for pair in swapped) and rank is not None
    back = len(again) == 1 and again[0].op_type == "Reshape" and tracing.rank(again[0].output[0]) == (rank or 0) - 1
    return shuffled and back and rank in (4, 5)


RULES = {"Reshape": reshape, "Flatten": flatten, "Expand": expand, "ConstantOfShape": constant_of_shape}
