"""Tokenisers of the base of a run, and what is cut off it that texts do not need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.data import DataSet, DataSource, TextConfig, our_task
from edgekit.data.text.beside import find_tokenizer, find_tokenizers, place_of_tokenizer, told_of
from edgekit.data.text.learn import KINDS
from edgekit.data.text.source import load_text, texts_of
from edgekit.data.text.tokenizer import FILE, PairTokenizers, TextTokenizer, load_tokenizer
from edgekit.errors import ModelError
from edgekit.graph.read import read_model
from edgekit.load import ModelSource
from edgekit.load.source import hugging_face_place
from edgekit.recipe import Recipe
from edgekit.training.checkpoint import read_config

_OWN = ("tokenizer", "vocabulary")


def text_of_base(recipe: Recipe, source: DataSource, task: str) -> DataSet:
    """The data in the ids of the base that a recipe loads, where that comes with a tokeniser; else as the data says.

    Raises:
        ModelError: if the tokeniser is missing or of another model, or the data asks for another one.
    """
    tokenizer = _tokenizer_of_source(recipe.model) if recipe.model and source.text else None
    if tokenizer is None or source.text is None:
        return source.load(None, task)
    refuse_other_tokenizer(recipe)
    return load_text(source.text, task, tokenizer)


def refuse_other_tokenizer(recipe: Recipe) -> None:
    """Refuse that the data learns a tokeniser for a model that comes with one.

    Raises:
        ModelError: if it does.
    """
    data = recipe.data
    if not isinstance(data, TextConfig) or data.tokenizer not in KINDS:
        return
    said = [key for key in _OWN if key in data.model_fields_set]
    if said:
        raise ModelError(f"{recipe.subject} comes with its own tokeniser; leave `{said[0]}` out of `data`")


def _tokenizer_of_source(model: ModelSource) -> TextTokenizer | PairTokenizers | None:
    """What lies beside a checkpoint or in a Hugging Face directory; None where nothing does."""
    if model.checkpoint:
        told = read_config(Path(model.checkpoint))["card"]["preprocessing"]
        return find_tokenizers(Path(model.checkpoint), told) if told.get("kind") in ("text", "pairs") else None
    place = hugging_face_place(model.hf) if model.hf else None
    return load_tokenizer(place) if place is not None and (place / FILE).is_file() else None


def own_tokenizer(model: Path, metadata: Mapping[str, str], config: TextConfig) -> TextTokenizer:
    """The tokeniser of a model that is there already, for data of text.

    Args:
        model: An .onnx file.
        metadata: Of the file.
        config: Of the data; a tokenizer.json that it names is taken where none lies beside the model.

    Raises:
        ModelError: if there is none, or it is of another model.
    """
    try:
        return find_tokenizer(model, told_of(metadata))
    except ModelError:
        if not config.tokenizer.endswith(".json"):
            raise
    return find_tokenizer(model, told_of(metadata), Path(config.tokenizer))


def told_metadata(model: Path) -> dict[str, str]:
    """What an .onnx file says of itself."""
    return {p.key: p.value for p in read_model(model).metadata_props}


def told_task(model: Path) -> str:
    """The task that an .onnx file says it does, as it is called here; "" where it says none."""
    return our_task(told_metadata(model).get("edgekit.task", ""))


def text_cuts(recipe: Recipe, text: TextConfig | None) -> dict[str, Any]:
    """What of the base is left out, as `export_cut` takes it.

    Raises:
        ModelError: if the data is no text.
    """
    config = recipe.export
    if text is None:
        raise ModelError(
            f"recipe {recipe.name}: `export` cuts tokens or texts, and the data is no text; leave that out"
        )
    onnx = Path(recipe.model.onnx) if recipe.model and recipe.model.onnx else None
    return {
        "texts": texts_of(text, "train") if config.trim_vocabulary else (),
        "length": config.max_length,
        "tokenizer": place_of_tokenizer(onnx) if onnx else None,
    }


def clear_companions(directory: Path) -> None:
    """Take away what an earlier export put beside the models of a run, so that no file finds another's tokeniser."""
    for file in directory.glob("*"):
        if file.is_file() and file.suffix in (".json", ".txt", ".model", ".jinja"):
            file.unlink()
