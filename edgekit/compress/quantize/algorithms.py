"""Choosing an algorithm for every matrix: exact where it was on a grid before, on data where there is some.

Sources: round to nearest: Dettmers & Zettlemoyer 2022, arXiv:2212.09720; k-quants: llama.cpp, Kawrakow 2023; HQQ:
Badri & Shaji 2023, mobiusml.github.io/hqq_blog; GPTQ: Frantar et al. 2022, arXiv:2210.17323.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from edgekit.compress.quantize.blockwise import (
    Blocks,
    Grid,
    by_chunks,
    fit_least_squares,
    fit_range,
    signal_to_noise_db,
)
from edgekit.compress.quantize.gptq import round_blocks_on_data
from edgekit.compress.quantize.hqq import fit_half_quadratic
from edgekit.compress.quantize.matrices import Matrix
from edgekit.compress.quantize.moments import gather_moments, multiplier_of
from edgekit.data.split import Split
from edgekit.progress import track
from edgekit.specs import Array

Algorithm = Literal["auto", "rtn", "kquant", "hqq", "gptq"]

_ON_GRID_DB = 10.0  # rounding this far below 6 dB a bit: the weights were on such a grid before
_DB_PER_BIT = 6.02
_FINE_BITS = 8  # from here on a search of ranges gains next to nothing
_MOMENTS_BYTES = 1 << 29


@dataclass(frozen=True)
class Rounded:
    """A matrix, rounded.

    Attributes:
        matrix: What was rounded.
        grid: To what.
        blocks: The result.
        algorithm: By which algorithm; "exact" for weights that were on such a grid before.
        snr_db: How far the error lies below the weights.
    """

    matrix: Matrix
    grid: Grid
    blocks: Blocks
    algorithm: str
    snr_db: float


def round_matrices(
    model: onnx.ModelProto,
    wanted: Sequence[tuple[Matrix, Grid]],
    algorithm: Algorithm = "auto",
    split: Split | None = None,
    samples: int = 32,
) -> list[Rounded]:
    """Round matrices of a model; those that repeat another share its blocks and come last.

    Args:
        model: What is run to observe activations; it is not changed.
        wanted: Every matrix with the grid to round it to.
        algorithm: How.
        split: Calibration data for GPTQ.
        samples: How many samples of it.
    """
    names = {m.name for m, _ in wanted}
    own = [(m, grid) for m, grid in wanted if m.same_as not in names]
    quick = [_round(m, grid, algorithm) for m, grid in track(own, "round weights", total=len(own))]
    if split is not None and algorithm in ("auto", "gptq"):
        quick = _round_on_data(model, quick, split, samples)
    by_name = {r.matrix.name: r for r in quick}
    return quick + [replace(by_name[m.same_as], matrix=m) for m, _ in wanted if m.same_as in names]


def _round(matrix: Matrix, grid: Grid, algorithm: Algorithm) -> Rounded:
    """Round without data."""
    rows = matrix.rows
    blocks = by_chunks(rows, grid, fit_range)
    rounded = Rounded(matrix, grid, blocks, "rtn", signal_to_noise_db(rows, blocks))
    if algorithm == "rtn" or (algorithm == "auto" and grid.bits >= _FINE_BITS):
        return rounded
    if rounded.snr_db > _DB_PER_BIT * grid.bits + _ON_GRID_DB:
        return replace(rounded, algorithm="exact")
    fit = fit_half_quadratic if algorithm == "hqq" else fit_least_squares
    blocks = by_chunks(rows, grid, fit)
    name = "hqq" if algorithm == "hqq" else "kquant"
    return Rounded(matrix, grid, blocks, name, signal_to_noise_db(rows, blocks))


def _round_on_data(model: onnx.ModelProto, quick: list[Rounded], split: Split, samples: int) -> list[Rounded]:
    """Round again by GPTQ what is not exact and whose input can be observed."""
    result = {r.matrix.name: r for r in quick}
    for group in _groups([r for r in quick if r.algorithm not in ("exact", "rtn")]):
        moments = gather_moments(model, [r.matrix.weight for r in group], split, samples)
        for old in track(group, "round on data", total=len(group)):
            seen = multiplier_of(old.matrix.weight)
            if seen is not None and seen.value in moments:
                result[old.matrix.name] = _on_data(old, moments[seen.value][0])
    return list(result.values())


def _on_data(old: Rounded, moments: Array) -> Rounded:
    rows = old.matrix.rows
    blocks = round_blocks_on_data(rows, old.grid, moments)
    return Rounded(old.matrix, old.grid, blocks, "gptq", signal_to_noise_db(rows, blocks))


def _groups(rounded: list[Rounded]) -> Iterator[list[Rounded]]:
    """Groups whose moments fit into memory together."""
    group: list[Rounded] = []
    values: dict[str, int] = {}
    for item in rounded:
        seen = multiplier_of(item.matrix.weight)
        if seen is None:
            continue
        if sum((values | {seen.value: seen.columns**2 * 8}).values()) > _MOMENTS_BYTES and group:
            yield group
            group, values = [], {}
        values[seen.value] = seen.columns**2 * 8
        group.append(item)
    if group:
        yield group
