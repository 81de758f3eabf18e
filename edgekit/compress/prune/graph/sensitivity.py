"""What the outputs of a model lose when one group of channels shrinks: measured on calibration data, not guessed.

Source: sensitivity analysis of Li et al. 2016, arXiv:1608.08710, with the readers of the group fitted anew, and without
labels: what counts is how far the outputs move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from edgekit.compress.prune.graph.ends import End, weight_of
from edgekit.compress.prune.graph.fit import fit_without
from edgekit.compress.prune.graph.groups import Channels, Group
from edgekit.compress.prune.graph.order import Order
from edgekit.compress.prune.graph.remove import remove_channels
from edgekit.compress.prune.graph.runs import run_together
from edgekit.compress.prune.graph.statistics import Moments
from edgekit.compress.prune.graph.wiring import Wires
from edgekit.data.split import Split
from edgekit.specs import Array

_BUDGET = 4e11  # multiply-accumulates of all measurements together
_MOST_SAMPLES, _LEAST_SAMPLES = 512, 32
_SHARES = (0.25, 0.5, 0.75)
_HOPELESS = 1e9
_MOST_BYTES = 1 << 27


def levels(counts: Array, channels: int) -> Array:
    """At which of the allowed counts damage is measured."""
    chosen = [int(np.argmin(np.abs(counts - share * channels))) for share in _SHARES]
    found = np.unique(counts[[*chosen, -1]])
    return found[found > 0]


def affordable_samples(macs: float, measurements: int) -> int:
    """On how many samples every measurement may be made."""
    return int(np.clip(_BUDGET / max(macs * measurements, 1.0), _LEAST_SAMPLES, _MOST_SAMPLES))


def shrunk(
    channels: Channels, group: Group, units: Array, ends: Sequence[End], moments: Sequence[Moments | None]
) -> onnx.ModelProto:
    """The model without some channels of one group, with their readers fitted."""
    model = remove_channels(channels, units)
    gone = channels.gone(units)
    for end, seen in zip(ends, moments, strict=True):
        wires = Wires(model)
        node = wires.producer[end.node.output[0]]
        if seen is None or not end.is_product or not wires.may_change(node):
            continue
        left = np.flatnonzero(~gone[end.column_labels])
        fitted = fit_without(end.matrices.astype(np.float64), seen, left)
        wanted = wires.weight(node)
        bias = wires.bias(node) + fitted.bias.ravel() if fitted.bias.size == len(wires.bias(node)) else wires.bias(node)
        if fitted.matrices.size == wanted.size:
            wires.store(node, weight_of(node, fitted.matrices, wanted.shape), bias)
    return model


class Yardstick:
    """How far the outputs of other models are from those of one, on the same samples.

    Args:
        original: The one; its answers are kept as far as they fit into memory.
        split: Calibration data.
        samples: At most so many.
    """

    def __init__(self, original: onnx.ModelProto, split: Split, samples: int) -> None:
        self._original, self._split, self._samples = original, split, samples
        self._names = [o.name for o in original.graph.output]
        self._kept: list[dict[str, Array]] | None = None

    def distance(self, other: onnx.ModelProto) -> float:
        """Mean Kullback-Leibler divergence of classes, else error in parts of the signal's power."""
        found, weights = list[float](), list[int]()
        for wanted, got, n in self._pairs(other):
            found.append(max(_distance(wanted[name], got[name]) for name in self._names))
            weights.append(n)
        return float(np.average(found, weights=weights))

    def _pairs(self, other: onnx.ModelProto) -> Iterator[tuple[dict[str, Array], dict[str, Array], int]]:
        if self._kept is not None:
            made = run_together([(other, self._names)], self._split, self._samples, "measure damage")
            yield from ((wanted, got, n) for wanted, ((got,), n) in zip(self._kept, made, strict=True))
            return
        kept, models = list[dict[str, Array]](), [(self._original, self._names), (other, self._names)]
        for (wanted, got), n in run_together(models, self._split, self._samples, "measure damage"):
            kept.append({name: wanted[name] for name in self._names})
            yield wanted, got, n
        size = sum(a.nbytes if isinstance(a, np.ndarray) else _MOST_BYTES for part in kept for a in part.values())
        self._kept = kept if size < _MOST_BYTES else None


def _distance(wanted: Array, got: Array) -> float:
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind != "f" or not wanted.size:
        return 0.0
    if wanted.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    if wanted.ndim == 2 and wanted.shape[1] > 1:
        p, q = _log_classes(wanted), _log_classes(got)
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    return float(np.square(a - b).sum() / max(np.square(a).sum(), 1e-12))


def _log_classes(output: Array) -> Array:
    """Log probabilities of logits, or of probabilities."""
    values = output.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(axis=1), 1.0, atol=1e-3):
        return np.log(np.maximum(values, 1e-9))
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def measured_damage(order: Order, counts: Array, at: Array, seen: Sequence[float]) -> Array:
    """Damage at every allowed count from what was measured at a few; between them it follows the order's own.

    Args:
        order: Of the group.
        counts: That are allowed.
        at: Where it was measured.
        seen: What was.
    """
    known = np.nan_to_num(np.maximum.accumulate(np.array([0.0, *seen])), posinf=_HOPELESS)
    places = order.damage[np.concatenate([[0], at])] + 1e-9 * np.arange(len(at) + 1)
    return np.asarray(np.interp(order.damage[counts], places, known))
