"""The base of a run: trained, fine-tuned or loaded, then exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.compress.prune.text_model import export_cut
from edgekit.files import sha256_of
from edgekit.judge import prepare_judge
from edgekit.load import fingerprint
from edgekit.pipeline.causal import causal_base, export_causal, refuse_torch_steps, tune_causal, tuned, tuned_files
from edgekit.pipeline.loaded import export_base, load_base
from edgekit.pipeline.text import clear_companions, text_cuts, text_of_base
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
    causal = causal_base(recipe)
    if causal:
        refuse_torch_steps(recipe)
    if recipe.model is None or recipe.model.onnx or (causal and not recipe.fine_tunes):
        return {"history": []}

    def make() -> dict[str, Any]:
        if causal:
            tune_causal(work, causal)
            return {k: v for k, v in read_config(place).items() if k in _TOLD}
        data = text_of_base(recipe, work.source, work.task.name)
        return {k: v for k, v in load_base(recipe, data, place, work.fingerprint).items() if k in _TOLD}

    tuning = [recipe.train.as_key(), versions("lightning")] if recipe.fine_tunes else []
    inputs = [fingerprint(recipe.model), work.fingerprint, *tuning, versions("torch", "transformers", "edgekit")]
    doing = f"{'fine-tuning' if recipe.fine_tunes else 'loading'} {recipe.subject}"
    written = [place / WEIGHTS, place / CONFIG, *(tuned_files(work) if causal else ())]
    return work.store.run("train", inputs, written, make, doing).result


def export(work: Workspace) -> dict[str, Any]:
    """Write the base as ONNX; how it was exported, and its parity with torch."""
    recipe, out = work.recipe, work.model()
    causal = causal_base(recipe)
    loaded = causal is not None and not recipe.fine_tunes
    foreign = loaded or (recipe.model is not None and recipe.model.onnx is not None)
    weights = fingerprint(recipe.model) if foreign and recipe.model else sha256_of(work.checkpoint / WEIGHTS)
    if causal is None:
        return _export(work, "export", weights, work.checkpoint, out, "exporting to ONNX")

    def make() -> dict[str, Any]:
        clear_companions(out.parent)
        return _cut(work, lambda path: export_causal(work, tuned(work, causal), path), out)

    known = [versions("torch", "onnx", "edgekit"), work.fingerprint, versions("transformers", "optimum-onnx")]
    return work.store.run("export", [weights, recipe.export.as_key(), *known], [out], make, "exporting to ONNX").result


def export_link(work: Workspace, name: str, place: Path, out: Path) -> dict[str, Any]:
    """Write the checkpoint of a variant's torch step as ONNX, as the base was written."""
    return _export(work, f"{name}.export", sha256_of(place / WEIGHTS), place, out, f"exporting {name} to ONNX")


def _export(work: Workspace, step: str, weights: str, place: Path, out: Path, doing: str) -> dict[str, Any]:
    recipe = work.recipe

    def make() -> dict[str, Any]:
        if recipe.export.cuts and out == work.model():
            clear_companions(out.parent)
        return _cut(work, lambda path: export_base(recipe, work.source.text, place, path), out)

    inputs = [weights, recipe.export.as_key(), versions("torch", "onnx", "edgekit")]
    inputs += [work.fingerprint] if recipe.export.cuts else []
    return work.store.run(step, inputs, [out], make, doing).result


def _cut(work: Workspace, write: Callable[[Path], dict[str, Any]], out: Path) -> dict[str, Any]:
    """Export, and cut what the recipe asks for."""
    config = work.recipe.export
    written = export_cut(write, out, **text_cuts(work.recipe, work.source.text)) if config.cuts else write(out)
    return {**written, "path": str(out.relative_to(work.out))}
