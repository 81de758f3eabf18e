"""Second moments of what multiplies a weight, gathered on calibration data in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgekit.compress.quantize.candidates import Use, Weight
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.graph.scopes import attribute
from edgekit.progress import track, warn
from edgekit.specs import Array

MAX_COLUMNS = 4096
_MAX_CONV_COLUMNS = 2304
_MAX_BYTES = 1 << 29
_BATCH = 8
_BATCH_VALUES = 1 << 18  # of the inputs; large images are run one by one
_MIN_POSITIONS = 4096  # of a convolution, over all samples; and 4 a column
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Window:
    """Where a convolution looks.

    Attributes:
        groups: Of channels.
        kernel: (spatial,) extents.
        strides: (spatial,).
        dilations: (spatial,).
        pads: (2 * spatial,), all begins before all ends.
    """

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    def rows(self, value: Array, positions: int) -> Array:
        """What is seen at so many positions, evenly spread: (groups, batch * positions, channels / groups * kernel).

        Args:
            value: (batch, channels, spatial...).
            positions: At most; fewer where there are fewer.
        """
        seen = self._seen(value)
        if seen is None:
            return np.zeros((self.groups, 0, 1), np.float32)
        most = int(np.prod(self._grid(seen)))
        return self._rows(seen, np.linspace(0, most - 1, min(positions, most)).astype(np.int64))

    def rows_at(self, value: Array, places: Array) -> Array:
        """What is seen at chosen positions of the flat grid: (groups, batch * places, channels / groups * kernel)."""
        seen = self._seen(value)
        return np.zeros((self.groups, 0, 1), np.float32) if seen is None else self._rows(seen, places)

    def _seen(self, value: Array) -> Array | None:
        """A view of every window, (batch, channels, grid..., kernel...); None where not one fits."""
        axes, n = tuple(range(2, value.ndim)), len(self.kernel)
        padded = np.pad(value, [(0, 0), (0, 0), *zip(self.pads[:n], self.pads[n:], strict=True)])
        extents = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        if any(padded.shape[a] < e for a, e in zip(axes, extents, strict=True)):
            return None
        seen = np.lib.stride_tricks.sliding_window_view(padded, extents, axis=axes)
        apart: list[Any] = [slice(None), slice(None), *(slice(None, None, s) for s in self.strides)]
        return np.asarray(seen[(*apart, *(slice(None, None, d) for d in self.dilations))])

    def _grid(self, seen: Array) -> tuple[int, ...]:
        return tuple(seen.shape[2 : 2 + len(self.kernel)])

    def _rows(self, seen: Array, chosen: Array) -> Array:
        places: list[Any] = [slice(None), slice(None), *np.unravel_index(chosen, self._grid(seen))]
        taken = seen[tuple(places)]  # (batch, channels, positions, kernel...)
        batch, channels = seen.shape[:2]
        split = taken.reshape(batch, self.groups, channels // self.groups, len(chosen), -1)
        rows: Array = split.transpose(1, 0, 3, 2, 4).reshape(self.groups, batch * len(chosen), -1)
        return rows.astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """Which value multiplies a weight.

    Attributes:
        value: Its name in the graph.
        columns: The length of the weight's reduced axis.
        recurrent: Whether it is a recurrent layer's own output, (time, directions, batch, hidden).
        window: What a convolution sees of it at a time.
    """

    value: str
    columns: int
    recurrent: bool = False
    window: Window | None = None

    @property
    def name(self) -> str:
        """The value's, and which windows of it are seen."""
        return self.value if self.window is None else f"{self.value} through {self.window}"


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
    """What multiplies a weight that one product, convolution or recurrent layer reads; None for any other."""
    if len(weight.uses) != 1:
        return None
    use = weight.uses[0]
    if use.node.op_type == "Conv":
        return _seen_by_conv(weight, use)
    columns = _columns(weight, use)
    if columns is None or columns > MAX_COLUMNS:
        return None
    recurrent = use.node.op_type in _RECURRENT and use.index == 2
    value = use.node.output[0] if recurrent else use.node.input[0]
    return Seen(value, columns, recurrent) if value else None


