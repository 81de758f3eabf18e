"""The proof beside a quantised file: size, metric and latency, before and after, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bench import LatencyComparison, compare_latency
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.evaluate import agreement, evaluate
from edgekit.graph.feeds import generate_feeds
from edgekit.graph.read import size_bytes
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec
from edgekit.tasks.metrics import Metric

_GUESSED_SAMPLES = 16
_GUESSED_DIMS = (1, 8, 32, 64, 224)


@dataclass(frozen=True)
class Quality:
    """A metric before and after.

    Attributes:
        name: Of the metric; "agreement" or "cosine" where there are no labels.
        before: Of the original; 1.0 for an agreement.
        after: Of the candidate.
        drop: How much worse, in the metric's unit.
        proxy: Whether it is the agreement with the original, which needs no labels.
        n: Number of samples.
        data: Where they came from.
        higher_is_better: The metric's direction.
    """

    name: str
    before: float
    after: float
    drop: float
    proxy: bool
    n: int
    data: str
    higher_is_better: bool = True

    def as_dict(self) -> dict[str, Any]:
        """`metric` of the contract of `quantize --json`."""
        return dict(vars(self))


@dataclass(frozen=True)
class Proof:
    """What a candidate is worth against the original."""

    size_before: int
    size_after: int
    quality: Quality
    latency: LatencyComparison

    @property
    def size_ratio(self) -> float:
        """Original / candidate; above 1 is smaller."""
        return self.size_before / self.size_after

    def as_dict(self) -> dict[str, Any]:
        """As the contract of `quantize --json` names it."""
        return {
            "size_bytes": {"before": self.size_before, "after": self.size_after},
            "metric": self.quality.as_dict(),
            "latency_ms": self.latency.as_dict(),
        }


@dataclass(frozen=True)
class Judge:
    """Judges candidates against one original on the same data.

    Attributes:
        original: The model that all are compared with.
        evaluation: Labelled data; without it the agreement on `calibration` counts, marked as a proxy.
        metric: What to compute on `evaluation`.
        calibration: Data without labels; inputs are generated where there is none either.
        threads: For latency.
        seconds: Measuring time of each of a pair.
    """

    original: Path
    evaluation: Split | None = None
    metric: Metric | None = None
    calibration: Split | None = None
    threads: int | None = None
    seconds: float = 1.0

    def quality(self, candidate: Path) -> Quality:
        """The metric, or without labels the agreement with the original."""
        before, after = Session(self.original, threads=self.threads), Session(candidate, threads=self.threads)
        if self.evaluation is not None and self.metric is not None:
            was, now = (evaluate(s, self.evaluation, self.metric) for s in (before, after))
            drop = self.metric.drop(was.value, now.value)
            direction = self.metric.higher_is_better
            return Quality(self.metric.name, was.value, now.value, drop, False, now.n, self.evaluation.name, direction)
        data = self.unlabelled(before.inputs)
        found = agreement(before, after, data)
        return Quality(found.name, 1.0, found.value, 1.0 - found.value, True, found.n, data.name)

    def latency(self, candidate: Path) -> LatencyComparison:
        """Both in turns on one sample."""
        inputs = Session(self.original, threads=1).inputs
        feeds = next(iter(self.unlabelled(inputs).batches(inputs, 1))).feeds
        return compare_latency(self.original, candidate, feeds, threads=self.threads, seconds=self.seconds)

    def proof(self, candidate: Path) -> Proof:
        """All of it."""
        sizes = size_bytes(self.original), size_bytes(candidate)
        return Proof(*sizes, self.quality(candidate), self.latency(candidate))

    def unlabelled(self, inputs: tuple[TensorSpec, ...]) -> Split:
        """Inputs to compare on: calibration data, else evaluation data, else generated ones."""
        given = self.calibration if self.calibration is not None else self.evaluation
        return given.matched(inputs) if given is not None else generated_split(self.original)


def generated_split(model: Path) -> Split:
    """A few generated samples that a model accepts.

    Raises:
        ModelError: if it accepts none of the guesses; real data must be given then.
    """
    session, reason = Session(model, threads=1), ""
    for dim in _GUESSED_DIMS:
        try:
            samples = [generate_feeds(session.inputs, default_dim=dim, seed=s) for s in range(_GUESSED_SAMPLES)]
            session.run(samples[0])
        except (ModelError, TypeError) as error:
            reason = str(error)
            continue
        return Split("generated inputs", _stacked(samples), whole_feeds=True)
    raise ModelError(f"{model} accepts no generated inputs ({reason}); give real ones with --calibration DATA.npz")


def _stacked(samples: list[dict[str, Array]]) -> Mapping[str, Array]:
    import numpy as np

    return {name: np.stack([s[name] for s in samples]) for name in samples[0]}
