"""In which order the channels of a group go, and what is lost with each.

Sources: magnitudes, Li et al. 2016, arXiv:1608.08710; scales of BatchNormalization, Liu et al. 2017, arXiv:1708.06519;
"reconstruction" is the optimal brain surgeon on whole channels: Hassibi & Stork 1992; Kurtic et al. 2023,
arXiv:2302.04089 (ZipLM), with the covariance of what is multiplied, since the bias makes good for means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from edgekit.compress.prune.graph.ends import End
from edgekit.compress.prune.graph.groups import Channels, Group
from edgekit.compress.prune.graph.statistics import Moments
from edgekit.specs import Array

_DAMPING = 1e-3
_TINY = 1e-12


@dataclass(frozen=True)
class Order:
    """The channels of a group that may go, from the least important on.

    Attributes:
        units: Root labels, int64 (n,).
        damage: What is lost when the first k go, float64 (n + 1,), not falling; 1 is all that the layer says.
    """

    units: Array
    damage: Array


def guarded(channels: Channels, group: Group, order: Order) -> Order:
    """The order without the most important channel of each part that is split off or joined: no part may be emptied."""
    rank = {unit: i for i, unit in enumerate(order.units.tolist())}
    stays = set[int]()
    for labels in channels.tracing.parts:
        roots = np.unique(channels.solution.root[labels]).tolist()
        inside = [r for r in roots if r in rank]
        free = roots[0] in rank and len(inside) < len(group) and not channels.solution.blocked(labels).any()
        if free and stays.isdisjoint(inside):
            stays.add(max(inside, key=lambda unit: rank[unit]))
    if not stays:
        return order
    left = [i for i, unit in enumerate(order.units.tolist()) if unit not in stays]
    return Order(order.units[left], np.concatenate([[0.0], np.cumsum(np.diff(order.damage)[left])]))


def order_by_weights(channels: Channels, group: Group, exponent: int) -> Order:
    """By the size of everything that belongs to a channel: 1 for absolute values, 2 for squares."""
    scores = np.zeros(len(group))
    for use in channels.tracing.uses:
        dims = channels.tracing.constants[use.name].dims
        for axis, labels in enumerate(use.axes if len(dims) > 1 else ()):
            if labels is not None and (channels.unit_of(group, labels) >= 0).any():
                values = np.asarray(numpy_helper.to_array(channels.tracing.constants[use.name]), np.float64)
                scores += _share(channels, group, labels, np.abs(values) ** exponent, axis)
    return _sorted(group, scores)


def order_by_scale(channels: Channels, group: Group) -> Order | None:
    """By the scales of BatchNormalization; None for a group without."""
    scores = np.zeros(len(group))
    for use in channels.tracing.uses:
        node, labels = channels.model.graph.node[use.node], use.axes[0] if use.axes else None
        if node.op_type == "BatchNormalization" and use.input == 1 and labels is not None:
            values = np.asarray(numpy_helper.to_array(channels.tracing.constants[use.name]), np.float64)
            scores += _share(channels, group, labels, np.abs(values), 0)
    return _sorted(group, scores) if scores.any() else None


def order_by_energy(channels: Channels, group: Group, ends: Sequence[End], moments: Sequence[Moments]) -> Order:
    """By how much of its readers' outputs a channel makes up, each taken alone."""
    each = [_energies(channels, group, e, m) for e, m in zip(ends, moments, strict=True)]
    return _sorted(group, np.mean(each, axis=0))


def order_by_reconstruction(channels: Channels, group: Group, ends: Sequence[End], moments: Sequence[Moments]) -> Order:
    """By what its readers cannot make good from the channels that are left, one channel after the other."""
    surgeons = [_Surgeon(channels, group, e, m) for e, m in zip(ends, moments, strict=True)]
    left = np.arange(len(group))
    gone, damage = list[int](), [0.0]
    while len(left) > 1:
        scores = np.mean([s.losses(left) for s in surgeons], axis=0)
        worst = int(np.argmin(scores))
        for surgeon in surgeons:
            surgeon.remove(int(left[worst]))
        gone.append(int(left[worst]))
        damage.append(damage[-1] + max(float(scores[worst]), 0.0))
        left = np.delete(left, worst)
    gone.append(int(left[0]))
    return Order(group.units[gone], np.array([*damage, max(1.0, damage[-1])]))


def _share(channels: Channels, group: Group, labels: Array, sizes: Array, axis: int) -> Array:
    """What falls on each channel, with a mean of 1 over the group."""
    each = np.moveaxis(sizes, axis, 0).reshape(len(labels), -1).sum(axis=1)
    unit = channels.unit_of(group, labels)
    found = np.bincount(unit[unit >= 0], weights=each[unit >= 0], minlength=len(group))
    return np.asarray(found / max(found.mean(), _TINY))


def _sorted(group: Group, scores: Array) -> Order:
    order = np.argsort(scores, kind="stable")
    shares = scores[order] / max(scores.sum(), _TINY)
    return Order(group.units[order], np.concatenate([[0.0], np.cumsum(shares)]))


def _columns(channels: Channels, group: Group, end: End) -> Array:
    """The columns of each channel of a group: int64 (channels, columns of one)."""
    unit = channels.unit_of(group, end.column_labels)
    columns = np.flatnonzero(unit >= 0)
    return columns[np.argsort(unit[columns], kind="stable")].reshape(len(group), -1)


def _power(matrices: Array, covariance: Array) -> float:
    """Variance of all outputs together."""
    return float(((matrices @ covariance) * matrices).sum())


def _energies(channels: Channels, group: Group, end: End, moments: Moments) -> Array:
    matrices, covariance = end.matrices.astype(np.float64), moments.covariance
    columns = _columns(channels, group, end)
    own = covariance[:, columns[:, :, None], columns[:, None, :]]
    weights = matrices[:, :, columns].transpose(0, 2, 1, 3)  # (groups, channels, out, columns)
    return np.asarray(((weights @ own) * weights).sum(axis=(0, 2, 3)) / max(_power(matrices, covariance), _TINY))


class _Surgeon:
    """One reader of a group's channels, fitted anew after each that goes."""

    def __init__(self, channels: Channels, group: Group, end: End, moments: Moments) -> None:
        self.columns = _columns(channels, group, end)
        self.weights = end.matrices.astype(np.float64)
        covariance = np.broadcast_to(moments.covariance, (len(self.weights), *moments.covariance.shape[1:]))
        self.total = max(_power(self.weights, covariance), _TINY)
        mean = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[1]
        ridge = (_DAMPING * mean + _TINY)[:, None, None] * np.eye(covariance.shape[1])
        self.inverse = np.linalg.inv(covariance + ridge)

    def losses(self, left: Array) -> Array:
        """What is lost with each channel that is left."""
        columns = self.columns[left]
        own = np.linalg.inv(self.inverse[:, columns[:, :, None], columns[:, None, :]])
        weights = self.weights[:, :, columns].transpose(0, 2, 1, 3)  # (groups, channels, out, columns)
        return np.asarray(((weights @ own) * weights).sum(axis=(0, 2, 3)) / self.total)

    def remove(self, unit: int) -> None:
        """Take a channel away, and let the others make good for it."""
        columns = self.columns[unit]
        across = self.inverse[:, columns]
        solved = np.linalg.solve(across[:, :, columns], across)
        self.weights -= self.weights[:, :, columns] @ solved
        self.inverse -= across.transpose(0, 2, 1) @ solved
        self.weights[:, :, columns] = 0.0
