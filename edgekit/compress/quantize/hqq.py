"""Half-quadratic quantisation: zero points that make the error sparse, without data.

Source: Badri & Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models", mobiusml.github.io/hqq_blog.
"""

from __future__ import annotations

import numpy as np

from edgekit.compress.quantize.blockwise import Grid, fit_range, to_codes
from edgekit.specs import Array

_POWER = 0.7
_BETA = 10.0
_GROWTH = 1.01
_ROUNDS = 20


def fit_half_quadratic(blocks: Array, grid: Grid) -> tuple[Array, Array]:
    """Scale from the range, zero point by alternating between a sparse error and the zero point that fits it.

    Args:
        blocks: float32 (n, blocks, block).
        grid: What may be stored; a symmetric one leaves nothing to do.

    Returns:
        (scale, zero), float32 (n, blocks).
    """
    scale, first = fit_range(blocks, grid)
    if grid.symmetric:
        return scale, first
    beta, zero, best = _BETA, first, first
    least = _mean_error(blocks, scale, first, grid)
    for _ in range(_ROUNDS):
        codes = to_codes(blocks, scale, zero, grid).astype(np.float32)
        error = _shrink(blocks - (codes - zero[..., None]) * scale[..., None], beta)
        zero = (codes - (blocks - error) / scale[..., None]).mean(axis=-1)
        found = _mean_error(blocks, scale, grid.snap(zero), grid)
        best = np.where(found < least, grid.snap(zero), best)
        least = np.minimum(found, least)
        beta *= _GROWTH
    return scale, best.astype(np.float32)


def _shrink(error: Array, beta: float) -> Array:
    """The proximal operator of the p-norm, p < 1: small errors vanish, large ones stay."""
    size = np.abs(error)
    threshold = np.power(np.maximum(size, 1e-12), _POWER - 1) / beta
    return np.asarray(np.sign(error) * np.maximum(size - threshold, 0))


def _mean_error(blocks: Array, scale: Array, zero: Array, grid: Grid) -> Array:
    codes = to_codes(blocks, scale, zero, grid)
    return np.asarray(np.abs(blocks - (codes - zero[..., None]) * scale[..., None]).mean(axis=-1))
