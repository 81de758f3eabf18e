"""Normalisation and softmax: harmless along channels when they work on each alone, not when they mix them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.compress.prune.graph.trace.records import CountFix, Labels
from edgekit.compress.prune.graph.trace.rules.elementwise import meet
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_SOFTMAX_PER_AXIS = 13


def batch_normalization(tracing: Tracing, index: int) -> None:
    """Scale, shift, mean and variance a channel; further outputs are of training."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None or len([o for o in node.output if o]) > 1 or attribute(node, "training_mode", 0):
        tracing.opaque(index, "is in training mode")
        return
    for position in range(1, len(node.input)):
        own = tracing.read(index, position)
        if own is None:
            tracing.opaque(index, "has statistics that are computed")
            return
        meet(tracing, index, x[1], own[0])
    tracing.give(node.output[0], x)


def instance_normalization(tracing: Tracing, index: int) -> None:
    """Each channel of each sample alone."""
    node = tracing.model.graph.node[index]
    x, scale, bias = (tracing.read(index, i) for i in range(3))
    if x is None or scale is None or bias is None:
        tracing.opaque(index, "has a scale that is computed")
        return
    for own in (scale, bias):
        if own[0] is not None:
            meet(tracing, index, x[1], own[0])
    tracing.block(x[2:], node, "normalises over this axis")
    tracing.give(node.output[0], x)


def group_normalization(tracing: Tracing, index: int) -> None:
    """A group of channels goes as a whole, and is one less to count."""
    node = tracing.model.graph.node[index]
    x, scale, bias = (tracing.read(index, i) for i in range(3))
    groups = int(attribute(node, "num_groups", 0))
    if x is None or x[1] is None or scale is None or bias is None or groups < 1 or len(x[1]) % groups:
        tracing.opaque(index)
        return
    grouped = x[1].reshape(groups, -1)
    tracing.partition.unify(grouped, grouped[:, :1])
    for own in (scale, bias):
        if own[0] is not None:  # before opset 21 one for a group
            meet(tracing, index, own[0], x[1] if len(own[0]) == len(x[1]) else grouped[:, 0])
    tracing.block(x[2:], node, "normalises over this axis")
    tracing.fix(CountFix(index, "num_groups", np.ascontiguousarray(grouped[:, 0])))
    tracing.give(node.output[0], x)


def layer_normalization(tracing: Tracing, index: int) -> None:
    """What it normalises over it mixes: those axes stay."""
    first = int(attribute(tracing.model.graph.node[index], "axis", -1))
    _mix(tracing, index, lambda rank: set(range(first % rank, rank)))


def softmax(tracing: Tracing, index: int) -> None:
    """One axis, and before opset 13 everything behind it, is normalised over."""
    per_axis = tracing.opset >= _SOFTMAX_PER_AXIS
    axis = int(attribute(tracing.model.graph.node[index], "axis", -1 if per_axis else 1))
    _mix(tracing, index, lambda rank: {axis % rank} if per_axis else set(range(axis % rank, rank)))


def lp_normalization(tracing: Tracing, index: int) -> None:
    """One axis is normalised over."""
    axis = int(attribute(tracing.model.graph.node[index], "axis", -1))
    _mix(tracing, index, lambda rank: {axis % rank})


def _mix(tracing: Tracing, index: int, axes_of: Callable[[int], set[int]]) -> None:
    """Axes that are normalised over stay, by the rank of the input; the others pass through to every output."""
    node = tracing.model.graph.node[index]
    x = tracing.read(index, 0)
    if x is None:
        tracing.opaque(index)
        return
    mixed = axes_of(len(x))
    tracing.block((x[a] for a in sorted(mixed)), node, "mixes the channels that it normalises over")
    axes: tuple[Labels, ...] = tuple(None if a in mixed else labels for a, labels in enumerate(x))
    for name in filter(None, node.output):
        tracing.give(name, axes)


def reduce(tracing: Tracing, index: int) -> None:
    """Axes that are reduced stay; so do all where it is not known which are."""
    node = tracing.model.graph.node[index]
    x, axes = tracing.read(index, 0), _reduced(tracing, index)
    if x is None or axes is None:
        tracing.opaque(index, "reduces axes that are not known")
        return
    gone = {int(a) % len(x) for a in axes}
    tracing.block((x[a] for a in gone), node, "sums channels up")
    if attribute(node, "keepdims", 1):
        tracing.give(node.output[0], tuple(None if a in gone else labels for a, labels in enumerate(x)))
    else:
        tracing.give(node.output[0], tuple(labels for a, labels in enumerate(x) if a not in gone))


def _reduced(tracing: Tracing, index: int) -> Array | None:
    node = tracing.model.graph.node[index]
    if node.op_type.startswith("Arg"):
        return np.array([attribute(node, "axis", 0)])
    listed = attribute(node, "axes")
    found = tracing.constant(node, 1) if listed is None else np.array(listed)
    return None if found is None or found.size == 0 else found.ravel()


_REDUCTIONS = "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"

RULES = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys((*_REDUCTIONS.split(), "ReduceSum", "ReduceSumSquare"), reduce),
}
