"""Reshape, Flatten and Expand: axes part and merge; labels follow wherever they still fill whole slices of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.compress.prune.graph.trace.entries import entries_at
from edgekit.compress.prune.graph.trace.records import Axes, Entries, Entry, EntryFix, Labels, Turn
from edgekit.compress.prune.graph.trace.rules.lookahead import (
    is_picked_apart,
    is_shuffle,
    turn_behind,
    turned_axes,
)
from edgekit.compress.prune.graph.trace.tracing import Tracing
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
    if index in tracing.turns:
        _end_turn(tracing, tracing.turns[index])
        return
    x, entries = tracing.read(index, 0), entries_at(tracing, index, 1)
    shapes = [tracing.shapes.concrete.get(name) for name in (node.input[0], node.output[0])]
    if x is None or entries is None or None in shapes or len(shapes[1] or ()) != len(entries):
        tracing.opaque(index, "gives it a shape that is computed")
        return
    turn = turn_behind(tracing, index)
    if turn is not None and entries[0].value == -1 and any(_is_dynamic(tracing, index, a) for a in range(turn.merged)):
        _begin_turn(tracing, turn, x, entries)
        return
    labels = _reshaped(tracing, index, x)
    given = tuple(_entry_holds(tracing, index, found, e) for found, e in zip(labels, entries, strict=True))
    tracing.give(node.output[0], given)


def _begin_turn(tracing: Tracing, turn: Turn, x: Axes, entries: Entries) -> None:
    """Nothing is labelled until the axes part again; the other sizes that are written down may follow."""
    kept = [_entry_holds(tracing, turn.merge, x[turn.merged - 1 + i], e) for i, e in enumerate(entries) if i]
    tracing.turns[turn.split] = (turn, (*x[: turn.merged], *kept))
    output = tracing.model.graph.node[turn.merge].output[0]
    tracing.give(output, tracing.unlabelled(output))


def _end_turn(tracing: Tracing, begun: tuple[Turn, Axes]) -> None:
    turn, before = begun
    node = tracing.model.graph.node[turn.split]
    labels, entries = turned_axes(turn, before), entries_at(tracing, turn.split, 1)
    if entries is None or len(entries) != len(labels):
        tracing.block(labels, node, "gives it a shape that is computed")
        tracing.give(node.output[0], tracing.unlabelled(node.output[0]))
        return
    given = tuple(_entry_holds(tracing, turn.split, found, e) for found, e in zip(labels, entries, strict=True))
    tracing.give(node.output[0], given)


def _is_dynamic(tracing: Tracing, index: int, axis: int) -> bool:
    return tracing.shapes.fixed[tracing.model.graph.node[index].input[0]][axis] is None


def flatten(tracing: Tracing, index: int) -> None:
    """Two axes are left."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None or not {node.input[0], node.output[0]} <= set(tracing.shapes.concrete):
        tracing.opaque(index)
        return
    tracing.give(node.output[0], tuple(_reshaped(tracing, index, x)))


def expand(tracing: Tracing, index: int) -> None:
    """Axes of size 1 are repeated, as often as is asked for where nothing is labelled; the others keep their labels."""
    node = tracing.model.graph.node[index]
    x, entries, rank = tracing.read(index, 0), entries_at(tracing, index, 1), tracing.rank(node.output[0])
    if x is None or entries is None or rank is None:
        tracing.opaque(index, "gives it a shape that is computed")
        return
    padded: tuple[Labels, ...] = ((None,) * (rank - len(x)) + x)[:rank]
    wished: list[Entry] = [Entry(1)] * (rank - len(entries)) + list(entries)
    dims = tracing.shapes.fixed.get(node.input[0], (None,) * len(x))
    if set(dims) <= {1}:
        tracing.give(node.output[0], tuple(_new_axis(tracing, e) for e in wished))
        return
    axes = (
        labels if e.value == 1 else _entry_holds(tracing, index, labels, e)
        for labels, e in zip(padded, wished, strict=True)
    )
    tracing.give(node.output[0], tuple(axes))


