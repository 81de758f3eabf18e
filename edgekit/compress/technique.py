"""What a technique is: a config, a function, and where it acts. Registered once, by the decorator below.

A module of a technique holds a frozen config whose first field names the verb and the method, and one function:

    class StaticConfig(StepConfig):
        quantize: Literal["static"] = "static"
        per_channel: bool = True

    @technique(StaticConfig, stage="onnx", summary="...", paper="...", needs_calibration=True)
    def quantize_static(config: StaticConfig, step: OnnxStep) -> StepResult: ...

One of stage "torch" gets a TorchStep in the place of the OnnxStep, and leaves a checkpoint in the place of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from edgekit.data import DataSet
from edgekit.data.split import Split
from edgekit.tasks.metric import Metric
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig

Stage = Literal["torch", "onnx"]
Target = Literal["cpu", "cpu-no-vnni", "arm", "cuda", "tensorrt", "web"]


class StepConfig(BaseModel):
    """Base of every step's config: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    def becomes(self) -> str:
        """The family of the model after it; "" where it stays what it was."""
        return ""

    @property
    def reads(self) -> tuple[str, ...]:
        """Models that it reads beside the one that it works on, by path; what they hold belongs to its key."""
        return ()

    def objections(self, family: str, earlier: Sequence[str]) -> Iterator[str]:
        """Why it makes no sense where it stands.

        Args:
            family: Of the model before it; "" for one of no family of ours.
            earlier: Names of the techniques of the steps before it.
        """
        yield from ()


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
class TorchStep:
    """What a torch-stage technique works with.

    Attributes:
        model: To compress, in evaluation mode; never changed, a technique works on a copy.
        out: Checkpoint directory to write; what an interrupted training goes on from lies in `out/work`.
        load_data: Gives the data as the model takes it.
        fingerprint: Of the data.
        metric: Which decides, on validation data.
        validate: A model -> its metric on validation data.
        base: Gives the model that the variant started from, as a teacher.
        open: A checkpoint directory -> its model, also one of the user's code.
        train: How that one was trained; what a step's `finetune` does not say is taken from here.
        work: Directory for what a step wants to find again when it is interrupted.
        speedup: A model -> how many times as fast its exported file runs as that of `model`.
        target: Where the result will run.
        opset: That it will be exported at; None for the default.
    """

    model: TrainedModel
    out: Path
    load_data: Callable[[], DataSet]
    fingerprint: str
    metric: Metric
    validate: Callable[[TrainedModel], float]
    base: Callable[[], TrainedModel]
    open: Callable[[Path], TrainedModel]
    train: TrainConfig
    work: Path
    speedup: Callable[[TrainedModel], float]
    target: Target = "cpu"
    opset: int | None = None


@dataclass(frozen=True)
class StepResult:
    """What a technique did.

    Attributes:
        changed: False when there was nothing to gain; `out` is then a copy of the model.
        reason: One sentence: what was done, or why nothing was.
        excluded_nodes: The nodes that were left in float.
        details: Facts for the report, ready for JSON. A technique of stage "torch" tells `parameters` and `macs` as
            {before, after}, and `links`: the names of what it did in turn, such as "pruned" and "fine-tuned", each with
            the metric on validation data.
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
        not_after: Techniques that must not stand before it in a variant, by name or by kind, each with the reason.
        closes: Why nothing can come after it in a variant; "" where something can.
        open_to: Names of techniques that can come after it all the same.
    """

    kind: str
    method: str
    stage: Stage
    config: type[StepConfig]
    apply: Callable[[Any, Any], StepResult]
    summary: str
    paper: str
    needs_calibration: bool = False
    not_after: Mapping[str, str] = field(default_factory=dict)
    closes: str = ""
    open_to: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As a recipe writes it: "quantize: static"."""
        return f"{self.kind}: {self.method}"


def name_of(config: StepConfig) -> str:
    """The name of the technique that a config is for, such as "quantize: static"."""
    kind = next(iter(type(config).model_fields))
    return f"{kind}: {getattr(config, kind)}"


def misplaced(names: Sequence[str]) -> list[tuple[int, str]]:
    """Steps that make no sense where they stand: index and reason of each.

    Args:
        names: Of the techniques of a variant, in their order; one that nobody registered is passed over.
    """
    chain = [(index, TECHNIQUES[name]) for index, name in enumerate(names) if name in TECHNIQUES]
    return [
        (index, reason)
        for place, (index, step) in enumerate(chain)
        if (reason := next(_objections(step, [t for _, t in chain[:place]]), ""))
    ]


def _objections(step: Technique, before: Sequence[Technique]) -> Iterator[str]:
    """Why a step cannot come after these."""
    for earlier in before:
        if earlier.closes and step.name not in earlier.open_to:
            yield f"`{step.name}` cannot follow `{earlier.name}`: {earlier.closes}"
        if step.stage == "torch" and earlier.stage == "onnx":
            yield (
                f"`{step.name}` trains the torch model and cannot follow `{earlier.name}`, which works on the exported "
                "file; put it before"
            )
        for name in (earlier.name, earlier.kind):
            if name in step.not_after:
                yield f"`{step.name}` cannot follow `{earlier.name}`: {step.not_after[name]}"


TECHNIQUES: dict[str, Technique] = {}
ELSEWHERE = {
    "prune: vocabulary": "it changes the tokeniser, and no step of a variant reads the data anew by another one: write "
    "`export: {trim_vocabulary: true}` in a recipe of a loaded model, or run edgekit prune MODEL.onnx --method "
    "vocabulary --data TEXTS"
}
F = TypeVar("F", bound=Callable[..., StepResult])


def technique(
    config: type[StepConfig],
    *,
    stage: Stage,
    summary: str,
    paper: str,
    needs_calibration: bool = False,
    not_after: Mapping[str, str] | None = None,
    closes: str = "",
    open_to: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register a function as the technique of its config; its verb and method are the config's first field."""
    kind, first = next(iter(config.model_fields.items()))

    def register(function: F) -> F:
        after = (not_after or {}, closes, open_to)
        made = Technique(kind, str(first.default), stage, config, function, summary, paper, needs_calibration, *after)
        TECHNIQUES[made.name] = made
        return function

    return register
