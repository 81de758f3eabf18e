"""Second moments of rows and of what should be made of them; memory does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgekit.compress.prune.graph.ends import End
from edgekit.compress.prune.graph.runs import run_together
from edgekit.data.split import Split
from edgekit.specs import Array

MAX_COLUMNS = 4608
_MOST_BYTES = 1 << 29
_LEAST_ROWS, _MOST_ROWS = 8192, 65536
_ROWS_A_COLUMN = 12


@dataclass(frozen=True)
class Moments:
    """What multiplies a weight is like.

    Attributes:
        mean: float64 (groups, columns).
        covariance: float64 (groups, columns, columns).
    """

    mean: Array
    covariance: Array


class Tally:
    """Running sums of rows x, each with a one behind it, and of targets t."""

    def __init__(self) -> None:
        self.count = 0
        self.second: Array = np.zeros(())
        self.cross: Array = np.zeros(())
        self.power = 0.0

    def add(self, rows: Array, targets: Array | None = None) -> None:
        """Take in rows (groups, n, columns) and targets (groups, n, out)."""
        with_one = np.concatenate([rows, np.ones((*rows.shape[:2], 1), np.float32)], axis=2)
        self.second = self.second + np.matmul(with_one.transpose(0, 2, 1), with_one).astype(np.float64)
        self.count += rows.shape[1]
        if targets is not None:
            self.cross = self.cross + np.matmul(targets.transpose(0, 2, 1), with_one).astype(np.float64)
            self.power += float(np.square(targets, dtype=np.float64).sum())

    def merged(self, other: Tally) -> Tally:
        """Both together."""
        both = Tally()
        both.count, both.power = self.count + other.count, self.power + other.power
        both.second, both.cross = self.second + other.second, self.cross + other.cross
        return both

    def moments(self) -> Moments:
        """Mean and covariance of the rows."""
        second = self.second / max(self.count, 1)
        mean = second[:, -1, :-1]
        return Moments(mean, second[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :])


def rows_a_sample(columns: int, samples: int) -> int:
    """How many places of each sample are looked at, so that all samples together tell every column from the others."""
    wanted = min(max(_ROWS_A_COLUMN * columns, _LEAST_ROWS), _MOST_ROWS)
    return -(-wanted // samples)


def observe_ends(model: onnx.ModelProto, ends: Sequence[End], split: Split, samples: int) -> list[Moments | None]:
    """Moments of what each end multiplies; None where there are too many columns or values are not finite."""
    samples = min(samples, len(split))
    found: list[Moments | None] = [None] * len(ends)
    for part in _affordable(ends):
        tallies, rng = {i: Tally() for i in part}, np.random.default_rng(0)
        values = [ends[i].value for i in part]
        for (made,), _ in run_together([(model, values)], split, samples, "observe channels"):
            for i, tally in tallies.items():
                value = made[ends[i].value]
                places = ends[i].places(value, rows_a_sample(columns_of(ends[i]), samples), rng)
                tally.add(ends[i].rows(value, places))
        for i, tally in tallies.items():
            found[i] = tally.moments() if np.isfinite(tally.second).all() else None
    return found


def columns_of(end: End) -> int:
    """The length of a row."""
    return int(end.matrices.shape[2])


def _affordable(ends: Sequence[End]) -> Iterator[list[int]]:
    """Indices of ends in parts whose moments fit into memory together."""
    part, left = list[int](), _MOST_BYTES
    for i, end in enumerate(ends):
        need = 16 * end.matrices.shape[0] * columns_of(end) ** 2
        if columns_of(end) > MAX_COLUMNS:
            continue
        if part and need > left:
            yield part
            part, left = [], _MOST_BYTES
        part.append(i)
        left -= need
    if part:
        yield part
