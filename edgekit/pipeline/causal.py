"""Language models of Hugging Face as the base of a run: optimum's export, and torch's own figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.load.causal import CausalSource, TorchDecoder, find_causal
from edgekit.pipeline.workspace import Workspace
from edgekit.recipe import Recipe
from edgekit.tasks.metric import summarise


def causal_base(recipe: Recipe) -> CausalSource | None:
    """The base of a recipe, where it is a language model of Hugging Face; None for any other.

    Raises:
        ModelError: if the recipe would train it.
    """
    found = find_causal(recipe.model) if recipe.model else None
    if found is not None and recipe.fine_tunes:
        raise ModelError(
            f"{recipe.subject} is a model for {found.head.task}: recipes compress and judge it, but do not train it "
            "on; leave `train` out"
        )
    return found


def export_causal(work: Workspace, source: CausalSource, out: Path) -> dict[str, Any]:
    """Write the base of a run by optimum, and judge it in torch on validation data.

    Returns:
        What the export says, and under `torch` each metric, on the same texts as the exported file will be judged on;
        without that where the file is cut, which is no longer the model that torch has.

    Raises:
        EdgekitError: as loading, exporting and judging raise it.
    """
    from edgekit.evaluate import scores_of
    from edgekit.export.language import export_language

    config, model = work.recipe.export, source.load()
    exported = export_language(model, out, opset=config.opset, target_ort=config.target_ort)
    if config.cuts:
        return exported
    metrics = [work.metric, *(work.bound(name) for name in work.task.also)]
    validation = work.data.splits["validation"]
    asked = replace(validation, arrays={"ids": validation.arrays["input_ids"]})
    found = scores_of(TorchDecoder(model), asked, metrics)
    return {**exported, "torch": {m.name: summarise(m, found[m.name]).as_dict() for m in metrics}}
