"""Recurrent layers: a hidden unit has a row in every gate, and a column in what is fed back."""

from __future__ import annotations

import numpy as np

from edgekit.compress.prune.graph.trace.records import Contraction, CountFix
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_PEEPHOLES = 3


def recurrent(tracing: Tracing, index: int) -> None:
    """X (time, batch, in), W (directions, gates * hidden, in), R (directions, gates * hidden, hidden)."""
    node = tracing.model.graph.node[index]
    x, w, r = (tracing.read(index, i) for i in range(3))
    weights = all(i >= len(node.input) or not node.input[i] or node.input[i] in tracing.constants for i in (1, 2, 3, 7))
    hidden = int(attribute(node, "hidden_size", 0))
    if x is None or w is None or r is None or not weights or attribute(node, "layout", 0) or hidden < 2:
        tracing.opaque(index, "has weights that are computed, or its batch first")
        return
    units, gates = tracing.partition.fresh(hidden), _GATES[node.op_type]
    for axes, axis, repeats in ((w, 1, gates), (r, 1, gates), (r, 2, 1)):
        _follow(tracing, axes[axis], units, repeats)
    _follow_states(tracing, index, units, gates)
    tracing.fix(CountFix(index, "hidden_size", units))
    tracing.block((w[0], r[0], x[0], x[1]), node, "counts time, batch or directions by it")
    use = tracing.use_of(index, 1)
    if x[2] is not None and w[2] is not None and use is not None:
        tracing.partition.unify(x[2], w[2])
        tracing.contractions.append(Contraction(use, 2, node.input[0], -1))
    else:
        tracing.block((x[2], w[2]), node, "has an input whose channels must stay")
    outputs = ((None, None, None, units), (None, None, units), (None, None, units))
    for name, axes_given in zip(node.output, outputs, strict=False):
        tracing.give(name, axes_given)
    fed_back = tracing.use_of(index, 2)
    if fed_back is not None:
        tracing.contractions.append(Contraction(fed_back, 2, node.output[0], -1))


def _follow_states(tracing: Tracing, index: int, units: Array, gates: int) -> None:
    node = tracing.model.graph.node[index]
    peepholes = _PEEPHOLES if node.op_type == "LSTM" else 1
    for position, repeats in ((3, 2 * gates), (5, 1), (6, 1), (7, peepholes)):
        if position >= len(node.input) or not node.input[position]:
            continue
        axes = tracing.read(index, position)
        if axes is None or axes[-1] is None:
            tracing.block([units], node, "starts from a state that must keep its size")
        else:
            _follow(tracing, axes[-1], units, repeats)
            tracing.block(axes[:-1], node, "counts batch or directions by it")


def _follow(tracing: Tracing, labels: Array | None, units: Array, repeats: int) -> None:
    """Rows or columns of a weight belong to hidden units, gate by gate."""
    if labels is None or len(labels) != repeats * len(units):
        tracing.partition.block(units, "its weights have another size than its state")
    else:
        tracing.partition.unify(labels, np.tile(units, repeats))


RULES = dict.fromkeys(_GATES, recurrent)
