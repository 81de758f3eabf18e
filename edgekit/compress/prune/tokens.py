"""A smaller vocabulary for a tokeniser, with which texts of the kept tokens become the same tokens as before.

Kept are the tokens that texts are made of, every special one, every byte or letter that others are built from, and what
merges pass through on their way to a kept token. So no text becomes unknown that was not so before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import CompressError
from edgekit.specs import Array

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PROVEN_TEXTS = 2000


@dataclass(frozen=True)
class TrimmedTokenizer:
    """A tokeniser with fewer tokens.

    Attributes:
        tokenizer: The new one.
        kept: The old id of each new one, int64 (tokens,), ascending.
    """

    tokenizer: TextTokenizer
    kept: Array


def trim_tokenizer(tokenizer: TextTokenizer, texts: Sequence[str]) -> TrimmedTokenizer:
    """Leave out the tokens that texts have no use for.

    Args:
        tokenizer: The old one.
        texts: What the model is used on.

    Raises:
        CompressError: if it is of a kind that cannot be cut, or would read the texts otherwise.
    """
    content = json.loads(tokenizer.content)
    words = _words(content["model"])
    used = np.unique(
        np.concatenate([np.empty(0, np.int64), *tokenizer.encode(texts), *tokenizer.encode([""], special=True)])
    )
    kept = np.array(sorted(_closed(content, words, {int(i) for i in used})), dtype=np.int64)
    made = TextTokenizer(json.dumps(_renumbered(content, words, kept), ensure_ascii=False))
    for before, after in zip(*(t.encode(texts[:_PROVEN_TEXTS]) for t in (tokenizer, made)), strict=True):
        if not np.array_equal(before, kept[after]):
            raise CompressError("the tokeniser reads a text otherwise once its vocabulary is cut; leave it whole")
    return TrimmedTokenizer(made, kept)


def _words(model: dict[str, Any]) -> dict[str, int]:
    """Token -> id of a tokenizer.json's model, without added tokens."""
    words = model.get("vocab")
    if isinstance(words, dict):
        return dict(words)
    if isinstance(words, list):  # unigrams, each with its score
        return {word: number for number, (word, _) in enumerate(words)}
    raise CompressError(f"a tokeniser of kind {model.get('type')!r} has no vocabulary that can be cut")


def _closed(content: dict[str, Any], words: dict[str, int], used: set[int]) -> set[int]:
    """The used ids, and all that must stay for their sake."""
    model = content["model"]
    special = {int(token["id"]) for token in content.get("added_tokens", ())}
    unknown = {words[u] for u in [model.get("unk_token")] if u in words}
    unknown |= {int(n) for n in [model.get("unk_id")] if n is not None}
    letters = {number for word, number in words.items() if _is_basic(word, content)}
    return _with_parts(model, words, used | special | unknown | letters)


def _is_basic(word: str, content: dict[str, Any]) -> bool:
    """Whether other words are built from it: a byte, or a letter of a model that splits words into pieces."""
    model = content["model"]
    if _BYTE.fullmatch(word):
        return True
    by_bytes = "ByteLevel" in json.dumps(content.get("pre_tokenizer"))
    pieces = model.get("type") == "WordPiece" or by_bytes
    return pieces and len(word.removeprefix(model.get("continuing_subword_prefix") or "")) == 1


def _with_parts(model: dict[str, Any], words: dict[str, int], kept: set[int]) -> set[int]:
    """With what merges pass through on their way to a kept token."""
    parts: dict[int, list[int]] = {}
    for left, right in map(_pair, model.get("merges") or ()):
        made = words.get(_merged(model, left, right))
        if made is not None:
            parts.setdefault(made, []).extend((words[left], words[right]))
    found, waiting = set(kept), list(kept)
    while waiting:
        new = [part for part in parts.get(waiting.pop(), ()) if part not in found]
        found.update(new)
        waiting += new
    return found


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _merged(model: dict[str, Any], left: str, right: str) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _renumbered(content: dict[str, Any], words: dict[str, int], kept: Array) -> dict[str, Any]:
    """A tokenizer.json of the kept tokens, whose ids are their places among them."""
    new = {int(old): place for place, old in enumerate(kept)}
    model = dict(content["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {word: new[number] for word, number in words.items() if number in new}
    else:
        model["vocab"] = [pair for number, pair in enumerate(model["vocab"]) if number in new]
        model["unk_id"] = None if model.get("unk_id") is None else new[int(model["unk_id"])]
    if "merges" in model:
        model["merges"] = list(_kept_merges(model, model["vocab"]))
    added = [{**token, "id": new[int(token["id"])]} for token in content.get("added_tokens", ())]
    padding = content.get("padding")
    return {
        **content,
        "model": model,
        "added_tokens": added,
        "post_processor": _ids_in(content.get("post_processor"), new),
        "padding": padding and {**padding, "pad_id": new.get(int(padding["pad_id"]), 0)},
    }


def _kept_merges(model: dict[str, Any], words: dict[str, int]) -> Iterable[Any]:
    for merge in model["merges"]:
        left, right = _pair(merge)
        if left in words and right in words and _merged(model, left, right) in words:
            yield merge


def _ids_in(processor: Any, new: dict[int, int]) -> Any:
    """A post-processor whose special tokens have their new ids."""
    if not isinstance(processor, dict):
        return processor
    found = dict(processor)
    for key in ("sep", "cls"):
        if isinstance(found.get(key), list):
            found[key] = [found[key][0], new[int(found[key][1])]]
    if isinstance(found.get("special_tokens"), dict):
        found["special_tokens"] = {
            name: {**token, "ids": [new[int(i)] for i in token["ids"]]}
            for name, token in found["special_tokens"].items()
        }
    if "processors" in found:
        found["processors"] = [_ids_in(inner, new) for inner in found["processors"]]
    return found