def _seen_by_conv(weight: Weight, use: Use) -> Seen | None:
    dims = tuple(weight.tensor.dims)
    columns = int(np.prod(dims[1:]))
    automatic = attribute(use.node, "auto_pad", b"NOTSET")
    if use.index != 1 or columns > _MAX_CONV_COLUMNS or automatic not in (b"NOTSET", b"VALID"):
        return None
    ones = [1] * (len(dims) - 2)
    window = Window(
        int(attribute(use.node, "group", 1)),
        dims[2:],
        tuple(attribute(use.node, "strides", ones)),
        tuple(attribute(use.node, "dilations", ones)),
        tuple(attribute(use.node, "pads", [0] * 2 * len(ones))),
    )
    return Seen(use.node.input[0], columns, window=window)


def _columns(weight: Weight, use: Use) -> int | None:
    dims = list(weight.tensor.dims)
    if use.node.op_type == "MatMul" and use.index == 1 and len(dims) == 2:
        return dims[0]
    if use.node.op_type == "Gemm" and use.index == 1 and not attribute(use.node, "transA", 0):
        return dims[1] if attribute(use.node, "transB", 0) else dims[0]
    if use.node.op_type in _RECURRENT and use.index in (1, 2) and len(dims) == 3:
        return dims[2]
    return None


def as_matrices(node: onnx.NodeProto, values: Array) -> Array:
    """Values of a weight's shape as (directions or groups, rows, columns), such that outputs are x @ matrix.T.

    Args:
        node: What the weight belongs to.
        values: Of the weight's shape.
    """
    if node.op_type in _RECURRENT:
        return values
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        return values.reshape(groups, len(values) // groups, -1)
    return (values if attribute(node, "transB", 0) else values.T)[None]


def from_matrices(node: onnx.NodeProto, matrices: Array, shape: tuple[int, ...]) -> Array:
    """What `as_matrices` took apart, in the weight's own shape."""
    if node.op_type in _RECURRENT:
        return matrices
    if node.op_type == "Conv":
        return matrices.reshape(shape)
    return np.asarray(matrices[0] if attribute(node, "transB", 0) else matrices[0].T)


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
        if seen is not None and seen.name not in wanted and _bytes(seen) <= budget:
            budget -= _bytes(seen)
            wanted[seen.name] = seen
    tallies: dict[str, _Tally] = {}
    if not wanted:
        return {}
    try:
        for name, rows in _observe(model, wanted, split.take(samples)):
            tallies.setdefault(name, _Tally()).add(rows)
    except ModelError as error:
        warn(f"weights are rounded without looking at data: {error}")
        return {}
    return {name: tally.observed() for name, tally in tallies.items() if tally.rows and tally.is_finite}


def _bytes(seen: Seen) -> int:
    return 8 * seen.columns**2 * (1 if seen.window is None else seen.window.groups)


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


def _observe(model: onnx.ModelProto, wanted: dict[str, Seen], split: Split) -> Iterator[tuple[str, Array]]:
    """Rows of everything that is wanted, batch by batch."""
    from edgekit.ort.session import Session

    inputs = {i.name for i in model.graph.input}
    there = {o.name for o in model.graph.output} | inputs
    names = list(dict.fromkeys(s.value for s in wanted.values()))
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    session = Session(exposed.SerializeToString(), threads=None)
    data = split.matched(session.inputs)
    asked = [n for n in names if n not in inputs]
    size = data.affordable(_BATCH, _BATCH_VALUES)
    total = -(-len(data) // size)
    for part in track(data.batches(session.inputs, size), "observe inputs of weights", total=total):
        values = dict(zip(asked, session.run(part.feeds, asked) if asked else [], strict=True))
        for name, seen in wanted.items():
            yield (
                name,
                _as_rows(values[seen.value] if seen.value in values else part.feeds[seen.value], seen, len(data)),
            )


def _as_rows(value: Array, seen: Seen, samples: int) -> Array:
    """(directions or groups, rows, columns) float32."""
    if seen.recurrent:
        return value.transpose(1, 0, 2, 3).reshape(value.shape[1], -1, value.shape[3]).astype(np.float32)
    if seen.window is not None:
        return seen.window.rows(value, -(-max(_MIN_POSITIONS, 4 * seen.columns) // samples))
    return value.reshape(1, -1, value.shape[-1]).astype(np.float32)
