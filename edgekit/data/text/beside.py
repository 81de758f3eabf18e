"""The tokenizer.json beside a model: written with a checkpoint, carried to an ONNX file, found and checked again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.data.text.pairs import PairPreprocessing
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.tokenizer import FILE, PairTokenizers, TextTokenizer, load_tokenizer
from edgekit.errors import ModelError
from edgekit.files import sha256_of, write_text


def keep_tokenizer(preprocessing: object, directory: Path) -> None:
    """Write what belongs beside a checkpoint of a model of text; nothing for other models."""
    if isinstance(preprocessing, (TextPreprocessing, PairPreprocessing)):
        for name, content in preprocessing.companions().items():
            write_text(directory / name, content)


def carry_tokenizer(source: Path, out: Path, preprocessing: Mapping[str, Any]) -> Path | None:
    """Put a checkpoint's tokeniser beside an ONNX file that was exported from it.

    Args:
        source: The checkpoint directory.
        out: The ONNX file.
        preprocessing: Of the model's card.

    Returns:
        Where it lies now: `tokenizer.json`, or `NAME.tokenizer.json` where another model's has that name; that of a
        target beside it. None for models of no text.

    Raises:
        ModelError: if the checkpoint's is missing or another one.
    """
    kind = preprocessing.get("kind")
    if kind not in ("text", "pairs"):
        return None
    if kind == "pairs" and _target_file(preprocessing) != FILE:
        put_tokenizer(
            _found(source, _of_target(preprocessing), None, _target_file(preprocessing)),
            out,
            _target_file(preprocessing),
        )
    return put_tokenizer(_found(source, preprocessing, None, FILE), out)


def put_tokenizer(tokenizer: TextTokenizer, out: Path, file: str = FILE) -> Path:
    """Put a tokeniser beside an ONNX file: `tokenizer.json`, or `NAME.tokenizer.json` where another has that name."""
    places = (out.parent / file, _own(out, file))
    free = (p for p in places if not p.exists() or sha256_of(p) == tokenizer.sha256)
    place = next(free, places[-1])
    if not place.exists() or sha256_of(place) != tokenizer.sha256:
        write_text(place, tokenizer.content)
    return place


def find_tokenizers(model: Path, preprocessing: Mapping[str, Any]) -> TextTokenizer | PairTokenizers:
    """The tokeniser that a model was trained with, or the two of a model of pairs.

    Args:
        model: A checkpoint directory, or an .onnx file.
        preprocessing: What the model says of it; {} where it says nothing.

    Raises:
        ModelError: if one is missing, or not the one that the model was trained with.
        DataError: if one is damaged.
    """
    source = find_tokenizer(model, preprocessing)
    if preprocessing.get("kind") != "pairs":
        return source
    return PairTokenizers(source, _found(model, _of_target(preprocessing), None, _target_file(preprocessing)))


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
    return _found(model, preprocessing, given, FILE)


def _found(model: Path, preprocessing: Mapping[str, Any], given: Path | None, file: str) -> TextTokenizer:
    places = [given] if given is not None else _places(model, file)
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ModelError(
            f"{model} has no tokeniser: {' and '.join(map(str, places))} {'is' if len(places) == 1 else 'are'} not "
            f"there; put the {file} that it was trained with beside it, or name it with --tokenizer"
        )
    tokenizer = load_tokenizer(found)
    _require_the_same(tokenizer, found, model, preprocessing)
    return tokenizer


def _target_file(preprocessing: Mapping[str, Any]) -> str:
    """The name of the target's; only its last part, wherever the model says that it lies."""
    return Path(str(preprocessing.get("target_tokenizer", FILE))).name


def _of_target(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What a model says of the target's tokeniser, under the names that it has for the only one."""
    prefix = "target_"
    return {key.removeprefix(prefix): value for key, value in preprocessing.items() if key.startswith(prefix)}


def place_of_tokenizer(model: Path) -> Path | None:
    """Where the tokeniser of a model lies; None where there is none."""
    return next((place for place in _places(model, FILE) if place.exists()), None)


def _places(model: Path, file: str) -> list[Path]:
    """Where it is looked for: in a checkpoint directory, or beside a file under its own name first."""
    return [model / file] if model.is_dir() else [_own(model, file), model.parent / file]


def _require_the_same(tokenizer: TextTokenizer, found: Path, model: Path, preprocessing: Mapping[str, Any]) -> None:
    wanted, size = preprocessing.get("tokenizer_sha256"), preprocessing.get("vocabulary")
    if size is not None and tokenizer.vocabulary != size:
        raise ModelError(
            f"{found} is of another model: it has {tokenizer.vocabulary:,} tokens, and {model} has {size:,}; "
            f"take the {found.name} that it was trained with"
        )
    if wanted is not None and tokenizer.sha256 != wanted:
        raise ModelError(
            f"{found} is of another model: its SHA-256 is {tokenizer.sha256[:12]}…, and {model} was trained with "
            f"{wanted[:12]}…; take the {found.name} that it was trained with"
        )


def told_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What an ONNX file says of its tokenisers: {} where it says nothing."""
    size, sha256 = metadata.get("edgekit.vocabulary", ""), metadata.get("edgekit.tokenizer", "")
    told = {**({"vocabulary": int(size)} if size.isdigit() else {}), **({"tokenizer_sha256": sha256} if sha256 else {})}
    return {**told, **_told_of_pairs(metadata.get("edgekit.preprocessing", ""))}


def _told_of_pairs(preprocessing: str) -> dict[str, Any]:
    """What it says of how pairs of texts become ids; {} where it is no such model."""
    try:
        found = json.loads(preprocessing or "{}")
    except ValueError:  # another tool's: nothing of ours
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "pairs" else {}


def _own(model: Path, file: str) -> Path:
    """The name that no other model's tokeniser has: gpt.onnx -> gpt.tokenizer.json."""
    return model.with_name(f"{model.stem}.{file}")
