"""The proof beside a quantised file: size, metric and latency, before and after, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.agreement import Remembering, agreement
from edgekit.bench import LatencyComparison, Verdict, compare_latency
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.evaluate import paired_drop, scores
from edgekit.graph.feeds import elements_of_sequences, generate_feeds, guessed_shapes
from edgekit.graph.read import read_structure, size_bytes
from edgekit.graph.vocabulary import vocabularies
from edgekit.ort import Session
from edgekit.search.place import Place
from edgekit.specs import Array, TensorSpec
from edgekit.tasks.metric import Metric
from edgekit.tasks.metrics import find_metric

_GENERATED = 16
_PROXY_SAMPLES = 128
_LANGUAGE_SAMPLES = 8
_ALIKE_SAMPLES = 16
_VOCABULARY = 1000


@dataclass(frozen=True)
class Quality:
    """A metric before and after.

    Attributes:
        name: Of the metric; "agreement" or "cosine" where there are no labels.
        before: Of the original; 1.0 for an agreement.
        after: Of the candidate.
        drop: How much worse, in the metric's unit; negative if it is better.
        ci95: 95 % interval of the paired drop; None where it is not known.
        proxy: Whether it was measured without labels.
        n: Number of samples.
        data: Where they came from.
        share: Whether the metric is a share between 0 and 1, so that losses are points rather than parts of it.
    """

    name: str
    before: float
    after: float
    drop: float
    ci95: tuple[float, float] | None
    proxy: bool
    n: int
    data: str
    share: bool

    def loss(self) -> float:
        """The drop of a share; of any other metric the drop relative to what it was."""
        return self.drop if self.share else self.drop / abs(self.before) if self.before else self.drop

    def as_dict(self) -> dict[str, Any]:
        """`metric` of the contract of `quantize --json`."""
        return {k: v for k, v in vars(self).items() if k != "share"}


@dataclass(frozen=True)
class Latency:
    """Two models measured in turns; what `bench.compare_latency` found, as it can be stored.

    Attributes:
        before: Median of the original in ms; None where the target's provider is not on this machine.
        after: Of the candidate.
        speedup: How many times as fast the candidate is.
        ci95: 95 % interval of the speed-up; None where it is not known.
        verdict: What may be said of it, or why nothing was measured.
        provider: Short name of the provider that it was, or would have been, measured with.
    """

    before: float | None
    after: float | None
    speedup: float | None
    ci95: tuple[float, float] | None
    verdict: str
    provider: str = "cpu"

    @classmethod
    def of(cls, found: LatencyComparison) -> Latency:
        """Keep what a report needs."""
        gain = found.speedup
        return cls(found.before_ms, found.after_ms, gain.ratio, gain.ci95, str(found.verdict), found.provider)

    @classmethod
    def unmeasured(cls, place: Place) -> Latency:
        """What is known of latency on a target that is not here: nothing."""
        return cls(None, None, None, None, place.verdict, place.provider)

    @property
    def slower(self) -> bool:
        """Whether the candidate is slower beyond doubt."""
        return self.verdict == Verdict.SLOWER


@dataclass(frozen=True)
class Proof:
    """What a candidate is worth against the original."""

    size_before: int
    size_after: int
    quality: Quality
    latency: Latency

    @property
    def size_ratio(self) -> float:
        """Original / candidate; above 1 is smaller."""
        return self.size_before / self.size_after

    @property
    def gain(self) -> float:
        """Times smaller times faster; only times smaller where latency was not measured."""
        return self.size_ratio * (self.latency.speedup or 1.0)

    def as_dict(self) -> dict[str, Any]:
        """As the contract of `quantize --json` names it."""
        return {
            "size_bytes": {"before": self.size_before, "after": self.size_after},
            "metric": self.quality.as_dict(),
            "latency_ms": vars(self.latency),
        }


@dataclass(frozen=True)
class Judge:
    """Judges candidates against one original on the same data.

    Attributes:
        original: The model that all are compared with.
        evaluation: Labelled data; without it what can be told from `calibration` counts, marked as a proxy: perplexity
            for language models, agreement with the original for all others.
        metric: What to compute on `evaluation`.
        calibration: Data without labels; inputs are generated where there is none either.
        threads: For latency.
        seconds: Measuring time of each of a pair.
        place: Where latency is measured; metrics are computed on the CPU.
    """

    original: Path
    evaluation: Split | None = None
    metric: Metric | None = None
    calibration: Split | None = None
    threads: int | None = None
    seconds: float = 1.0
    place: Place = field(default_factory=Place)

    @cached_property
    def session(self) -> Session:
        """A session of the original."""
        return Session(self.original, threads=self.threads)

    @cached_property
    def _original(self) -> Remembering:
        """Every candidate is compared with the same answers."""
        return Remembering(self.session)

    @cached_property
    def unlabelled(self) -> Split:
        """Inputs to compare on: calibration data, else evaluation data, else generated ones."""
        given = self.calibration if self.calibration is not None else self.evaluation
        return given.matched(self.session.inputs) if given is not None else generated_split(self.original)

    @cached_property
    def is_language_model(self) -> bool:
        """Whether it gives logits of a vocabulary for each position of its ids."""
        first, out = next(iter(self.session.inputs), None), self.session.outputs[0]
        wide = out.rank == 3 and isinstance(out.shape[-1], int) and out.shape[-1] >= _VOCABULARY
        return wide and first is not None and first.rank == 2 and first.dtype in ("int64", "int32")

    @cached_property
    def _before(self) -> tuple[Metric, Split, Array] | None:
        """Metric, data and the original's score of each sample; None where only agreement can be told."""
        if self.evaluation is not None and self.metric is not None:
            return self.metric, self.evaluation, scores(self.session, self.evaluation, self.metric)
        if self.is_language_model and self.calibration is not None:
            metric, data = find_metric("perplexity"), self.unlabelled.take(_LANGUAGE_SAMPLES)
            return metric, data, scores(self.session, data, metric, batch=1)
        return None

    def quality(self, candidate: Path) -> Quality:
        """The metric, or without labels the agreement with the original."""
        session = Session(candidate, threads=self.threads)
        if self._before is None:
            data = self.unlabelled.take(_PROXY_SAMPLES)
            found = agreement(self._original, session, data)
            return Quality(found.name, 1.0, found.value, 1.0 - found.value, None, True, found.n, data.name, True)
        metric, data, before = self._before
        after = scores(session, data, metric, batch=1 if self.is_language_model else 64)
        drop = paired_drop(metric, before, after)
        values = (metric.value(before), metric.value(after))
        proxy = self.evaluation is None
        return Quality(metric.name, *values, drop.value, drop.ci95, proxy, drop.n, data.name, metric.binary)

    def latency(self, candidate: Path) -> Latency:
        """Both in turns on one sample, where the target's provider is on this machine."""
        if self.place.absence:
            return Latency.unmeasured(self.place)
        feeds = next(iter(self.unlabelled.batches(self.session.inputs, 1))).feeds
        how: dict[str, Any] = {"threads": self.threads, "seconds": self.seconds, "provider": self.place.provider}
        return Latency.of(compare_latency(self.original, candidate, feeds, **how))

    def answers_alike(self, one: Path, other: Path) -> bool:
        """Whether two candidates give the same bits on a few samples."""
        data = self.unlabelled.take(_ALIKE_SAMPLES)
        sessions = [Session(path, threads=self.threads) for path in (one, other)]
        for batch in data.batches(self.session.inputs, _ALIKE_SAMPLES):
            answers = [session.run(batch.feeds) for session in sessions]
            if not all(np.array_equal(a, b) for a, b in zip(*answers, strict=True)):
                return False
        return True

    def proof(self, candidate: Path, quality: Quality | None = None, latency: Latency | None = None) -> Proof:
        """All of it; `quality` and `latency` where they are known already."""
        sizes = size_bytes(self.original), size_bytes(candidate)
        return Proof(*sizes, quality or self.quality(candidate), latency or self.latency(candidate))


