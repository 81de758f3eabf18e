"""What a technique is: a config, a function, and where it acts. Registered once, by the decorator below.

A module of a technique holds a frozen config whose first field names the verb and the method, and one function:

    class StaticConfig(StepConfig):
        quantize: Literal["static"] = "static"
        per_channel: bool = True

    @technique(StaticConfig, stage="onnx", summary="...", paper="...", needs_calibration=True)
    def quantize_static(config: StaticConfig, step: OnnxStep) -> StepResult: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from edgekit.data.split import Split
from edgekit.tasks.metric import Metric

Stage = Literal["torch", "onnx"]
Target = Literal["cpu", "cpu-no-vnni", "arm", "cuda", "tensorrt", "web"]


class StepConfig(BaseModel):
    """Base of every step's config: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class ExcludedNode:
    """A node that was left in float, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class OnnxStep:
    """What an ONNX-stage technique works with.

    Attributes:
        model: The file to compress; never changed.
        out: The file to write.
        calibration: Data that activations may be observed on; None where none was given.
        target: Where the result will run.
        excluded: Names of nodes (of the model as `graph.normalise` leaves it) to leave in float.
        work: Directory for what may be reused between runs, such as calibration tables; None for none.
        evaluation: Labelled data that a technique may choose by; None where none was given.
        metric: What to compute on `evaluation`.
        threads: That latency is measured with; all cores by default.
    """

    model: Path
    out: Path
    calibration: Split | None = None
    target: Target = "cpu"
    excluded: frozenset[str] = frozenset()
    work: Path | None = None
    evaluation: Split | None = None
    metric: Metric | None = None
    threads: int | None = None


@dataclass(frozen=True)
class StepResult:
    """What a technique did.

    Attributes:
        changed: False when there was nothing to gain; `out` is then a copy of the model.
        reason: One sentence: what was done, or why nothing was.
        excluded_nodes: The nodes that were left in float.
        details: Facts for the report, ready for JSON.
    """

    changed: bool
    reason: str
    excluded_nodes: tuple[ExcludedNode, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Technique:
    """One way to compress a model.

    Attributes:
        kind: The verb in a recipe: "quantize", "prune" or "distill".
        method: The verb's value.
        stage: "torch" acts before export, "onnx" after it.
        config: Its config class; every default lives there.
        apply: (config, step) -> StepResult.
        summary: One line for `edgekit list techniques`.
        paper: Where it comes from.
        needs_calibration: Whether it observes activations on calibration data.
    """

    kind: str
    method: str
    stage: Stage
    config: type[StepConfig]
    apply: Callable[[Any, Any], StepResult]
    summary: str
    paper: str
    needs_calibration: bool = False

    @property
    def name(self) -> str:
        """As a recipe writes it: "quantize: static"."""
        return f"{self.kind}: {self.method}"


def name_of(config: StepConfig) -> str:
    """The name of the technique that a config is for, such as "quantize: static"."""
    kind = next(iter(type(config).model_fields))
    return f"{kind}: {getattr(config, kind)}"


TECHNIQUES: dict[str, Technique] = {}
F = TypeVar("F", bound=Callable[..., StepResult])


def technique(
    config: type[StepConfig], *, stage: Stage, summary: str, paper: str, needs_calibration: bool = False
) -> Callable[[F], F]:
    """Register a function as the technique of its config; its verb and method are the config's first field."""
    kind, first = next(iter(config.model_fields.items()))

    def register(function: F) -> F:
        made = Technique(kind, str(first.default), stage, config, function, summary, paper, needs_calibration)
        TECHNIQUES[made.name] = made
        return function

    return register
