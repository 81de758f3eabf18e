"""What techniques that prune a torch model have to tell when they are done."""

from __future__ import annotations

from typing import Any

from edgekit.compress.prune.cost import both, count_macs, count_parameters, sample_of, widths
from edgekit.compress.technique import ExcludedNode, StepResult, TorchStep
from edgekit.training.checkpoint import TrainedModel

AFTER_QUANTIZE = {"quantize": "learnt scales belong to the weights that are there; prune first"}

AFTER_PATTERN = {"prune: nm": "it would break the pattern of zeros; put `prune: nm` behind it"}


def link(step: TorchStep, model: TrainedModel, name: str) -> dict[str, Any]:
    """What a model is worth after a part of a step."""
    return {"name": name, "validation": step.validate(model)}


def outcome(
    step: TorchStep,
    model: TrainedModel,
    links: list[dict[str, Any]],
    removed: str,
    kept: dict[str, str] | None = None,
    **details: Any,
) -> StepResult:
    """The result of a step that removed something.

    Args:
        step: What it started from.
        model: What came of it.
        links: What it was worth in between.
        removed: What went, for the sentence.
        kept: Name of what had to stay -> why.
        details: Further facts.
    """
    sample = sample_of(step.model, step.load_data().splits["calibration"])
    modules = (step.model.module, model.module)
    macs = both(*(count_macs(module, sample) for module in modules))
    parameters = both(*(count_parameters(module) for module in modules))
    told = {"macs": macs, "parameters": parameters, "links": links, "layers": widths(*modules), **details}
    reason = (
        f"{removed} removed: {macs['ratio']:.2f} times fewer MACs, {parameters['ratio']:.2f} times fewer parameters"
    )
    excluded = tuple(ExcludedNode(name, why) for name, why in (kept or {}).items())
    return StepResult(True, reason, excluded, told)
