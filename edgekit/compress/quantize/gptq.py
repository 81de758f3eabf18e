"""GPTQ in blocks: codes chosen column by column, so that later columns make good what earlier ones lost on the data.

Scales and zero points come first, from the weights and the columns' power ("static groups"); the columns are then taken
in the order of their power whatever block they are in, and no index of groups is needed in the file.

Source: Frantar et al. 2022, arXiv:2210.17323.
"""

from __future__ import annotations

import numpy as np

from edgekit.compress.quantize.blockwise import Blocks, Grid, by_chunks, fit_least_squares, split_blocks
from edgekit.specs import Array

_LAZY = 64  # columns whose effect on the rest is applied in one product
_DAMPING = 1e-2


def round_blocks_on_data(rows: Array, grid: Grid, moments: Array) -> Blocks:
    """Codes for a matrix whose input has these second moments.

    Args:
        rows: float (rows, columns); outputs are x @ rows.T.
        grid: What may be stored.
        moments: E[x x^T], (columns, columns).

    Returns:
        Blocks; those of least squares alone where the moments cannot be inverted.
    """
    if not np.isfinite(moments).all():
        return by_chunks(rows, grid, fit_least_squares)
    power = split_blocks(np.maximum(np.diag(moments), 0)[None], grid.block)[0]
    importance = power + _DAMPING * power.mean() + 1e-20
    importance /= importance.mean()
    start = by_chunks(rows, grid, lambda b, g: fit_least_squares(b, g, importance))
    order = np.argsort(-np.diag(moments), kind="stable")
    upper = inverse_root(moments[np.ix_(order, order)])
    if upper is None:
        return start
    codes = _compensate(np.asarray(rows, np.float32)[:, order], _spread(start, order), upper, grid)
    result = start.codes.reshape(len(rows), -1).copy()
    result[:, order] = codes
    return Blocks(result.reshape(start.codes.shape), start.scale, start.zero, start.columns)


def inverse_root(moments: Array) -> Array | None:
    """Upper Cholesky factor of the damped inverse, float32; None for data that says nothing."""
    mean = float(np.mean(np.diag(moments)))
    if not mean > 0:
        return None
    damped = moments.astype(np.float64) + np.eye(len(moments)) * _DAMPING * mean
    try:
        return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    except np.linalg.LinAlgError:
        return None


def _spread(blocks: Blocks, order: Array) -> tuple[Array, Array]:
    """Scale and zero point of every column in turn, both (columns, rows): a column is then one run of memory."""
    block = blocks.codes.shape[2]
    where = order // block
    return np.ascontiguousarray(blocks.scale.T[where]), np.ascontiguousarray(blocks.zero.T[where])


def _compensate(rows: Array, spread: tuple[Array, Array], upper: Array, grid: Grid) -> Array:
    """Codes, uint8 (rows, columns), for columns that are already in order."""
    left = np.ascontiguousarray(rows.T)
    columns = len(left)
    codes = np.empty(left.shape, np.uint8)
    for start in range(0, columns, _LAZY):
        stop = min(start + _LAZY, columns)
        errors = np.empty((stop - start, left.shape[1]), np.float32)
        for j in range(start, stop):
            scale, zero = spread[0][j], spread[1][j]
            code = np.clip(np.rint(left[j] / scale + zero), 0, grid.top)
            codes[j] = code
            errors[j - start] = (left[j] - (code - zero) * scale) / upper[j, j]
            left[j + 1 : stop] -= np.outer(upper[j, j + 1 : stop], errors[j - start])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return codes.T
