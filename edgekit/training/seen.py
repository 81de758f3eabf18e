"""What passed a model for a batch, and the places in it that are looked at; needs no torch to be named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Spot:
    """A place in a module that is looked at.

    Attributes:
        layer: Name of a module inside it.
        entering: Whether what goes in counts, rather than what comes out.
    """

    layer: str
    entering: bool = False


@dataclass(frozen=True)
class Seen:
    """What a model gave for a batch.

    Attributes:
        outputs: Its outputs, in their order.
        spots: What passed the places that were looked at.
    """

    outputs: list[Tensor]
    spots: Mapping[Spot, Tensor] = field(default_factory=dict)
