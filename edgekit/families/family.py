"""A family: an architecture with named sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.errors import RecipeError, unknown
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

Inputs = tuple[TensorSpec, ...]


NO_HEADS = {"prune: heads": "it has no attention heads; use `prune: channels`"}
NO_BLOCKS = {"prune: layers": "it has no residual blocks that could be left out; use `prune: channels`"}


def as_the_data(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """The model gets what the data holds, and nothing else."""
    return inputs


def as_many_as_positions(size: Mapping[str, Any]) -> Mapping[str, int]:
    """A text is as long as there are positions; without a number of them it may be of any length."""
    return {"length": size["positions"]} if "positions" in size else {}


def no_objection(size: Mapping[str, Any]) -> str:
    """Every size has the part."""
    return ""


@dataclass(frozen=True)
class Part:
    """A part of a model that is worth a file of its own.

    Attributes:
        pick: The whole module -> the part.
        inputs: (inputs of the data, keyword arguments of the size) -> inputs of the part.
        outputs: Names of the graph's outputs; a function of the size's keyword arguments where it sets their number.
        behind_task: Whether these come behind the outputs that the task names.
        refuses: Keyword arguments of the size -> why a model of that size has no such part; "" where it has.
    """

    pick: Callable[[nn.Module], nn.Module]
    inputs: Callable[[Inputs, Mapping[str, Any]], Inputs]
    outputs: tuple[str, ...] | Callable[[Mapping[str, Any]], tuple[str, ...]]
    behind_task: bool = False
    refuses: Callable[[Mapping[str, Any]], str] = no_objection

    def output_names(self, size: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the graph's outputs, at a size."""
        return self.outputs(size) if callable(self.outputs) else self.outputs


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: Name in recipes and on the command line.
        summary: One line for `edgekit list families`.
        paper: Where it comes from.
        tasks: Names of the tasks it can be trained for.
        sizes: "pico" for tests, "small" for recipes, "base" as teacher: the keyword arguments of `build`.
        build: (inputs of the data, number of outputs, **size) -> an untrained module.
        inputs: (inputs of the data, keyword arguments of the size) -> inputs of the model; what the data lacks of them
            is drawn from a standard normal distribution.
        discriminator: (inputs of the data, **size) -> the adversary of a generator; None for other models.
        parts: Parts that `edgekit export --part` writes, by name.
        limits: Keyword arguments of the size -> the longest that open dimensions may be, by name.
        by_task: Whether `build` takes `task` too, the task's name.
        refuses: Techniques that make no sense for it, by name, each with the reason and what to use.
    """

    name: str
    summary: str
    paper: str
    tasks: tuple[str, ...]
    sizes: Mapping[str, Mapping[str, Any]]
    build: Callable[..., nn.Module]
    inputs: Callable[[Inputs, Mapping[str, Any]], Inputs] = as_the_data
    discriminator: Callable[..., nn.Module] | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    limits: Callable[[Mapping[str, Any]], Mapping[str, int]] = as_many_as_positions
    by_task: bool = False
    refuses: Mapping[str, str] = field(default_factory=dict)

    def make(self, size: str, inputs: Inputs, outputs: int, *, task: str = "") -> nn.Module:
        """An untrained module of a named size.

        Args:
            size: Its name.
            inputs: Of the data.
            outputs: Number of outputs.
            task: What it is for; the first of the family's tasks by default.

        Raises:
            RecipeError: if there is no such size; the message holds the nearest.
        """
        purpose = {"task": task or self.tasks[0]} if self.by_task else {}
        return self.build(inputs, outputs, **self._size(size), **purpose)

    def limits_of(self, size: str) -> Mapping[str, int]:
        """The longest that open dimensions of the inputs may be, by name."""
        return self.limits(self._size(size))

    def model_inputs(self, size: str, inputs: Inputs) -> Inputs:
        """What a model of a named size gets, from what the data holds.

        Raises:
            RecipeError: if there is no such size; the message holds the nearest.
        """
        return self.inputs(inputs, self._size(size))

    def _size(self, size: str) -> Mapping[str, Any]:
        if size not in self.sizes:
            raise RecipeError(self.no_size(size))
        return self.sizes[size]

    def no_size(self, got: str) -> str:
        """What is said of a size that this family has not."""
        return unknown("size", got, self.sizes, of=f"family {self.name!r}")
