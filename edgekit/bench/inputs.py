"""What a model is fed while it is measured: data, given shapes, or values made from its specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    data: Feeds | None = None
    seed: int = 0

    def feeds(self, inputs: Sequence[TensorSpec], batch: int) -> dict[str, Array]:
        """One feed.

        Raises:
            ModelError: for a batch that the model fixes otherwise, a dimension that nothing settles, an unknown input
                name, or a feed beyond 1 GiB.
            DataError: for data that does not fit the inputs.
        """
        refuse_other_batch(inputs, batch)
        if self.data is not None:
            return {s.name: _from_data(s, self.data, batch) for s in inputs}
        try:
            return generate_feeds(inputs, batch=batch, shapes=self.shapes, seed=self.seed)
        except TypeError as error:
            listed = "; ".join(map(str, inputs))
            raise ModelError(f"edgekit cannot make values for these inputs ({listed}); give data") from error

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
