"""What a walk over a graph notes down for the removal of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgekit.specs import Array

Labels: TypeAlias = Array | None
Axes: TypeAlias = tuple[Labels, ...]


@dataclass(frozen=True)
class Entry:
    """One element.

    Attributes:
        value: Where it is constant; None where it is the size of an axis at run time.
        labels: Of the axis whose size it is; None where nothing can be removed from that.
        node: Where the constant is read, so that it can be rewritten there.
        input: Which input of that node.
        index: Which element of that input.
    """

    value: int | None
    labels: Array | None = None
    node: int = -1
    input: int = -1
    index: int = 0


Entries: TypeAlias = tuple[Entry, ...]


@dataclass(frozen=True)
class Turn:
    """Reshape, Transpose, Reshape that exchange the last axes of a value, its first axes merged meanwhile.

    Attributes:
        merge: Index of the first Reshape.
        split: Index of the second.
        merged: How many axes are one in between.
        order: Of the axes of the value before, as the second Reshape leaves them.
    """

    merge: int
    split: int
    merged: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class WeightUse:
    """One node reading one initializer.

    Attributes:
        node: Index of the node in the graph.
        input: Which of its inputs.
        name: Of the initializer.
        axes: Labels of each of its axes; None where nothing can be removed.
    """

    node: int
    input: int
    name: str
    axes: Axes


@dataclass(frozen=True)
class Contraction:
    """Where channels end: a product with a weight sums over them.

    Attributes:
        use: The weight.
        axis: Of the weight, that is summed over.
        value: The value that is multiplied, and whose channels end here.
        source_axis: The axis of that value.
        groups: Of a convolution; the axis of the weight holds the channels of one group.
    """

    use: WeightUse
    axis: int
    value: str
    source_axis: int
    groups: int = 1


@dataclass(frozen=True)
class CountFix:
    """An attribute that counts channels: set to how many of `labels` stay.

    Attributes:
        node: Index of the node in the graph.
        attribute: Its integer attribute, or a list of which `index` is meant.
        labels: What is counted.
        index: Into a list; None for a plain integer.
        default: The whole list where the node has none.
    """

    node: int
    attribute: str
    labels: Array
    index: int | None = None
    default: tuple[int, ...] = ()


@dataclass(frozen=True)
class EntryFix:
    """An element of a constant integer input: set to how many of `labels` stay.

    Attributes:
        node: Index of the node in the graph.
        input: Which of its inputs; made where it is not there.
        index: Into the flat constant.
        labels: What is counted.
        default: The whole constant where the node has none.
    """

    node: int
    input: int
    index: int
    labels: Array
    default: tuple[int, ...] = ()

    @property
    def place(self) -> tuple[int, int, int]:
        """Node, input and element."""
        return self.node, self.input, self.index


Fix: TypeAlias = CountFix | EntryFix
