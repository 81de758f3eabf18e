"""Rounding of weights: which axes share a scale, which scale, and which integers.

Sources: scale search by squared error: Banner et al. 2019, arXiv:1810.05723; rounding that compensates its error on
data: Frantar et al. 2022, arXiv:2210.17323 (GPTQ).
"""

from __future__ import annotations

import itertools

import numpy as np

from edgekit.specs import Array

_CLIP_FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8)
_FEW_BITS, _MORE_CLIPPING = 4, (0.75, 0.7, 0.65, 0.6, 0.55, 0.5)  # few steps are best spent on the many small weights
_SCALE_BITS = 16
_SCALE_PRICE = 0.5  # a bit of scale per weight counts half a bit of accuracy per weight
_TINY = 1e-30
_HALF_SCALES_FROM = 48
_GPTQ_BLOCK = 128
_DAMPING = 1e-2


def highest(bits: int) -> int:
    """The largest integer of a symmetric range of this many bits, such as 127."""
    return (1 << (bits - 1)) - 1


def choose_axes(weight: Array) -> tuple[int, ...]:
    """The axes along which each index gets its own scale.

    Every bit less of rounding noise is worth as much as a bit more a weight, so that a scale for every channel is taken
    where the channels' ranges differ, and one for all where they do not.

    Args:
        weight: Any shape.

    Returns:
        Sorted axes; () for one scale for all.
    """
    axes = [a for a in range(weight.ndim) if weight.shape[a] > 1]
    kept = [(), *((a,) for a in axes), *((a, b) for a, b in itertools.pairwise(axes) if b < weight.ndim - 1)]
    return min(kept, key=lambda k: _bits_of_noise(weight, k))


def _bits_of_noise(weight: Array, axes: tuple[int, ...]) -> float:
    largest = largest_along(weight, axes).astype(np.float64)
    noise = 0.5 * float(np.log2(np.mean(largest**2) + _TINY))
    return noise + _SCALE_PRICE * _SCALE_BITS * largest.size / max(1, weight.size)


def largest_along(weight: Array, axes: tuple[int, ...]) -> Array:
    """Largest magnitude for each index of `axes`; other axes have length 1."""
    others = tuple(a for a in range(weight.ndim) if a not in axes)
    return np.asarray(np.abs(weight).max(axis=others, keepdims=True, initial=0))


def best_scale(weight: Array, axes: tuple[int, ...], bits: int = 8, *, half: bool = True) -> Array:
    """The scale of least squared error for each index of `axes`.

    Args:
        weight: float, any shape.
        axes: What `choose_axes` gave, or the axes of the output channels.
        bits: Width of the integers.
        half: Whether to round the scales to what float16 holds exactly, where they are in its range.

    Returns:
        float32, broadcastable to `weight`; never 0.
    """
    others = tuple(a for a in range(weight.ndim) if a not in axes)
    full = np.maximum(largest_along(weight, axes).astype(np.float32) / highest(bits), _TINY)
    best = _storable(full, half)
    least = np.full(full.shape, np.inf, np.float32)
    for factor in _CLIP_FACTORS + (_MORE_CLIPPING if bits <= _FEW_BITS else ()):
        scale = _storable(full * factor, half)
        error = np.square(round_to(weight, scale, bits) * scale - weight).sum(axis=others, keepdims=True)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best.astype(np.float32)


def _storable(scale: Array, half: bool) -> Array:
    return scale.astype(np.float16).astype(np.float32) if half and fits_half(scale) else scale


def fits_half(scale: Array) -> bool:
    """Whether float16 holds these scales without losing precision."""
    return bool(scale.size and scale.min() >= 6.2e-5 and scale.max() <= 6.5e4)


def half_is_smaller(scale: Array) -> bool:
    """Whether float16 scales with the Cast that they need take fewer bytes than float32, and lose nothing."""
    return scale.size >= _HALF_SCALES_FROM and fits_half(scale)


def round_to(weight: Array, scale: Array, bits: int = 8) -> Array:
    """The nearest integers, int8 for up to 8 bits and int16 above; weight is about result * scale."""
    top = highest(bits)
    return np.clip(np.rint(weight / scale), -top, top).astype(np.int8 if bits <= 8 else np.int16)


def round_on_data(weight: Array, scale: Array, moments: Array, bits: int = 8) -> Array:
    """Integers chosen column by column so that later columns make good what earlier ones lost on the data.

    Args:
        weight: float (rows, columns); outputs are x @ weight.T.
        scale: Broadcastable to `weight`.
        moments: E[x x^T], (columns, columns).
        bits: Width of the integers.

    Returns:
        Integers, (rows, columns); as `round_to` gives them where the moments cannot be inverted.
    """
    left = weight.astype(np.float64).copy()
    scales = np.broadcast_to(scale, weight.shape).astype(np.float64)
    order = np.argsort(-np.diag(moments), kind="stable")
    upper = _inverse_root(moments[np.ix_(order, order)])
    if upper is None:
        return round_to(weight, scale, bits)
    left, scales, top = left[:, order], scales[:, order], highest(bits)
    result = np.empty(weight.shape, np.float64)
    for start in range(0, weight.shape[1], _GPTQ_BLOCK):
        stop = min(start + _GPTQ_BLOCK, weight.shape[1])
        errors = np.empty((weight.shape[0], stop - start))
        for j in range(start, stop):
            result[:, j] = np.clip(np.rint(left[:, j] / scales[:, j]), -top, top)
            errors[:, j - start] = (left[:, j] - result[:, j] * scales[:, j]) / upper[j, j]
            left[:, j + 1 : stop] -= np.outer(errors[:, j - start], upper[j, j + 1 : stop])
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return result[:, np.argsort(order)].astype(np.int8 if bits <= 8 else np.int16)


def _inverse_root(moments: Array) -> Array | None:
    """Upper Cholesky factor of the damped inverse; None for data that says nothing."""
    mean = float(np.mean(np.diag(moments)))
    if not np.isfinite(moments).all() or mean <= 0:
        return None
    damped = moments + np.eye(len(moments)) * _DAMPING * mean
    try:
        return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
    except np.linalg.LinAlgError:
        return None
