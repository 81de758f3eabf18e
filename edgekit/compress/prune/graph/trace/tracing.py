"""What is known of a model's channels while its graph is walked over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.compress.prune.graph.trace.partition import Partition
from edgekit.compress.prune.graph.trace.records import (
    Axes,
    Contraction,
    Entries,
    EntryFix,
    Fix,
    Turn,
    WeightUse,
)
from edgekit.compress.prune.graph.trace.static_shapes import StaticShapes
from edgekit.compress.quantize.candidates import FLOATS
from edgekit.graph.scopes import count_captures, count_uses, fixed_initializers, opset_of, subgraphs_of
from edgekit.specs import Array


@dataclass
class Tracing:
    """What is known so far of a model's channels; rules read and extend it.

    Attributes:
        model: As `graph.normalise` leaves it; not changed.
        shapes: Of its values.
        partition: Of all labels.
        axes: Labels of the axes of each value made so far; of constants there is none, every use has its own.
        entries: What integer vectors that are computed from shapes hold.
        uses: Every use of a constant whose axes were labelled.
        contractions: Where channels end.
        fixes: What else has to be rewritten.
        parts: Labels of which at least one must stay.
        turns: What the walk comes to that undoes a merging of axes, by index of the node, with the labels from before.
    """

    model: onnx.ModelProto
    shapes: StaticShapes
    partition: Partition = field(default_factory=Partition)
    axes: dict[str, Axes] = field(default_factory=dict)
    entries: dict[str, Entries] = field(default_factory=dict)
    uses: list[WeightUse] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)
    parts: list[Array] = field(default_factory=list)
    turns: dict[int, tuple[Turn, Axes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = fixed_initializers(self.model.graph)
        self.opset = opset_of(self.model)
        self.reads = count_uses(self.model.graph)

    def rank(self, name: str) -> int | None:
        """Of a value; None where inference failed."""
        dims = self.shapes.fixed.get(name)
        return None if dims is None else len(dims)

    def size(self, name: str, axis: int) -> int | None:
        """Of an axis of a value; None where it is dynamic or unknown."""
        dims = self.shapes.fixed.get(name)
        return None if dims is None else dims[axis]

    def read(self, index: int, position: int) -> Axes | None:
        """The labels of a node's input; a constant gets new ones for this use, None stands for an unknown value."""
        node = self.model.graph.node[index]
        name = node.input[position] if position < len(node.input) else ""
        if name in self.constants:
            return self._use(index, position, name).axes
        return self.axes.get(name)

    def use_of(self, index: int, position: int) -> WeightUse | None:
        """The use of a constant at a node's input, as `read` noted it."""
        return next((u for u in reversed(self.uses) if (u.node, u.input) == (index, position)), None)

    def _use(self, index: int, position: int, name: str) -> WeightUse:
        known = self.use_of(index, position)
        if known is None:
            dims = self.constants[name].dims
            known = WeightUse(index, position, name, tuple(self.partition.fresh(d) if d > 1 else None for d in dims))
            self.uses.append(known)
        return known

    def constant(self, node: onnx.NodeProto, position: int) -> Array | None:
        """The value of a constant input; None where it is no constant or not there."""
        name = node.input[position] if position < len(node.input) else ""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def unlabelled(self, name: str) -> Axes | None:
        """Axes of a value of which nothing can be removed."""
        rank = self.rank(name)
        return None if rank is None else (None,) * rank

    def block(self, axes: Iterable[Array | None], node: onnx.NodeProto, why: str) -> None:
        """All labels of some axes must stay."""
        for labels in axes:
            if labels is not None:
                self.partition.block(labels, f"{node.op_type} {node.name!r} {why}")

    def opaque(self, index: int, why: str = "is not known to keep channels apart") -> None:
        """Whatever a node reads must stay as it is."""
        node = self.model.graph.node[index]
        names = [n for n in node.input if n]
        names += [name for inner in subgraphs_of(node) for name in count_captures(inner)]
        for name in names:
            self.block(self.axes.get(name) or (), node, why)
            self.release(name, node)
        for position, name in enumerate(node.input):
            if name in self.constants and self.constants[name].data_type in FLOATS:
                self.block(self.read(index, position) or (), node, why)
        for name in node.output:
            self.give(name, self.unlabelled(name))

    def release(self, name: str, node: onnx.NodeProto) -> None:
        """An integer vector goes where nobody follows it: the sizes that it tells must not change."""
        self.block((e.labels for e in self.entries.get(name, ())), node, "computes with its size")

    def fix(self, fix: Fix) -> None:
        """Note what has to be rewritten; one place that counts two things makes them one."""
        place = fix.place if isinstance(fix, EntryFix) else None
        same = next((f for f in self.fixes if place and isinstance(f, EntryFix) and f.place == place), None)
        if same is None:
            self.fixes.append(fix)
        elif len(same.labels) == len(fix.labels):
            self.partition.unify(same.labels, fix.labels)
        else:
            self.partition.block(np.concatenate([same.labels, fix.labels]), "one constant is the size of two axes")

    def give(self, name: str, axes: Axes | None) -> None:
        """Note the labels of a value; None for one of which not even the rank is known."""
        if name and axes is not None:
            self.axes[name] = axes
