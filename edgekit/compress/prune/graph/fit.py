"""Least squares for one layer: the weight and bias that make the most of what is left of its input.

Source: He et al. 2017, arXiv:1707.06168, section 3.1.1, step (ii), for the whole weight and with a ridge towards the
weight as it was; how strong it is, rows that were held out decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.compress.prune.graph.statistics import Moments, Tally
from edgekit.specs import Array

_RIDGES = (1e-6, 1e-4, 1e-2, 1.0)
_RIDGE = 1e-3
_TINY = 1e-12


@dataclass(frozen=True)
class Layer:
    """A linear layer.

    Attributes:
        matrices: float64 (groups, out, columns).
        bias: float64 (groups, out).
    """

    matrices: Array
    bias: Array

    @property
    def joined(self) -> Array:
        """The bias as one more column."""
        return np.concatenate([self.matrices, self.bias[:, :, None]], axis=2)


@dataclass(frozen=True)
class Fitted:
    """A layer that was fitted.

    Attributes:
        layer: The new one; the old one where that is better on rows that were held out.
        before: Mean square error of the old one on rows that were held out, in parts of the target's power.
        after: Of the new one.
    """

    layer: Layer
    before: float
    after: float


def fit_layer(layer: Layer, learnt: Tally, held_out: Tally, *, with_bias: bool) -> Fitted:
    """The weight that gives the targets best, with the strength of the ridge that does best on other rows.

    Args:
        layer: As it is now.
        learnt: Rows to learn from.
        held_out: Rows to judge by.
        with_bias: Whether the bias may change.
    """
    before = _error(layer, held_out)
    tried = {ridge: _error(_solve(layer, learnt, ridge, with_bias), held_out) for ridge in _RIDGES}
    best = min(tried, key=lambda r: tried[r] if np.isfinite(tried[r]) else np.inf)
    if not tried[best] < before:
        return Fitted(layer, before, before)
    return Fitted(_solve(layer, learnt.merged(held_out), best, with_bias), before, tried[best])


def fit_without(matrices: Array, moments: Moments, left: Array) -> Layer:
    """The weight on the columns that are left that comes nearest to the whole one, and what its bias has to add.

    Args:
        matrices: (groups, out, columns).
        moments: Of what they multiply.
        left: Indices of columns.
    """
    covariance = np.broadcast_to(moments.covariance, (len(matrices), *moments.covariance.shape[1:]))
    own = covariance[:, left[:, None], left[None, :]]
    ridge = (_RIDGE * np.trace(own, axis1=1, axis2=2) / len(left) + _TINY)[:, None, None] * np.eye(len(left))
    cross = matrices @ covariance[:, :, left] + matrices[:, :, left] @ ridge
    fitted = np.linalg.solve(own + ridge, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    mean = np.broadcast_to(moments.mean, (len(matrices), moments.mean.shape[1]))
    shift = np.einsum("goc,gc->go", matrices, mean) - np.einsum("goc,gc->go", fitted, mean[:, left])
    return Layer(fitted, shift)


def _solve(layer: Layer, tally: Tally, strength: float, with_bias: bool) -> Layer:
    second, cross = tally.second / tally.count, tally.cross / tally.count
    columns = layer.matrices.shape[2]
    if not with_bias:
        cross = cross[:, :, :-1] - layer.bias[:, :, None] * second[:, None, -1, :-1]
        second = second[:, :-1, :-1]
    scale = strength * np.trace(second[:, :columns, :columns], axis1=1, axis2=2) / columns + _TINY
    ridge = np.zeros(second.shape[1])
    ridge[:columns] = 1.0
    now = layer.joined if with_bias else layer.matrices
    pull = scale[:, None, None] * ridge
    damped = second + pull * np.eye(second.shape[1])
    try:
        found = np.linalg.solve(damped, (cross + now * pull).transpose(0, 2, 1)).transpose(0, 2, 1)
    except np.linalg.LinAlgError:
        return layer
    return Layer(found[:, :, :columns], found[:, :, -1] if with_bias else layer.bias)


def _error(layer: Layer, tally: Tally) -> float:
    """Mean square error in parts of the target's power."""
    joined = layer.joined
    explained = np.einsum("goc,goc->", joined @ tally.second, joined)
    crossed = np.einsum("goc,goc->", joined, tally.cross)
    return float((explained - 2 * crossed + tally.power) / max(tally.power, _TINY))
