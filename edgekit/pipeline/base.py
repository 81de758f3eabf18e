"""The base of a run: trained, fine-tuned or loaded, then exported."""

from __future__ import annotations

from typing import Any

from edgekit.files import sha256_of
from edgekit.judge import prepare_judge
from edgekit.load import fingerprint
from edgekit.pipeline.language import causal_base, export_causal, text_of_base
from edgekit.pipeline.loaded import export_base, load_base
from edgekit.pipeline.workspace import Workspace, versions
from edgekit.training.checkpoint import CONFIG, WEIGHTS, read_config
from edgekit.training.fit import card_for, fit
from edgekit.training.start import start_key

_TOLD = ("validation", "train", "card", "history")


def train(work: Workspace) -> dict[str, Any]:
    """Train the recipe's family, or load what its `model` names."""
    recipe, place = work.recipe, work.checkpoint
    if recipe.model:
        return _load(work)

    def make() -> dict[str, Any]:
        card = card_for(recipe.family, recipe.size, work.data)
        prepare_judge(work.metric, work.source.name)
        fit(card, lambda: work.data, recipe.train, place, fingerprint=work.fingerprint, metric=work.metric)
        return {k: v for k, v in read_config(place).items() if k in _TOLD}

    inputs = [
        recipe.family,
        recipe.size,
        recipe.train.as_key(),
        start_key(recipe.train.init),
        work.fingerprint,
        versions("torch", "lightning"),
    ]
    doing = f"training {recipe.family}/{recipe.size} on {work.source.name}"
    return work.store.run("train", inputs, [place / WEIGHTS, place / CONFIG], make, doing).result


def _load(work: Workspace) -> dict[str, Any]:
    """What is there before training, or in its place; ONNX files and language models are taken by the export."""
    recipe, place = work.recipe, work.checkpoint
    if recipe.model is None or recipe.model.onnx or causal_base(recipe):
        return {"history": []}

    def make() -> dict[str, Any]:
        data = text_of_base(recipe, work.source, work.task.name)
        return {k: v for k, v in load_base(recipe, data, place, work.fingerprint).items() if k in _TOLD}

    tuning = [recipe.train.as_key(), versions("lightning")] if recipe.fine_tunes else []
    inputs = [fingerprint(recipe.model), work.fingerprint, *tuning, versions("torch", "transformers", "edgekit")]
    doing = f"{'fine-tuning' if recipe.fine_tunes else 'loading'} {recipe.subject}"
    return work.store.run("train", inputs, [place / WEIGHTS, place / CONFIG], make, doing).result


def export(work: Workspace) -> dict[str, Any]:
    """Write the base as ONNX; how it was exported, and its parity with torch."""
    recipe, out = work.recipe, work.model()
    causal = causal_base(recipe)
    foreign = causal is not None or (recipe.model is not None and recipe.model.onnx is not None)

    def make() -> dict[str, Any]:
        written = export_causal(work, causal) if causal else export_base(recipe, work.source.text, work.checkpoint, out)
        return {**written, "path": str(out.relative_to(work.out))}

    weights = fingerprint(recipe.model) if foreign and recipe.model else sha256_of(work.checkpoint / WEIGHTS)
    inputs = [weights, recipe.export.as_key(), versions("torch", "onnx", "edgekit")]
    inputs += [work.fingerprint, versions("transformers", "optimum-onnx")] if causal else []
    return work.store.run("export", inputs, [out], make, "exporting to ONNX").result
