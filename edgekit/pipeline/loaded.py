"""The base model of a run that does not begin with training: loaded from what a recipe's `model` names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.data import DataSet, DataSource, for_model, longest_told, named_for, refuse_longer
from edgekit.data.text.beside import carry_tokenizer, keep_tokenizer
from edgekit.data.text.config import TextConfig
from edgekit.data.text.source import load_text
from edgekit.data.text.tokenizer import FILE
from edgekit.errors import ModelError
from edgekit.families import FAMILIES
from edgekit.files import write_text
from edgekit.load import Description, ModelSource, adapted, load_model, open_checkpoint
from edgekit.load.builder import users_code
from edgekit.load.causal import find_causal
from edgekit.pipeline.text import own_tokenizer, refuse_other_tokenizer, text_of_base, told_metadata, told_task
from edgekit.recipe import BASE, Recipe
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS, find_metric
from edgekit.training.checkpoint import TrainedModel, read_config, save_checkpoint
from edgekit.training.fit import fit

_DRAWN = ("reconstruction", "generation")  # tasks whose models may take noise beside the data


def task_name(recipe: Recipe, source: DataSource) -> str:
    """What the model does with the data.

    Raises:
        DataError: if the data cannot be used for it.
    """
    model = recipe.model
    if model is None:
        return source.task_for(FAMILIES[recipe.family].tasks)
    if model.task:
        return source.task_for([model.task])
    if model.kind == "family":
        return source.task_for(FAMILIES[model.family or ""].tasks)
    if model.checkpoint:
        return source.task_for([str(read_config(Path(model.checkpoint))["card"]["task"]) or source.tasks[0]])
    if find_causal(model):
        return source.task_for(["language-modelling"])
    said = told_task(Path(model.onnx)) if model.onnx and source.text else ""
    return said if said in source.tasks else source.tasks[0]


def data_for(recipe: Recipe, source: DataSource, task: str, out: Path) -> DataSet:
    """The data as the model of a recipe takes it; what a loaded model takes is known once it is exported to `out`."""
    if recipe.model is None:
        data = source.load(None, task)
        return for_model(data, FAMILIES[recipe.family].model_inputs(recipe.size, data.inputs))
    from edgekit.ort import Session

    base = out / "models" / f"{BASE}.onnx"
    session = Session(base)
    if source.text and (recipe.export.trim_vocabulary or not _has_checkpoint(recipe)):
        refuse_other_tokenizer(recipe)
        anew = source.text.model_copy(update={"tokenizer": "bpe"}) if recipe.export.trim_vocabulary else source.text
        data = load_text(anew, task, own_tokenizer(base, session.metadata, anew))
    else:
        data = text_of_base(recipe, source, task)
    given = fed(data, session.inputs)
    refuse_longer(given.splits["test"], longest_told(session.metadata), recipe.subject)
    classes = tuple(json.loads(session.metadata.get("edgekit.classes", "[]")))
    more = len(classes) > len(data.classes)  # labels of an .npz need not reach the last class
    return replace(given, classes=classes) if more else given


def load_base(recipe: Recipe, data: DataSet, place: Path, data_fingerprint: str) -> dict[str, Any]:
    """Load the base model and keep it as a checkpoint; train it on, where the recipe says `train`.

    Args:
        recipe: Whose `model` is no ONNX file.
        data: As its source gives it.
        place: Checkpoint directory to write.
        data_fingerprint: Of the data.

    Returns:
        What config.json says of it, with its metric on validation data.

    Raises:
        EdgekitError: as the loaders raise it.
    """
    source = _source(recipe)
    classes = data.classes if source.kind == "family" else ()
    described = Description(data.inputs, classes, data.task, data.name, _preprocessing(data))
    with users_code(Path()):
        model = load_model(source, described)
        model = adapted(model, data, trains=recipe.fine_tunes)
        if recipe.fine_tunes:
            fit(
                model.card,
                lambda: fed(data, model.inputs),
                recipe.train,
                place,
                fingerprint=data_fingerprint,
                start=model,
            )
        else:
            _check_fits(model, data)
            keep_tokenizer(data.preprocessing, place)
            save_checkpoint(model, place, {"train": None, "history": [], "validation": _validation(model, data)})
    return read_config(place)


def _has_checkpoint(recipe: Recipe) -> bool:
    """Whether the loaded base was kept as a checkpoint, with the tokeniser of the data."""
    return recipe.model is not None and not recipe.model.onnx and find_causal(recipe.model) is None


def export_base(recipe: Recipe, text: TextConfig | None, place: Path, out: Path) -> dict[str, Any]:
    """Write the base model as ONNX: from its checkpoint, or anew from the ONNX file that the recipe names.

    Args:
        recipe: What to do.
        text: How the data becomes ids, where it is text; the tokeniser is put beside the file.
        place: The checkpoint.
        out: The file to write.
    """
    config = recipe.export
    if recipe.model and recipe.model.onnx:
        from edgekit.export.onnx_onnx import rewrite_onnx

        source = Path(recipe.model.onnx)
        tokenizer = own_tokenizer(source, told_metadata(source), text) if text else None
        written = rewrite_onnx(source, out, opset=config.opset, target_ort=config.target_ort)
        if tokenizer:
            write_text(out.parent / FILE, tokenizer.content)
        return written
    from edgekit.export.torch_onnx import export_onnx

    with users_code(Path()):
        model = open_checkpoint(place, recipe.model.code() if recipe.model else None)
        model = model.take(config.part) if config.part else model
        result = export_onnx(model, out, opset=config.opset, target_ort=config.target_ort).as_dict()
    carry_tokenizer(place, out, model.card.preprocessing)
    return result


def _source(recipe: Recipe) -> ModelSource:
    if recipe.model is None:
        raise ModelError(f"recipe {recipe.name} names no `model` to load")
    return recipe.model


def fed(data: DataSet, inputs: tuple[TensorSpec, ...]) -> DataSet:
    """The data under the names of a model's inputs; with noise, where the task draws some."""
    if data.task in _DRAWN:
        return for_model(data, inputs)
    named = {name: named_for(split, inputs) for name, split in data.splits.items()}
    splits = {name: replace(split, arrays=split.matched(inputs).arrays) for name, split in named.items()}
    return replace(data, inputs=inputs, splits=splits)


def _check_fits(model: TrainedModel, data: DataSet) -> None:
    if data.task not in _DRAWN:
        named_for(data.splits["validation"].take(1), model.inputs).matched(model.inputs)


def _validation(model: TrainedModel, data: DataSet) -> dict[str, Any]:
    """The deciding metric of the loaded model, in torch, before anything was done to it."""
    from edgekit.evaluate import evaluate

    metric = find_metric(TASKS[data.task].metric)
    given = fed(data, model.inputs)
    found = evaluate(model, given.splits["validation"], metric)
    return {"name": metric.name, "split": "validation", "value": found.value}


def _preprocessing(data: DataSet) -> dict[str, Any]:
    return data.preprocessing.as_dict() if data.preprocessing else {}
