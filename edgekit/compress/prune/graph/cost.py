"""What a model costs with some channels gone, told without building it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgekit.compress.prune.graph.groups import Channels, Group
from edgekit.graph.macs import macs_of_nodes
from edgekit.graph.shapes import without_weights
from edgekit.specs import Array, Feeds

_RECURRENT = ("LSTM", "GRU", "RNN")
_AXES = 3


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates as a function of how many channels of each group are gone.

    Attributes:
        macs: Of each term with nothing gone, float64 (terms,).
        axes: Which axes multiply in each term, int64 (terms, 3).
        lengths: Of each axis, float64 (axes,).
        taken: Positions that a channel of a group takes of an axis, float64 (axes, groups).
    """

    macs: Array
    axes: Array
    lengths: Array
    taken: Array

    def total(self, gone: Array) -> float:
        """With so many channels of each group gone, (groups,)."""
        left = 1 - (self.taken @ gone) / self.lengths
        return float((self.macs * left[self.axes].prod(axis=1)).sum())


def count_on(model: onnx.ModelProto, feeds: Feeds) -> dict[str, int]:
    """Multiply-accumulates of the nodes of a model for one run on these inputs, by first output."""
    light = without_weights(model)
    for value in light.graph.input:
        if value.name in feeds:
            for dim, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape, strict=False):
                dim.dim_value = size
    return macs_of_nodes(light)


def cost_of(channels: Channels, groups: Sequence[Group], feeds: Feeds) -> Cost:
    """How the cost of a model depends on its channels."""
    counted = count_on(channels.model, feeds)
    lengths, taken = [1.0], [np.zeros(len(groups))]
    macs, axes = list[float](), list[list[int]]()
    for part, labelled in _terms(channels, counted):
        own = []
        for labels in labelled:
            lengths.append(len(labels))
            taken.append(np.array([np.count_nonzero(channels.unit_of(g, labels) == 0) for g in groups], np.float64))
            own.append(len(lengths) - 1)
        macs.append(part)
        axes.append([*own, *[0] * (_AXES - len(own))])
    return Cost(np.array(macs), np.array(axes, np.int64).reshape(-1, _AXES), np.array(lengths), np.array(taken))


def _terms(channels: Channels, counted: dict[str, int]) -> Iterator[tuple[float, list[Array]]]:
    """Each node's share of the cost, and the labels of the axes that it is proportional to."""
    tracing = channels.tracing
    weights = {u.node: u for u in tracing.uses if u.input == 1}
    for index, node in enumerate(tracing.model.graph.node):
        total = counted.get(node.output[0], 0)
        if not total:
            continue
        uses = [u for u in tracing.uses if u.node == index and u.input in (1, 2)] if node.op_type in _RECURRENT else []
        whole = sum(math.prod(tracing.constants[u.name].dims) for u in uses)
        for use in uses:
            yield total * math.prod(tracing.constants[use.name].dims) / whole, _labelled(use.axes)
        if not uses and index in weights:
            axes = weights[index].axes
            outer = tracing.axes.get(node.output[0], ())[:-2] if node.op_type == "MatMul" else ()
            yield total, _labelled((*axes[:2], *outer))
        elif not uses:
            yield total, _labelled(tracing.axes.get(node.output[0], ()))


def _labelled(axes: Sequence[Array | None]) -> list[Array]:
    return [a for a in axes if a is not None][:_AXES]