def generated_split(model: Path) -> Split:
    """A few generated samples that a model accepts.

    Raises:
        ModelError: if it accepts none of the guesses; real data must be given then.
    """
    session, reason, structure = Session(model, threads=1), "", read_structure(model)
    elements, known = elements_of_sequences(structure), vocabularies(structure)
    tensors = tuple(elements.get(s.name, s) for s in session.inputs)
    for shapes in guessed_shapes(tensors):
        try:
            samples = [generate_feeds(tensors, shapes=shapes, seed=s, vocabularies=known) for s in range(_GENERATED)]
            first: dict[str, Any] = {k: [v] if k in elements else v for k, v in samples[0].items()}
            session.run(first)
        except (ModelError, TypeError) as error:
            reason = str(error)
            continue
        return Split("generated inputs", _stacked(samples, session.inputs), whole_feeds=True)
    raise ModelError(f"{model} accepts no generated inputs ({reason}); give real ones with --calibration DATA.npz")


def _stacked(samples: list[dict[str, Array]], inputs: tuple[TensorSpec, ...]) -> Mapping[str, Array]:
    return {
        spec.name: _lists([s[spec.name] for s in samples])
        if spec.is_sequence
        else np.stack([s[spec.name] for s in samples])
        for spec in inputs
    }


def _lists(arrays: list[Array]) -> Array:
    """Sequences of one array each, as an array of objects."""
    found = np.empty(len(arrays), dtype=object)
    for i, array in enumerate(arrays):
        found[i] = [array]
    return found
