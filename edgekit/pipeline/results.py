"""What a run of a recipe found. results.json is this, as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit import __version__
from edgekit.recipe.floor import shortfalls
from edgekit.recipe.model import AcceptConfig
from edgekit.steps import StepRecord

SCHEMA_VERSION = 1
_EQUALLY_FAST = 1.05


@dataclass(frozen=True)
class ModelResult:
    """One model of a report: the base or a variant.

    Attributes:
        name: "base", or the variant's name.
        path: Of the file, relative to the output directory.
        sha256: Of the file.
        size_bytes: With external data.
        size_ratio: Base / this; above 1 is smaller.
        metric: Split -> MetricValue as JSON. Choices are made on "validation", reports quote "test".
        drop: Split -> how much worse than the base, with the interval of the paired difference.
        bench: One row a provider and batch, as `bench --json` gives it, with the speed-up over the base.
        steps: What each compression step did.
        generation: How fast it writes; None for what is no language model with a cache.
    """

    name: str
    path: str
    sha256: str
    size_bytes: int
    size_ratio: float
    metric: dict[str, Any]
    drop: dict[str, Any]
    bench: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    generation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes:
        name: Of the recipe.
        recipe: The recipe with every default filled in.
        metric: Name of the metric that decides.
        training: How the base was trained, and its validation metric.
        export: Exporter, versions and parity.
        models: The base first, then the variants in the recipe's order.
        best: The fastest model that keeps the floor on validation data; None if none does.
        accepted: Whether `best` keeps the floor on test data; None where the recipe asks for none.
        bench: Notes of the measurement.
        machine: What the machine is.
        pictures: Figures and the file of arrays that the pictures are drawn from; empty where there are none.
        robust: The metric of the base and after every step under attack; None where the recipe asks for none.
        baseline: What the base must beat, judged alike; None where the task has none.
        steps: What ran and what was reused; not part of results.json.
        bundle: What was packed; None where nothing was. Not part of results.json, which it was made from.
    """

    name: str
    recipe: dict[str, Any]
    metric: str
    training: dict[str, Any]
    export: dict[str, Any]
    models: tuple[ModelResult, ...]
    best: str | None
    accepted: bool | None
    bench: dict[str, Any]
    machine: dict[str, Any]
    pictures: dict[str, Any] = field(default_factory=dict)
    robust: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    steps: tuple[StepRecord, ...] = ()
    bundle: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The content of results.json."""
        content = {k: v for k, v in asdict(self).items() if k not in ("steps", "bundle")}
        return {
            "schema_version": SCHEMA_VERSION,
            "edgekit": __version__,
            **content,
            "models": [asdict(m) for m in self.models],
        }


def choose_best(models: Sequence[ModelResult], accept: AcceptConfig | None) -> ModelResult | None:
    """The fastest model that misses no floor on validation data; of equals the smallest.

    Speed is the median latency of the first provider and batch of the recipe; within 5 % of the fastest, nobody feels
    the difference, and the size decides. Test data has no say.
    """
    floors = accept.model_dump() if accept else None
    keep = [m for m in models if not shortfalls(vars(m), floors, "validation")]
    fastest = min((_median_ms(m) for m in keep), default=0.0)
    equals = [m for m in keep if _median_ms(m) <= _EQUALLY_FAST * fastest]
    return min(equals, key=lambda m: (m.size_bytes, _median_ms(m)), default=None)


def _median_ms(model: ModelResult) -> float:
    return float(model.bench[0]["latency_ms"]["p50"])
