"""How good a model is: a metric of any runner on any split, or its agreement with another runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.progress import track
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks.metrics import Z_95, Metric, MetricValue, summarise

BATCH = 64


class Runner(Protocol):
    """What can be evaluated: an `ort.Session`, or a torch module behind `training.TorchRunner`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs it wants."""
        ...

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs for one batch."""
        ...


def evaluate(runner: Runner, split: Split, metric: Metric, *, batch: int = BATCH) -> MetricValue:
    """The metric of a runner on a split, with its interval.

    Raises:
        DataError: if the data does not fit the model or the metric, or labels are missing.
    """
    return summarise(metric, scores(runner, split, metric, batch=batch))


def scores(runner: Runner, split: Split, metric: Metric, *, batch: int = BATCH) -> Array:
    """One score a sample, float64 (n,); what paired comparisons need."""
    if metric.needs_labels and split.labels is None:
        raise DataError(
            f"data {split.name!r} has no labels, and metric {metric.name!r} needs them; add an array `labels`"
        )
    data = split.matched(runner.inputs)
    found = []
    total = -(-len(data) // batch)
    for part in track(data.batches(runner.inputs, batch), f"evaluate {split.name}", total=total):
        outputs = [_head(o, part.n) for o in runner.run(part.feeds)]
        found.append(metric.score(outputs, part.labels, {k: _head(v, part.n) for k, v in part.feeds.items()}))
    return np.concatenate(found) if found else np.empty(0)


@dataclass(frozen=True)
class Drop:
    """How much worse a model is than another on the same samples; negative if it is better.

    Attributes:
        value: In the metric's unit.
        ci95: 95 % interval of the paired difference; None for a metric that is no mean of its scores.
        n: Number of samples.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


def paired_drop(metric: Metric, before: Array, after: Array) -> Drop:
    """The loss of a metric between two models, from their scores of the same samples, float64 (n,) each.

    The interval is that of the mean difference: what both get right or wrong cancels, so it is far narrower than the
    two intervals apart.
    """
    value = metric.drop(metric.reduce(float(before.mean())), metric.reduce(float(after.mean())))
    if metric.reduce is not float or len(before) < 2:
        return Drop(value, None, len(before))
    difference = (before - after) if metric.higher_is_better else (after - before)
    half = Z_95 * float(difference.std(ddof=1)) / float(np.sqrt(len(difference)))
    return Drop(value, (value - half, value + half), len(before))


def agreement_metric(outputs: Sequence[Array]) -> str:
    """What to call the agreement of two models with these outputs: of classes where there are classes, else cosine."""
    first = outputs[0]
    classes = first.ndim >= 2 and first.dtype.kind == "f" and 2 <= first.shape[-1] <= 1_000_000 and first.ndim <= 3
    return "agreement" if classes and first.ndim == 2 else "cosine"


def agreement(reference: Runner, candidate: Runner, split: Split, *, batch: int = BATCH) -> MetricValue:
    """How far a candidate gives the reference's answers, without labels; marked as a proxy.

    For outputs (n, classes) it is the share of equal arg-max; for every other output the mean cosine of the outputs
    of one sample. 1.0 is full agreement.
    """
    data = split.matched(reference.inputs)
    found, name = [], "agreement"
    for part in track(data.batches(reference.inputs, batch), f"compare on {split.name}", total=-(-len(data) // batch)):
        wanted, got = reference.run(part.feeds), candidate.run(part.feeds)
        name = agreement_metric(wanted)
        if name == "agreement":
            found.append((wanted[0].argmax(-1) == got[0].argmax(-1)).astype(np.float64)[: part.n])
        else:
            found.append(_cosine(wanted[0], got[0], part.n))
    metric = Metric(name, True, "", lambda o, y, f: np.empty(0), needs_labels=False, binary=name == "agreement")
    return replace(summarise(metric, np.concatenate(found)), proxy=True)


def _cosine(a: Array, b: Array, n: int) -> Array:
    batched = a.ndim > 0 and a.shape[0] >= n
    x = (a[:n].reshape(n, -1) if batched else a.reshape(1, -1)).astype(np.float64)
    y = (b[:n].reshape(n, -1) if batched else b.reshape(1, -1)).astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    same = (x == y).all(axis=1)
    return np.where(same, 1.0, np.divide((x * y).sum(axis=1), norms, out=np.zeros(len(x)), where=norms > 0))


def _head(array: Array, n: int) -> Array:
    return array[:n] if array.ndim and len(array) > n else array
