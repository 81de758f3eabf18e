"""The tokenizer.json beside a model: written with a checkpoint, carried to an ONNX file, found and checked again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.tokenizer import FILE, TextTokenizer, load_tokenizer
from edgekit.errors import ModelError
from edgekit.files import sha256_of, write_text


def keep_tokenizer(preprocessing: object, directory: Path) -> None:
    """Write what belongs beside a checkpoint of a model of text; nothing for other models."""
    if isinstance(preprocessing, TextPreprocessing):
        for name, content in preprocessing.companions().items():
            write_text(directory / name, content)


def carry_tokenizer(source: Path, out: Path, preprocessing: Mapping[str, Any]) -> Path | None:
    """Put a checkpoint's tokeniser beside an ONNX file that was exported from it.

    Args:
        source: The checkpoint directory.
        out: The ONNX file.
        preprocessing: Of the model's card.

    Returns:
        Where it lies now: `tokenizer.json`, or `NAME.tokenizer.json` where another model's has that name; None for
        models of no text.

    Raises:
        ModelError: if the checkpoint's is missing or another one.
    """
    if preprocessing.get("kind") != "text":
        return None
    tokenizer = find_tokenizer(source, preprocessing)
    places = (out.parent / FILE, _own(out))
    free = (p for p in places if not p.exists() or sha256_of(p) == tokenizer.sha256)
    place = next(free, _own(out))
    if not place.exists() or sha256_of(place) != tokenizer.sha256:
        write_text(place, tokenizer.content)
    return place


def find_tokenizer(model: Path, preprocessing: Mapping[str, Any], given: Path | None = None) -> TextTokenizer:
    """The tokeniser that a model was trained with.

    Args:
        model: A checkpoint directory, or an .onnx file.
        preprocessing: What the model says of it; {} where it says nothing.
        given: Where the user says that it lies.

    Raises:
        ModelError: if there is none, or it is not the one that the model was trained with.
        DataError: if it is damaged.
    """
    places = [given] if given is not None else [model / FILE] if model.is_dir() else [_own(model), model.parent / FILE]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ModelError(
            f"{model} has no tokeniser: {' and '.join(map(str, places))} {'is' if len(places) == 1 else 'are'} not "
            f"there; put the {FILE} that it was trained with beside it, or name it with --tokenizer"
        )
    tokenizer = load_tokenizer(found)
    _require_the_same(tokenizer, found, model, preprocessing)
    return tokenizer


def _require_the_same(tokenizer: TextTokenizer, found: Path, model: Path, preprocessing: Mapping[str, Any]) -> None:
    wanted, size = preprocessing.get("tokenizer_sha256"), preprocessing.get("vocabulary")
    if size is not None and tokenizer.vocabulary != size:
        raise ModelError(
            f"{found} is of another model: it has {tokenizer.vocabulary:,} tokens, and {model} has {size:,}; "
            f"take the {FILE} that it was trained with"
        )
    if wanted is not None and tokenizer.sha256 != wanted:
        raise ModelError(
            f"{found} is of another model: its SHA-256 is {tokenizer.sha256[:12]}…, and {model} was trained with "
            f"{wanted[:12]}…; take the {FILE} that it was trained with"
        )


def told_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What an ONNX file says of its tokeniser: {} where it says nothing."""
    size, sha256 = metadata.get("edgekit.vocabulary", ""), metadata.get("edgekit.tokenizer", "")
    return {**({"vocabulary": int(size)} if size.isdigit() else {}), **({"tokenizer_sha256": sha256} if sha256 else {})}


def _own(model: Path) -> Path:
    """The name that no other model's tokeniser has: gpt.onnx -> gpt.tokenizer.json."""
    return model.with_name(f"{model.stem}.{FILE}")
