"""How good a model is: a metric of any runner on any split, or its agreement with another runner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np

from edgekit.data.split import Batch, Split, own_memory
from edgekit.errors import DataError
from edgekit.progress import track
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks import TASKS, Decode, Task
from edgekit.tasks.metric import Z_95, Metric, MetricValue, jackknife, summarise

BATCH = 64
BATCH_VALUES = 1 << 19  # of the inputs; a batch of large samples holds fewer of them
BATCH_ANSWERS = 1 << 25  # values of the outputs of a batch


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
    """One score a sample, float64 (n,) or (n, k); what paired comparisons need."""
    return scores_of(runner, split, [metric], batch=batch)[metric.name]


def scores_of(
    runner: Runner,
    split: Split,
    metrics: Sequence[Metric],
    *,
    batch: int = BATCH,
    reference: Runner | None = None,
    drifts: Sequence[Metric] = (),
) -> dict[str, Array]:
    """The scores of several metrics from one pass over the data, by name.

    Metrics of what a model writes itself (`Task.decoded`) are taken of that, in a pass of its own, where the model says
    that it does such a task.

    Args:
        runner: Who answers.
        split: What it is asked.
        metrics: Judge its answers by the labels.
        batch: Most samples at once.
        reference: Whose first output takes the place of the labels for `drifts`; may be the runner itself.
        drifts: Metrics that compare two outputs, such as "snr".

    Raises:
        DataError: if the data does not fit the model or a metric, or labels are missing.
    """
    for metric in metrics:
        if metric.needs_labels and split.labels is None:
            raise DataError(
                f"data {split.name!r} has no labels, and metric {metric.name!r} needs them; add an array `labels`"
            )
    task = task_of(runner)
    written = [m for m in metrics if task is not None and m.name in task.decoded]
    told = [m for m in metrics if m not in written]
    found: dict[str, Array] = {}
    if told or drifts:
        found |= _scored(_answers(runner, split, batch), told, None if reference is runner else reference, drifts)
    if written and task is not None and task.decode is not None:
        found |= _scored(_written(runner, split, batch, task.decode), written)
    return {metric.name: found[metric.name] for metric in (*metrics, *drifts)}


def task_of(runner: object) -> Task | None:
    """What a model says that it does: a trained one's card, or a session's file."""
    card = getattr(runner, "card", None)
    name = card.task if card is not None else getattr(runner, "metadata", {}).get("edgekit.task", "")
    return TASKS.get(name)


def _scored(
    answers: Iterator[tuple[Batch, list[Array]]],
    metrics: Sequence[Metric],
    reference: Runner | None = None,
    drifts: Sequence[Metric] = (),
) -> dict[str, Array]:
    found: dict[str, list[Array]] = {metric.name: [] for metric in (*metrics, *drifts)}
    for part, outputs in answers:
        feeds = {k: _head(v, part.n) for k, v in part.feeds.items()}
        for metric in metrics:
            found[metric.name].append(metric.score(outputs, part.labels, feeds))
        if drifts:
            wanted = (
                outputs[0]
                if reference is None
                else _head(reference.run(own_memory(reference.inputs, part.feeds))[0], part.n)
            )
            for metric in drifts:
                found[metric.name].append(metric.score(outputs, wanted, feeds))
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in found.items()}


def _written(runner: Runner, split: Split, batch: int, decode: Decode) -> Iterator[tuple[Batch, list[Array]]]:
    """Each batch of a split, labelled with what is right, and what the model writes itself."""
    for part in _batches(runner, split, batch, f"write {split.name}"):
        written, right = decode(runner.run, {k: _head(v, part.n) for k, v in part.feeds.items()}, part.labels)
        yield replace(part, labels=right), [written]


def drift(reference: Runner, candidate: Runner, split: Split, metric: Metric, *, batch: int = BATCH) -> MetricValue:
    """How far a candidate's outputs are from those of the reference for the same inputs.

    Args:
        reference: The uncompressed model; its first output takes the place of the labels.
        candidate: The compressed one.
        split: Inputs; labels are not looked at.
        metric: Compares two outputs, such as "snr".
        batch: Most samples at once.
    """
    found = scores_of(candidate, split, [], batch=batch, reference=reference, drifts=[metric])
    return summarise(metric, found[metric.name])


def _answers(runner: Runner, split: Split, batch: int) -> Iterator[tuple[Batch, list[Array]]]:
    """Each batch of a split with the outputs of its real samples."""
    for part in _batches(runner, split, batch, f"evaluate {split.name}"):
        yield part, [_head(o, part.n) for o in runner.run(part.feeds)]


def _batches(runner: Runner, split: Split, batch: int, doing: str) -> Iterator[Batch]:
    data = split.matched(runner.inputs)
    batch = min(data.affordable(batch, BATCH_VALUES), _affordable_answers(runner, data))
    yield from track(data.batches(runner.inputs, batch), doing, total=-(-len(data) // batch))


def _affordable_answers(runner: Runner, data: Split) -> int:
    """How many samples are answered in at most so many values: logits of a language model are many a token."""
    outputs: Sequence[TensorSpec] = getattr(runner, "outputs", ())
    dims = {
        str(dim): size
        for spec in runner.inputs
        if not data.whole_feeds
        for dim, size in zip(spec.shape[1:], data.arrays[spec.name].shape[1:], strict=True)
    }
    values = sum(prod(d if isinstance(d, int) else dims.get(d, 1) for d in o.shape[1:]) for o in outputs)
    return max(1, BATCH_ANSWERS // max(1, values))


@dataclass(frozen=True)
class Drop:
    """How much worse a model is than another on the same samples; negative if it is better.

    Attributes:
        value: In the metric's unit.
        ci95: 95 % interval of the paired difference; None for a single sample.
        n: Number of samples.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return asdict(self)


def paired_drop(metric: Metric, before: Array, after: Array) -> Drop:
    """The loss of a metric between two models, from their scores of the same samples, float64 (n,) or (n, k) each.

    The interval is that of the difference: what both get right or wrong cancels, so it is far narrower than the two
    intervals apart.
    """
    value = metric.drop(metric.value(before), metric.value(after))
    if len(before) < 2:
        return Drop(value, None, len(before))
    if metric.reduce is float and metric.over is None:
        half = Z_95 * float((before - after).std(ddof=1)) / float(np.sqrt(len(before)))
    else:
        half = jackknife(lambda kept: metric.drop(metric.value(before[kept]), metric.value(after[kept])), len(before))
    return Drop(value, (value - half, value + half), len(before))


def _head(array: Array, n: int) -> Array:
    return array[:n] if array.ndim and len(array) > n else array
