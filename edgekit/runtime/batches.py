"""Samples of any number and length -> batches that a model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.runtime.check import check_arrays
from edgekit.specs import Array, Feeds, TensorSpec

MOST_ROWS = 32


@dataclass(frozen=True)
class Batch:
    """What one run takes.

    Attributes:
        feeds: Name of the input -> array, axis 0 is the batch.
        places: Numbers of the samples that its first rows are; rows behind them are filling.
    """

    feeds: Feeds
    places: tuple[int, ...]


def row_of(given: Any, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """One sample without its batch axis.

    Args:
        given: Arrays by the name of the input, each with a batch axis of 1 or without it; or the only input's array.
        inputs: What the model takes.

    Raises:
        InputError: if a name, a type or a shape is wrong.
    """
    arrays = given if isinstance(given, Mapping) else _only_input(given, inputs)
    specs = {spec.name: spec for spec in inputs}
    whole = {name: _with_batch(value, specs[name]) if name in specs else value for name, value in arrays.items()}
    check_arrays(whole, [_of_any_batch(spec) for spec in inputs])
    return {name: np.asarray(whole[name][0]) for name in specs}


def _only_input(given: Any, inputs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    if len(inputs) == 1 and isinstance(given, np.ndarray):
        return {inputs[0].name: given}
    listed = "; ".join(map(str, inputs))
    raise InputError(f"the model takes arrays by name ({listed}), got {type(given).__name__}")


def _with_batch(value: Any, spec: TensorSpec) -> Any:
    """An array with a batch axis of 1."""
    if not isinstance(value, np.ndarray) or value.ndim != spec.rank:
        return value[None] if isinstance(value, np.ndarray) and value.ndim == spec.rank - 1 else value
    if len(value) > 1:
        raise InputError(
            f"input {spec.name!r} has {len(value)} rows, and one input has one; give a list, or arrays to run()"
        )
    return value


def _of_any_batch(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, ("batch", *spec.shape[1:])) if spec.shape else spec


def cut_batches(
    rows: Sequence[Feeds], inputs: Sequence[TensorSpec], fill: Mapping[str, float] | None = None
) -> Iterator[Batch]:
    """Samples that fit together, in batches.

    Args:
        rows: Samples without a batch axis.
        inputs: What the model takes; a fixed batch size is met by repeating the last sample.
        fill: Name of an input -> value behind its end, for those that may be filled up to a common length. Samples of
            other inputs are put together with those of the same shape only.
    """
    fill = fill or {}
    fixed = next((s.shape[0] for s in inputs if s.shape and isinstance(s.shape[0], int)), None)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(tuple(a.shape for n, a in sorted(row.items()) if n not in fill), []).append(place)
    size = fixed or MOST_ROWS
    for places in groups.values():
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            repeated = [*chosen, *chosen[-1:] * (size - len(chosen) if fixed else 0)]
            names = [spec for spec in inputs if spec.name in rows[chosen[0]]]
            yield Batch({s.name: _stacked([rows[p][s.name] for p in repeated], s, fill) for s in names}, tuple(chosen))


def _stacked(arrays: Sequence[Array], spec: TensorSpec, fill: Mapping[str, float]) -> Array:
    """One array of all, filled up to the longest, or to what the model fixes."""
    if spec.name not in fill:
        return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    longest = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
    shape = [d if isinstance(d, int) else n for d, n in zip(spec.shape[1:], longest, strict=True)]
    out = np.full((len(arrays), *shape), fill[spec.name], spec.dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array
    return out
