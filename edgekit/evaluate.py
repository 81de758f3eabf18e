"""How good a model is: a metric of any runner on any split, or its agreement with another runner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.progress import track
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks.metrics import Z_95, Metric, MetricValue, summarise

BATCH = 64
BATCH_VALUES = 1 << 19  # of the inputs; a batch of large samples holds fewer of them


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
    batch = data.affordable(batch, BATCH_VALUES)
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


def _head(array: Array, n: int) -> Array:
    return array[:n] if array.ndim and len(array) > n else array
