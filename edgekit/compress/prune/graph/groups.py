"""Groups of channels of an ONNX graph: what can be removed, and what must stay, with the reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
import onnx

from edgekit.compress.prune.graph.trace import Contraction, Solution, Tracing, WeightUse, trace_channels
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_MADE_ALONG = {
    "Conv": 0,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
}  # axis of the weight
_UNREAD = "nothing that multiplies them by a weight reads them"


@dataclass(frozen=True)
class Group:
    """Channels of the same layers; each channel may go alone.

    Attributes:
        name: Of the first layer that makes them.
        layers: Names of all layers that make, carry or read them.
        units: Root label of each channel, int64 (n,).
        width: Positions of a channel in the layer that makes it: 1, or more where some go together (heads).
        ends: Where they are multiplied by a weight.
    """

    name: str
    layers: tuple[str, ...]
    units: Array
    width: int
    ends: tuple[Contraction, ...]

    def __len__(self) -> int:
        return len(self.units)

    def step(self, round_to: int) -> int:
        """How many channels go at a time, so that what stays is a multiple of `round_to` positions."""
        return round_to // gcd(round_to, self.width)


@dataclass(frozen=True)
class Kept:
    """A layer whose channels stay, and why."""

    layer: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Channels:
    """The channels of a model.

    Attributes:
        tracing: The walk that they were found on.
        solution: Which labels are one.
        groups: What may be removed, in the graph's order.
        kept: What may not.
    """

    tracing: Tracing
    solution: Solution
    groups: tuple[Group, ...]
    kept: tuple[Kept, ...]

    @property
    def model(self) -> onnx.ModelProto:
        """The model that they are channels of."""
        return self.tracing.model

    @cached_property
    def _labels(self) -> int:
        return len(self.solution.root)

    def gone(self, units: Array) -> Array:
        """Of every label whether it goes when these channels go, bool (labels,)."""
        marked = np.zeros(self._labels, bool)
        marked[units] = True
        return marked[self.solution.root]

    def unit_of(self, group: Group, labels: Array) -> Array:
        """Which channel of a group each label belongs to; -1 for none."""
        order = np.argsort(group.units)
        roots = self.solution.root[labels]
        at = np.clip(np.searchsorted(group.units, roots, sorter=order), 0, len(group) - 1)
        found = order[at]
        return np.where(group.units[found] == roots, found, -1)


@dataclass(frozen=True)
class _Place:
    """One axis of one weight."""

    use: WeightUse
    axis: int
    labels: Array


def find_channels(model: onnx.ModelProto) -> Channels:
    """Follow the channels of a model and put those of the same layers together.

    Args:
        model: As `graph.normalise` leaves it.
    """
    tracing = trace_channels(model)
    solution = tracing.partition.solve()
    places = [_Place(u, a, labels) for u in tracing.uses for a, labels in enumerate(u.axes) if labels is not None]
    ends = {(c.use.node, c.use.input, c.axis): c for c in tracing.contractions}
    groups, kept = list[Group](), list[Kept]()
    for units, members in _alike(places, solution):
        makers = [p for p in members if _makes(model, p, ends)]
        if not makers:
            continue
        found = tuple(c for p in members if (c := ends.get((p.use.node, p.use.input, p.axis))) is not None)
        name, width = _name(model, makers[0]), _width(makers[0], units, solution)
        reasons = {r for u in units.tolist() for r in solution.reasons.get(u, ())}
        if reasons or not found:
            kept.append(Kept(name, len(units) * width, "; ".join(sorted(reasons)) or _UNREAD))
        else:
            layers = tuple(dict.fromkeys(_name(model, p) for p in members))
            groups.append(Group(name, layers, units, width, found))
    return Channels(tracing, solution, tuple(groups), tuple(kept))


def _alike(places: list[_Place], solution: Solution) -> Iterator[tuple[Array, list[_Place]]]:
    """Channels that stand in the same places as often, and whether all of them may go alike; in the graph's order."""
    where: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for i, place in enumerate(places):
        roots, counts = np.unique(solution.root[place.labels], return_counts=True)
        for root, count in zip(roots.tolist(), counts.tolist(), strict=True):
            where[root][i] = count
    together: defaultdict[tuple[bool, frozenset[tuple[int, int]]], list[int]] = defaultdict(list)
    for root, counted in where.items():
        together[root in solution.reasons, frozenset(counted.items())].append(root)
    for (_, key), units in sorted(together.items(), key=lambda item: min(i for i, _ in item[0][1])):
        yield np.array(sorted(units), np.int64), [places[i] for i, _ in sorted(key)]


def _makes(model: onnx.ModelProto, place: _Place, ends: dict[tuple[int, int, int], Contraction]) -> bool:
    """Whether a layer makes channels along an axis of its weight."""
    node = model.graph.node[place.use.node]
    axis = _MADE_ALONG.get(node.op_type, -1)
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        axis = 0
    ended = (place.use.node, place.use.input, place.axis) in ends
    return place.use.input == 1 and place.axis == axis and not ended


def _name(model: onnx.ModelProto, place: _Place) -> str:
    return model.graph.node[place.use.node].name


def _width(place: _Place, units: Array, solution: Solution) -> int:
    return int(np.count_nonzero(solution.root[place.labels] == units[0]))
