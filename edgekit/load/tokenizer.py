"""The files that turn text into a model's ids and its outputs into text: found, checked, copied beside the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit import progress
from edgekit.errors import ModelError, OutputError, brief
from edgekit.files import sha256_of
from edgekit.load.language import GGUF, LanguageModel
from edgekit.load.pretrained import CONFIG, LOADING_ERRORS, quiet

TOKENIZER = "tokenizer.json"
_TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
)
_OTHERS = ("generation_config.json", "preprocessor_config.json")
# Tables are filled up to a multiple of 64 or 128, seldom by 2 %; what is larger belongs to another tokeniser.
_FILLING, _FILLING_SHARE = 128, 0.02


def companions(model: LanguageModel, staging: Path) -> list[Path]:
    """The files that belong beside an exported model: tokeniser, generation and model configurations.

    Args:
        model: Where they come from.
        staging: Directory to make those in that are not files yet.

    Raises:
        ModelError: if the tokeniser is damaged, or has another vocabulary than the model.
    """
    staging.mkdir(parents=True, exist_ok=True)
    if model.source.suffix == GGUF:
        _save_tokenizer(model, staging)
        found = []
    else:
        names = (*_TOKENIZER_FILES, *_OTHERS)
        found = [model.directory / n for n in names if (model.directory / n).is_file()]
    _write_configs(model, staging, {p.name for p in found})
    made = sorted(staging.iterdir())
    check_tokenizer(model, [*found, *made])
    return [*found, *made]


def check_tokenizer(model: LanguageModel, files: list[Path]) -> None:
    """Refuse a tokeniser whose vocabulary is not the model's.

    Args:
        model: Whose vocabulary is wanted.
        files: Companions of it.

    Raises:
        ModelError: if it has more ids than the model, or far fewer, or cannot be read.
    """
    wanted = getattr(model.config, "vocab_size", None)
    file = next((f for f in files if f.name == TOKENIZER), None)
    if wanted is None or model.head.kind == "audio":
        return
    if file is None:
        if not any(f.name in _TOKENIZER_FILES for f in files):
            progress.warn(f"{model.directory} has no {TOKENIZER}: the export cannot be used on text without one")
        return
    size = vocabulary_size(file)
    if not fits_vocabulary(size, wanted):
        raise ModelError(
            f"{file} has {size} tokens and the model has {wanted}: it is the tokeniser of another model; put the right "
            "one there, or take it away"
        )


def fits_vocabulary(size: int, wanted: int) -> bool:
    """Whether a tokeniser of so many ids can be that of a model with so many.

    >>> [fits_vocabulary(size, 30522) for size in (30522, 30523, 30400, 28996)]
    [True, False, True, False]
    """
    return size <= wanted <= size + max(_FILLING, int(_FILLING_SHARE * size))


def vocabulary_size(file: Path) -> int:
    """How many ids a tokenizer.json has: its highest id and one.

    Raises:
        ModelError: if it is damaged.
    """
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises bare exceptions
        raise ModelError(f"{file} is damaged or no tokeniser ({brief(error)}); copy or download it again") from error
    return max(vocabulary.values(), default=-1) + 1


def missing_beside(files: list[Path], directory: Path) -> list[Path]:
    """The companions that are not in the directory of an export yet; files of another model that lie there stay.

    Raises:
        OutputError: if one of them lies there with another content.
    """
    if any(file.parent.resolve() == directory.resolve() for file in files):
        return []  # the export goes into the model's own directory, which has them
    for there in (directory / file.name for file in files):
        ours = next(file for file in files if file.name == there.name)
        if there.exists() and not (there.is_file() and sha256_of(there) == sha256_of(ours)):
            raise OutputError(
                f"{there} is there already and belongs to another model; give each model a directory of its own, such "
                f"as --out {directory / 'NAME' / 'model.onnx'}"
            )
    return [file for file in files if not (directory / file.name).exists()]


def _write_configs(model: LanguageModel, staging: Path, there: set[str]) -> None:
    """config.json without the place it came from and without code to run; generation_config.json where it is new."""
    said = json.loads(model.config.to_json_string(use_diff=True))
    kept = {k: v for k, v in said.items() if k not in ("_name_or_path", "auto_map", "quantization_config")}
    _write(staging / CONFIG, kept)
    generation = getattr(model.module, "generation_config", None)
    if generation is not None and "generation_config.json" not in there and model.head.kind in ("decoder", "seq2seq"):
        _write(staging / "generation_config.json", json.loads(generation.to_json_string()))


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_tokenizer(model: LanguageModel, staging: Path) -> None:
    """The tokeniser that a .gguf file holds."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                model.directory, gguf_file=model.source.name, local_files_only=True
            )
            tokenizer.save_pretrained(staging)
            (staging / "tokenizer.model").unlink(missing_ok=True)  # it would be the whole .gguf file under another name
    except LOADING_ERRORS as error:
        raise ModelError(f"{model.source} holds no tokeniser that can be used: {brief(error)}") from error
