"""Second moments of what multiplies a weight, gathered on calibration data in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from edgekit.compress.quantize.candidates import Use, Weight
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.graph.scopes import attribute
from edgekit.progress import track
from edgekit.specs import Array

MAX_COLUMNS = 4096
_MAX_BYTES = 1 << 29
_BATCH = 8
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Seen:
    """Which value multiplies a weight.

    Attributes:
        value: Its name in the graph.
        columns: The length of the weight's reduced axis.
        recurrent: Whether it is a recurrent layer's own output, (time, directions, batch, hidden).
    """

    value: str
    columns: int
    recurrent: bool = False


@dataclass(frozen=True)
class Observed:
    """What a value is like on calibration data.

    Attributes:
        second: E[x x^T], float64 (directions, columns, columns).
        low: Smallest value of each column, (directions, columns).
        high: Largest value of each column, (directions, columns).
    """

    second: Array
    low: Array
    high: Array

    def divided(self, factor: Array) -> Observed:
        """The same for x / factor; factor is (columns,) and positive."""
        return Observed(self.second / np.outer(factor, factor), self.low / factor, self.high / factor)


def multiplier_of(weight: Weight) -> Seen | None:
    """What multiplies a weight that one matrix product or recurrent layer reads; None for any other."""
    if len(weight.uses) != 1:
        return None
    use = weight.uses[0]
    columns = _columns(weight, use)
    if columns is None or columns > MAX_COLUMNS:
        return None
    recurrent = use.node.op_type in _RECURRENT and use.index == 2
    value = use.node.output[0] if recurrent else use.node.input[0]
    return Seen(value, columns, recurrent) if value else None


def _columns(weight: Weight, use: Use) -> int | None:
    dims = list(weight.tensor.dims)
    if use.node.op_type == "MatMul" and use.index == 1 and len(dims) == 2:
        return dims[0]
    if use.node.op_type == "Gemm" and use.index == 1 and not attribute(use.node, "transA", 0):
        return dims[1] if attribute(use.node, "transB", 0) else dims[0]
    if use.node.op_type in _RECURRENT and use.index in (1, 2) and len(dims) == 3:
        return dims[2]
    return None


def as_matrices(weight: Weight, values: Array) -> Array:
    """Values of the weight's shape as (directions, rows, columns), such that outputs are x @ matrix.T."""
    use = weight.uses[0]
    if use.node.op_type in _RECURRENT:
        return values
    return (values if attribute(use.node, "transB", 0) else values.T)[None]


def from_matrices(weight: Weight, matrices: Array) -> Array:
    """What `as_matrices` took apart, in the weight's own shape."""
    use = weight.uses[0]
    if use.node.op_type in _RECURRENT:
        return matrices
    return np.asarray(matrices[0] if attribute(use.node, "transB", 0) else matrices[0].T)


def observe_multipliers(
    model: onnx.ModelProto, weights: Iterable[Weight], split: Split, samples: int
) -> dict[str, Observed]:
    """What multiplies each weight of the main graph, by the value's name.

    Memory does not grow with the number of samples; values beyond half a gigabyte of moments are left out.

    Returns:
        By name of the value; {} where the model cannot be run so.
    """
    wanted: dict[str, Seen] = {}
    budget = _MAX_BYTES
    for weight in weights:
        seen = multiplier_of(weight) if weight.graph is model.graph else None
        if seen is not None and seen.value not in wanted and seen.columns**2 * 8 <= budget:
            budget -= seen.columns**2 * 8
            wanted[seen.value] = seen
    tallies: dict[str, _Tally] = {}
    if not wanted:
        return {}
    try:
        for name, value in _observe(model, list(wanted), split.take(samples)):
            tallies.setdefault(name, _Tally()).add(_as_rows(value, wanted[name]))
    except ModelError:
        return {}
    return {name: tally.observed() for name, tally in tallies.items() if tally.rows and tally.is_finite}


def gather_moments(model: onnx.ModelProto, weights: Iterable[Weight], split: Split, samples: int) -> dict[str, Array]:
    """Only the second moments of `observe_multipliers`: (directions, columns, columns) by name of the value."""
    return {name: seen.second for name, seen in observe_multipliers(model, weights, split, samples).items()}


class _Tally:
    """Running sums over rows."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum: Array = np.zeros(())
        self._low: Array = np.full((), np.inf)
        self._high: Array = np.full((), -np.inf)

    def add(self, rows: Array) -> None:
        """Take in (directions, rows, columns)."""
        if rows.shape[1] == 0:
            return
        self.rows += rows.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # masks; what holds them is left out in the end
            self._sum = self._sum + np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64)
        self._low = np.minimum(self._low, rows.min(axis=1))
        self._high = np.maximum(self._high, rows.max(axis=1))

    @property
    def is_finite(self) -> bool:
        """Whether no square was beyond the float limits."""
        return bool(np.isfinite(self._sum).all())

    def observed(self) -> Observed:
        """What the rows so far say."""
        return Observed(self._sum / self.rows, self._low, self._high)


def _observe(model: onnx.ModelProto, names: list[str], split: Split) -> Iterator[tuple[str, Array]]:
    from edgekit.ort.session import Session

    inputs = {i.name for i in model.graph.input}
    there = {o.name for o in model.graph.output} | inputs
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    session = Session(exposed.SerializeToString(), threads=None)
    data = split.matched(session.inputs)
    asked = [n for n in names if n not in inputs]
    total = -(-len(data) // _BATCH)
    for part in track(data.batches(session.inputs, _BATCH), "observe inputs of weights", total=total):
        values = dict(zip(asked, session.run(part.feeds, asked) if asked else [], strict=True))
        for name in names:
            yield name, values[name] if name in values else part.feeds[name]


def _as_rows(value: Array, seen: Seen) -> Array:
    """(directions, rows, columns) float32."""
    if seen.recurrent:
        return value.transpose(1, 0, 2, 3).reshape(value.shape[1], -1, value.shape[3]).astype(np.float32)
    return value.reshape(1, -1, value.shape[-1]).astype(np.float32)
