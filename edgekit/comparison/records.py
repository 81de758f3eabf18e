"""What a comparison of models is asked, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit import machine
from edgekit.errors import DataError
from edgekit.evaluate import Drop
from edgekit.pictures import Pictures
from edgekit.tasks import MetricValue


@dataclass(frozen=True)
class CompareRequest:
    """What to compare by.

    Attributes:
        data: Name of a data set, or path of an .npz.
        split: Of a named data set.
        metric: Name; by default that of the task, and none for data without labels.
        provider: Where the models run.
        judge: Data set whose classifier judges generated pictures; `data` by default.
        latency: Whether to measure it, at batch 1.
        pictures: Whether to gather what pictures are drawn from.
    """

    data: str
    split: str = "test"
    metric: str | None = None
    provider: str = "cpu"
    judge: str | None = None
    latency: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class ComparedModel:
    """One model and how it stands to the first.

    Attributes:
        name: Short, and different from the others'.
        model: Path.
        sha256: Of the file.
        size_bytes: With external data.
        size_ratio: First / this; above 1 is smaller.
        metric: On the data; None for data without labels.
        drop: How much worse than the first, with the interval of the paired difference; None for the first.
        agreement: How far it gives the first one's answers; None for the first.
        latency: Median and speed-up over the first, as `bench --compare --json` says them; None where not measured.
        also: Further metrics by name, such as the perplexity of a language model.
        state_drift_db: Of models that stream, signal to error of the state behind each step against the first's.
    """

    name: str
    model: str
    sha256: str
    size_bytes: int
    size_ratio: float
    metric: MetricValue | None
    drop: Drop | None
    agreement: MetricValue | None
    latency: dict[str, Any] | None = None
    also: Mapping[str, MetricValue] = field(default_factory=dict)
    state_drift_db: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        records = {key: getattr(self, key) for key in ("metric", "drop", "agreement")}
        told = {key: value and value.as_dict() for key, value in records.items()}
        return {**vars(self), **told, "also": {name: value.as_dict() for name, value in self.also.items()}}


@dataclass(frozen=True)
class ModelComparison:
    """Several models on the same data; the first is what the others are compared with."""

    request: CompareRequest
    task: str
    n: int
    models: tuple[ComparedModel, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: Pictures = field(default_factory=Pictures)

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it, and as the page is drawn from."""
        metric = self.models[0].metric
        return {
            "data": self.request.data,
            "split": self.request.split,
            "n": self.n,
            "task": self.task,
            "metric": metric.name if metric else None,
            "provider": self.request.provider,
            "best": None,
            "models": [m.as_dict() for m in self.models],
            "pictures": {"classes": list(self.classes), "facts": self.pictures.facts},
            "machine": machine.facts(),
            "notes": list(self.notes),
        }

    def worse_than(self, max_drop: float) -> list[str]:
        """Names of the models that lost more than this.

        Raises:
            DataError: if the data has no labels, so that nobody knows.
        """
        if self.models[0].metric is None:
            raise DataError(f"data {self.request.data!r} has no labels, so that no drop is known; leave --max-drop out")
        return [m.name for m in self.models if m.drop is not None and not m.drop.value <= max_drop]
