"""The samples that LoadGen draws from, and feeds put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.bench.inputs import BenchInputs, fixed_batch
from edgekit.specs import Array, Feeds, TensorSpec

_GENERATED = 64
_FROM_DATA = 1024
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Library:
    """Samples in memory.

    Attributes:
        count: How many there are.
        batched: Arrays with one sample a row, (count, ...).
        shared: Arrays that every run gets as they are.
        fill: Rows that a run must have; None where the model takes any number.
    """

    count: int
    batched: Feeds
    shared: Feeds
    fill: int | None

    def feed(self, indices: Sequence[int]) -> dict[str, Array]:
        """The feed of one run; where the model fixes the batch, the last sample fills what is missing."""
        if self.fill is not None and len(indices) < self.fill:
            indices = [*indices, *[indices[-1]] * (self.fill - len(indices))]
        if len(indices) == 1:
            only = indices[0]
            rows = {name: array[only : only + 1] for name, array in self.batched.items()}
        else:
            rows = {name: array[np.asarray(indices)] for name, array in self.batched.items()}
        return {**rows, **self.shared}


def make_library(inputs: BenchInputs, specs: Sequence[TensorSpec]) -> Library:
    """Samples for a model's inputs: rows of the data, or generated ones.

    Args:
        inputs: Shapes, data and seed; of a given shape everything but the first dimension counts.
        specs: The model's inputs.

    Raises:
        ModelError: for dimensions beyond the batch that nothing settles, or samples beyond 1 GiB.
        DataError: for data that does not fit.
    """
    fixed = fixed_batch(specs)
    opened = [_opened(s, fixed) for s in specs]
    rows = {s.name for s in opened if s.rank and not isinstance(s.shape[0], int)}

    def draw(count: int) -> dict[str, Array]:
        shapes = {n: (count, *d[1:]) if n in rows else d for n, d in inputs.shapes.items()}
        return replace(inputs, shapes=shapes).feeds(opened, count)

    one = draw(1)
    size = sum(one[name].nbytes for name in rows)
    wanted = _rows_of(inputs.data, rows) if inputs.data is not None else _GENERATED
    count = max(1, min(wanted, _MOST_BYTES // max(size, 1))) if rows else 1
    drawn = draw(count)
    shared = {name: array for name, array in drawn.items() if name not in rows}
    return Library(count, {name: drawn[name] for name in rows}, shared, fixed)


def _opened(spec: TensorSpec, fixed: int | None) -> TensorSpec:
    """The input with its fixed batch set free, so that it can hold the whole library."""
    if fixed is None or not spec.rank or spec.shape[0] != fixed:
        return spec
    return replace(spec, shape=("samples", *spec.shape[1:]))


def _rows_of(data: Feeds, rows: set[str]) -> int:
    return min(_FROM_DATA, max((len(a) for name, a in data.items() if name in rows and a.ndim), default=1))
