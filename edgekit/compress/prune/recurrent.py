"""Which units of a recurrent network can only go together: a unit is a row of every gate, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.prune.slots import Group, Slot
from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import nn


def recurrent_network(module: nn.Module) -> tuple[str, Any] | None:
    """Name and module of the recurrent network inside; None where there is none."""
    from edgekit.families.recurrent_module import RecurrentNetwork

    found = ((name, m) for name, m in module.named_modules() if isinstance(m, RecurrentNetwork))
    return next(found, None)


def recurrent_groups(name: str, network: Any) -> list[Group]:
    """The hidden units of each layer, both directions of it together, and the columns of an embedding.

    Args:
        name: Of the network inside the module; "" where it is the module.
        network: A `RecurrentNetwork`.
    """
    from torch import nn

    from edgekit.families.recurrent_module import TiedHead

    inside = f"{name}." if name else ""
    last = len(network.layers) - 1
    tied = isinstance(network.head, TiedHead)
    columns = _columns(inside, network) if isinstance(network.entry, nn.Embedding) else []
    groups = []
    for index, layer in enumerate(network.layers):
        slots = [*_own(f"{inside}layers.{index}.", layer), *_readers(inside, network, index)]
        slots += columns if tied and index == last else []
        groups.append(Group(f"{inside}layers.{index}", layer.width, tuple(slots)))
    if columns and not tied:
        groups.append(Group(f"{inside}entry", network.entry.embedding_dim, tuple(columns)))
    return groups


def _cells(layer: Any) -> Iterator[tuple[str, Any]]:
    """The directions of a layer, by name."""
    yield "ahead", layer.ahead
    if layer.back is not None:
        yield "back", layer.back


def _own(inside: str, layer: Any) -> Iterator[Slot]:
    """A unit's rows in each gate, and its column in what the layer remembers."""
    gates = layer.ahead.weight_hh_l0.shape[0] // layer.width
    rows = np.arange(layer.width)[:, None] + layer.width * np.arange(gates)[None]
    for name, _ in _cells(layer):
        for tensor in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            yield Slot(inside + name, tensor, 0, rows)
        yield Slot(inside + name, "weight_hh_l0", 1, _alone(layer.width))


def _readers(inside: str, network: Any, index: int) -> Iterator[Slot]:
    """Where the next layer, or the head, reads the units of both directions."""
    from torch import nn

    layer = network.layers[index]
    both = np.stack([np.arange(layer.width) + side * layer.width for side, _ in enumerate(_cells(layer))], axis=1)
    if index + 1 < len(network.layers):
        for name, _ in _cells(network.layers[index + 1]):
            yield Slot(f"{inside}layers.{index + 1}.{name}", "weight_ih_l0", 1, both)
    elif isinstance(network.head, nn.Linear):
        yield Slot(f"{inside}head", "weight", 1, both)


def _columns(inside: str, network: Any) -> list[Slot]:
    """The columns of the embedding, and where the first layer reads them."""
    places = _alone(network.entry.embedding_dim)
    read = [Slot(f"{inside}layers.0.{name}", "weight_ih_l0", 1, places) for name, _ in _cells(network.layers[0])]
    return [Slot(f"{inside}entry", "weight", 1, places), *read]


def _alone(count: int) -> Array:
    return np.arange(count)[:, None]
