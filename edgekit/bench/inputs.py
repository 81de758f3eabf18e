"""What a model is fed while it is measured: data, given shapes, or values made from its specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.data.split import own_memory
from edgekit.errors import DataError, ModelError
from edgekit.graph.feeds import generate_feeds
from edgekit.specs import Array, Feeds, TensorSpec


@dataclass(frozen=True)
class BenchInputs:
    """How feeds are made.

    Attributes:
        shapes: Whole shapes by input name, for what the model leaves open beyond the batch.
        data: One array an input, as a source of real values; axis 0 is repeated or cut to the batch.
        seed: Of generated values.
        vocabularies: How many ids there are, by input name, where the model tells.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    data: Feeds | None = None
    seed: int = 0
    vocabularies: Mapping[str, int] = field(default_factory=dict)

    def feeds(self, inputs: Sequence[TensorSpec], batch: int) -> dict[str, Array]:
        """One feed.

        Raises:
            ModelError: for a batch that the model fixes otherwise, a dimension that nothing settles, an unknown input
                name, or a feed beyond 1 GiB.
            DataError: for data that does not fit the inputs.
        """
        refuse_other_batch(inputs, batch)
        if self.data is not None:
            data = own_memory(inputs, self.data) if self.data else self.data  # one that was pruned remembers less
            return {s.name: _from_data(s, data, batch) for s in inputs}
        shapes = {name: self._with_batch(name, shape, inputs, batch) for name, shape in self.shapes.items()}
        try:
            return generate_feeds(inputs, batch=batch, shapes=shapes, seed=self.seed, vocabularies=self.vocabularies)
        except TypeError as error:
            listed = "; ".join(map(str, inputs))
            raise ModelError(f"edgekit cannot make values for these inputs ({listed}); give data") from error

    def batch(self, inputs: Sequence[TensorSpec]) -> int:
        """The batch where none is asked for: what the model fixes, else that of the first given shape, else 1."""
        given = (self.shapes[s.name][0] for s in inputs if _has_open_batch(s) and self.shapes.get(s.name))
        return fixed_batch(inputs) or next(given, 1)

    def _with_batch(self, name: str, shape: Sequence[int], inputs: Sequence[TensorSpec], batch: int) -> Sequence[int]:
        """A given shape at this batch: a first dimension of 1 stands for any, where the model leaves it open."""
        if not any(s.name == name and _has_open_batch(s) for s in inputs) or not shape:
            return shape
        firsts = {other[0] for other in self.shapes.values() if other}
        if batch in firsts:  # the others hold something else there, such as the layers of a state
            return shape
        if firsts == {1}:
            return (batch, *shape[1:])
        raise ModelError(
            f"--shape {name}={'x'.join(map(str, shape))} has batch {shape[0]} and --batch says {batch}; give one of "
            "them, or 1 as the shape's first dimension"
        )

    @property
    def source(self) -> str:
        """Where the values come from, for the record."""
        return "data" if self.data is not None else "generated"


def fixed_batch(inputs: Sequence[TensorSpec]) -> int | None:
    """The batch that a model fixes, or None where an input leaves its first dimension open or none has one."""
    firsts = [s.shape[0] for s in inputs if s.rank]
    if not firsts or any(not isinstance(d, int) for d in firsts):
        return None
    return int(firsts[0])


def _has_open_batch(spec: TensorSpec) -> bool:
    return spec.rank > 0 and not isinstance(spec.shape[0], int)


def refuse_other_batch(inputs: Sequence[TensorSpec], batch: int) -> None:
    """Refuse a batch that the model cannot take."""
    fixed = fixed_batch(inputs)
    if fixed is not None and fixed != batch:
        raise ModelError(
            f"the model fixes the batch at {fixed} ({inputs[0]}), so batch {batch} cannot be measured; use --batch "
            f"{fixed}, or export it with a dynamic batch"
        )


def describe_feeds(feeds: Feeds) -> dict[str, str]:
    """Type and shape of each input that was used.

    >>> describe_feeds({"x": np.zeros((1, 3), np.float32)})
    {'x': 'float32 1x3'}
    """
    return {name: f"{a.dtype} {'x'.join(map(str, a.shape)) or 'scalar'}" for name, a in feeds.items()}


def _from_data(spec: TensorSpec, data: Feeds, batch: int) -> Array:
    if spec.name not in data:
        raise DataError(f"data lacks input {spec}; it has {', '.join(data)}")
    array = np.asarray(data[spec.name])
    if array.ndim != spec.rank:
        raise DataError(f"data of rank {array.ndim} {array.shape} does not fit input {spec}")
    if spec.dtype != "object":
        array = array.astype(spec.dtype, copy=False)
    if not spec.rank or isinstance(spec.shape[0], int):
        return array[: spec.shape[0]] if spec.rank else array
    if len(array) == 0:
        raise DataError(f"data for input {spec} has no samples; give at least one")
    return np.ascontiguousarray(np.resize(array, (batch, *array.shape[1:])))