def tile(tracing: Tracing, index: int) -> None:
    """A channel that is repeated is one channel."""
    node = tracing.model.graph.node[index]
    x, repeats = tracing.read(index, 0), entries_at(tracing, index, 1)
    if x is None or repeats is None or len(repeats) != len(x):
        tracing.opaque(index, "repeats it as often as is computed")
        return
    computed = [labels for labels, e in zip(x, repeats, strict=True) if e.value is None]
    tracing.block(computed, node, "repeats it as often as is computed")
    tracing.block((e.labels for e in repeats), node, "repeats by its size")
    times = [(labels, e.value) for labels, e in zip(x, repeats, strict=True)]
    tracing.give(node.output[0], tuple(None if a is None or not n else np.tile(a, n) for a, n in times))


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
        if dynamic and _led(tracing, part, fixed, axes, found):
            continue
        if dynamic or total > _MOST_POSITIONS or total != math.prod(after[a] for a in part.after):
            tracing.block((axes[a] for a in labelled), node, "mixes it with an axis of unknown size")
            continue
        tracing.block((axes[a] for a in labelled[1:]), node, "merges it with another axis")
        flat = _spread(axes[labelled[0]], [before[a] for a in part.before], part.before.index(labelled[0]))
        axis, labels = _gathered(tracing, index, flat, part.after)
        found[axis] = labels
    return found


def _led(
    tracing: Tracing, part: Segment, fixed: tuple[tuple[int | None, ...], ...], axes: Axes, found: list[Labels]
) -> bool:
    """Label the first of several axes after the first of those before, whatever the sizes of the dynamic ones behind.

    Groups of channels are made so for a normalisation of each.
    """
    first = next((a for a in part.before if fixed[0][a] != 1), -1)
    leads = next((a for a in part.after if fixed[1][a] != 1), -1)
    labels = axes[first]
    before, after = fixed[0][first] or 0, fixed[1][leads] or 0
    alone = all(axes[a] is None for a in part.before if a != first)
    if labels is None or not alone or not before or not after or max(before, after) % min(before, after):
        return False
    if after < before:
        grouped = labels.reshape(after, -1)
        tracing.partition.unify(grouped, grouped[:, :1])
        found[leads] = np.ascontiguousarray(grouped[:, 0])
    else:
        found[leads] = np.repeat(labels, after // before)
    return True


def _spread(labels: Labels, dims: list[int], axis: int) -> Array:
    """The labels of one axis at every position of several, flat."""
    shape = [1] * len(dims)
    shape[axis] = dims[axis]
    return np.broadcast_to(np.asarray(labels).reshape(shape), dims).ravel()


def _gathered(tracing: Tracing, index: int, flat: Array, after: tuple[int, ...]) -> tuple[int, Labels]:
    """The axis that labels run along, with its labels; what lies across becomes one channel."""
    output = tracing.model.graph.node[index].output[0]
    dims = [tracing.shapes.concrete[output][a] for a in after]
    grid = flat.reshape(dims)
    long = [i for i, d in enumerate(dims) if d > 1]
    if not long:
        return after[0], None
    across = {i: np.moveaxis(grid, i, 0).reshape(dims[i], -1) for i in long}
    axis = next((i for i in long if (across[i] == across[i][:, :1]).all()), None)
    if axis is None:
        axis = _chosen(tracing, index, long, after)
        tracing.partition.unify(across[axis], across[axis][:, :1])
    return after[axis], np.ascontiguousarray(across[axis][:, 0])


def _chosen(tracing: Tracing, index: int, long: list[int], after: tuple[int, ...]) -> int:
    """The axis along which channels that part are told apart: the first that nothing picks apart."""
    if is_shuffle(tracing, index, len(after)):
        return long[-1]
    output = tracing.model.graph.node[index].output[0]
    return next((i for i in long if not is_picked_apart(tracing, output, after[i])), long[0])


RULES = {"Reshape": reshape, "Flatten": flatten, "Expand": expand, "Tile": tile, "ConstantOfShape": constant_of_shape}
