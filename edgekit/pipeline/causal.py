"""Language models of Hugging Face as the base of a run: trained on, optimum's export, and torch's own figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.compress import TECHNIQUES, name_of
from edgekit.errors import CompressError
from edgekit.load import adapted
from edgekit.load.causal import PLACE, WEIGHTS, CausalSource, TorchDecoder, find_causal
from edgekit.pipeline.text import text_of_base
from edgekit.pipeline.workspace import Workspace
from edgekit.recipe import Recipe
from edgekit.tasks.metric import summarise


def causal_base(recipe: Recipe) -> CausalSource | None:
    """The base of a recipe, where it is a language model of Hugging Face; None for any other."""
    return find_causal(recipe.model) if recipe.model else None


def refuse_torch_steps(recipe: Recipe) -> None:
    """Refuse steps that train such a model, before anything is done.

    Raises:
        CompressError: for the first of them.
    """
    names = [name_of(step) for steps in recipe.variants.values() for step in steps]
    trains = next((name for name in names if TECHNIQUES[name].stage == "torch"), None)
    if trains:
        raise CompressError(
            f"`{trains}` needs a model that edgekit takes apart in torch, and {recipe.subject} is a language model of "
            "Hugging Face; use steps that work on the file (`edgekit list techniques`)"
        )


def tuned_files(work: Workspace) -> list[Path]:
    """What `tune_causal` leaves beside the checkpoint."""
    return [work.checkpoint / PLACE / WEIGHTS]


def tune_causal(work: Workspace, source: CausalSource) -> None:
    """Train the base on, on the texts of the recipe in the ids of its own tokeniser.

    It becomes a checkpoint of ours, and lies in Hugging Face's layout inside of that, from where it is exported.

    Raises:
        EdgekitError: as loading and training raise it.
    """
    from edgekit.training.fit import fit

    data = text_of_base(work.recipe, work.source, work.task.name)
    model = adapted(source.open(), data, trains=True)
    place = work.checkpoint
    trained = fit(model.card, lambda: data, work.recipe.train, place, fingerprint=work.fingerprint, start=model)
    source.keep(trained, place / PLACE)


def tuned(work: Workspace, source: CausalSource) -> CausalSource:
    """What the base is exported from: where it was trained on, what came of that."""
    return (
        CausalSource(work.checkpoint / PLACE, source.head, trust_remote_code=False)
        if work.recipe.fine_tunes
        else source
    )


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
