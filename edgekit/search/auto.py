"""`quantize: auto` in a recipe: what `edgekit quantize` does without --method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgekit.compress import OnnxStep, StepConfig
from edgekit.compress.technique import StepResult, technique
from edgekit.search.quantize import quantize_model
from edgekit.search.request import QuantizeRequest


class AutoConfig(StepConfig):
    """The best of all methods: smallest and fastest with the metric kept on validation data.

    Attributes:
        max_drop: Largest loss of the metric, in its unit; by default 1 point of a share, or 5 % of any other metric.
    """

    quantize: Literal["auto"] = "auto"
    max_drop: Annotated[float | None, Field(ge=0)] = None


@technique(
    AutoConfig,
    stage="onnx",
    summary="the best method for the model, found by measuring; what gains nothing or loses too much is left",
    paper="search over the methods below, node by node where one loses too much",
    needs_calibration=True,
)
def quantize_auto(config: AutoConfig, step: OnnxStep) -> StepResult:
    """Try the methods that make sense and write the best file, or a copy where nothing is gained."""
    report = quantize_model(
        QuantizeRequest(
            model=step.model,
            out=step.out,
            calibration=step.calibration,
            evaluation=step.evaluation,
            metric=step.metric,
            max_drop=config.max_drop,
            target=step.target,
            threads=step.threads,
        )
    )
    details = {"method": report.method, "attempts": [a.as_dict() for a in report.attempts]}
    return StepResult(report.status == "ok", report.reason, report.excluded_nodes, details)
