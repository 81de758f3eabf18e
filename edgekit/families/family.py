"""A family: an architecture with named sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.errors import RecipeError, unknown
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: Name in recipes and on the command line.
        summary: One line for `edgekit list families`.
        paper: Where it comes from.
        tasks: Names of the tasks it can be trained for.
        sizes: "pico" for tests, "small" for recipes, "base" as teacher: the keyword arguments of `build`.
        build: (inputs, number of outputs, **size) -> an untrained module.
        refuses: Techniques that make no sense for it, by name, each with the reason and what to use.
    """

    name: str
    summary: str
    paper: str
    tasks: tuple[str, ...]
    sizes: Mapping[str, Mapping[str, Any]]
    build: Callable[..., nn.Module]
    refuses: Mapping[str, str] = field(default_factory=dict)

    def make(self, size: str, inputs: tuple[TensorSpec, ...], outputs: int) -> nn.Module:
        """An untrained module of a named size.

        Raises:
            RecipeError: if there is no such size; the message holds the nearest.
        """
        if size not in self.sizes:
            raise RecipeError(unknown(f"size of family {self.name!r}", size, self.sizes))
        return self.build(inputs, outputs, **self.sizes[size])
