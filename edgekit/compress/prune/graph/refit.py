"""Making good for channels that are gone: every layer behind them is fitted to what it gave in the original.

Layers are fitted one after the other from the input to the output, each on what the pruned model really gives it, so
that later layers see the errors of earlier ones; where a branch joins another, what that one lost is made good too.

Sources: He et al. 2017, arXiv:1707.06168, section 3.2 (branches); Luo et al. 2017, arXiv:1707.06342 (ThiNet).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from edgekit.compress.prune.graph.ends import End, weight_of
from edgekit.compress.prune.graph.fit import Layer, fit_layer
from edgekit.compress.prune.graph.groups import Channels
from edgekit.compress.prune.graph.runs import run_together
from edgekit.compress.prune.graph.statistics import MAX_COLUMNS, Tally, columns_of, rows_a_sample
from edgekit.compress.prune.graph.wiring import Wires
from edgekit.data.split import Split
from edgekit.progress import note
from edgekit.specs import Array

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_HELD_OUT = 4  # every fourth batch
_BUDGET = 4e13  # multiply-accumulates of all runs together
_LEAST_SAMPLES = 64


@dataclass(frozen=True)
class Refit:
    """One layer that was fitted.

    Attributes:
        layer: Its name.
        error_before: Mean square error of what it gives, in parts of its power, on samples that were held out.
        error_after: The same with the new weight.
    """

    layer: str
    error_before: float
    error_after: float


@dataclass(frozen=True)
class _Goal:
    """What a layer should give: a value of the original, less what another branch adds to it in the pruned model.

    Attributes:
        value: In the original.
        other: In the pruned model; "" for none.
        kept: Which channels of the original's value are left.
    """

    value: str
    other: str
    kept: Array


def refit(
    channels: Channels, units: Array, pruned: onnx.ModelProto, split: Split, samples: int, macs: float
) -> list[Refit]:
    """Fit every layer behind removed channels, in place.

    Args:
        channels: Of the original.
        units: The channels that are gone.
        pruned: The model without them; changed in place.
        split: Calibration data.
        samples: At most so many are run; fewer where that would take very long.
        macs: Of one run of the original.
    """
    gone, done = channels.gone(units), list[Refit]()
    behind = list(layers_behind(channels, gone))
    samples = min(samples, len(split), max(_LEAST_SAMPLES, int(_BUDGET / max(macs * len(behind), 1))))
    for count, output in enumerate(behind):
        wires = Wires(pruned)
        node = wires.producer.get(output)
        if node is None or not _may_be_fitted(wires, node):
            continue
        note(f"fitting {node.name} ({count + 1} of {len(behind)})")
        goal = _goal(channels, gone, wires, node)
        done += _fit(channels, wires, node, goal, split, samples)
    return done


def _may_be_fitted(wires: Wires, node: onnx.NodeProto) -> bool:
    return wires.may_change(node) and columns_of(_end(wires, node)) <= MAX_COLUMNS


def _end(wires: Wires, node: onnx.NodeProto) -> End:
    return End(node, wires.weight(node), node.input[0], np.zeros(0, np.int64))


def layers_behind(channels: Channels, gone: Array) -> Iterator[str]:
    """Outputs of the products whose input lost channels, or is computed from what such a product gives."""
    tracing, touched = channels.tracing, set[str]()
    ended = defaultdict[int, list[Array]](list)
    for contraction in tracing.contractions:
        labels = contraction.use.axes[contraction.axis]
        ended[contraction.use.node] += [] if labels is None else [labels]
    for index, node in enumerate(tracing.model.graph.node):
        lost = any(gone[labels].any() for labels in ended[index])
        drifted = any(i in touched for i in node.input)
        if lost or drifted:
            touched.update(node.output)
            if node.op_type in _PRODUCTS and node.input[1] in tracing.constants:
                yield node.output[0]


def _fit(
    channels: Channels, wires: Wires, node: onnx.NodeProto, goal: _Goal, split: Split, samples: int
) -> list[Refit]:
    """Give a layer the weight that comes nearest to its goal; nothing where its values are not finite."""
    end = _end(wires, node)
    layer = Layer(end.matrices.astype(np.float64), wires.bias(node).reshape(len(end.matrices), -1))
    tallies = _tallied(channels, wires, end, goal, split, samples)
    if not all(t.count and np.isfinite(t.second).all() and np.isfinite(t.cross).all() for t in tallies):
        return []
    fitted = fit_layer(layer, *tallies, with_bias=wires.has_place_for_bias(node))
    wires.store(node, weight_of(node, fitted.layer.matrices, end.weight.shape), fitted.layer.bias.ravel())
    return [Refit(node.name, fitted.before, fitted.after)]


def _tallied(
    channels: Channels, wires: Wires, end: End, goal: _Goal, split: Split, samples: int
) -> tuple[Tally, Tally]:
    """What a layer gets in the pruned model beside what it should give: rows to learn from, and rows to judge by."""
    tallies, rng = (Tally(), Tally()), np.random.default_rng(0)
    asked = [(channels.model, [goal.value]), (wires.model, [end.value, goal.other])]
    positions, groups = rows_a_sample(columns_of(end), samples), len(end.matrices)
    for number, ((whole, part), _) in enumerate(run_together(asked, split, samples, f"fit {end.node.name}")):
        value = part[end.value]
        wanted = _take(whole[goal.value], goal.kept, _axis(end.node))
        if goal.other:
            wanted = wanted - part[goal.other]
        places = end.places(value, positions, rng)
        chosen = tallies[number % _HELD_OUT == _HELD_OUT - 1]
        chosen.add(end.rows(value, places), end.outputs(wanted, places, groups))
    return tallies


def _goal(channels: Channels, gone: Array, wires: Wires, node: onnx.NodeProto) -> _Goal:
    """The layer's own output, or the sum that it is one side of, where the other side is known already."""
    value, other = wires.behind_bias(node), ""
    joined = wires.joins(value)
    if joined is not None and not wires.is_fitted_later(joined[1], node):
        value, other = joined
    labels = channels.tracing.axes[value][_axis(node)]
    size = channels.tracing.size(value, _axis(node))
    kept = np.arange(size or 0) if labels is None else np.flatnonzero(~gone[labels])
    return _Goal(value, other, kept)


def _axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "Conv" else -1


def _take(value: Array, kept: Array, axis: int) -> Array:
    return value if len(kept) == value.shape[axis] else np.take(value, kept, axis=axis)
