"""Texts -> ids, by the tokenizers package, which is imported with the first text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from edgekit.errors import BundleError, InputError, MissingPackageError, brief
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.specs import TEXT_INPUTS, Array, Feeds, TensorSpec

MOST_CHARACTERS = 10_000_000


def check_text(text: str) -> None:
    """Refuse what no tokeniser takes.

    Raises:
        InputError: if the text is longer than MOST_CHARACTERS, or holds half a character.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the text has {len(text):,} characters, and {MOST_CHARACTERS:,} are the most")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half a character at {error.start:,} ({text[error.start]!a}); it was no UTF-8: decode it "
            "again"
        ) from None


class TextPreparation:
    """From a text to the inputs of a model.

    Args:
        entry: The manifest's.
        inputs: Of the model.
        tokenizer: Content of the tokenizer.json.
        truncate: Whether texts that are too long are cut; None for what the manifest says.
    """

    def __init__(
        self, entry: Mapping[str, Any], inputs: Sequence[TensorSpec], tokenizer: bytes, truncate: bool | None = None
    ) -> None:
        self._content, self._specs = tokenizer, {spec.name: spec for spec in inputs}
        self.length = int(entry.get("length") or 0) or None
        self.truncate = bool(entry.get("truncate", False)) if truncate is None else truncate
        found = {role: entry.get(role) or self._first(names) for role, names in TEXT_INPUTS.items()}
        self._names: dict[str, str] = {role: str(name) for role, name in found.items() if name in self._specs}
        if "ids" not in self._names:
            raise BundleError("the bundle's model of text has no input for ids; the bundle is of another program")

    @cached_property
    def fill(self) -> dict[str, float]:
        """Input -> value behind a text's end; {} without a mask, as nothing would tell the model where that is."""
        names = self._names
        return {names["ids"]: float(self.tokenizer.pad), names["mask"]: 0.0} if "mask" in names else {}

    def row(self, given: Any) -> dict[str, Array]:
        """The ids of one text, and its mask where the model takes one.

        Raises:
            InputError: if it is no text, empty, or too long and may not be cut.
            MissingPackageError: without tokenizers.
        """
        if not isinstance(given, str):
            raise InputError(f"the model takes a text, got {type(given).__name__}; decode bytes with .decode('utf-8')")
        if not given.strip():
            raise InputError("the text is empty; give some words")
        check_text(given)
        ids = self._cut(np.array(self.tokenizer.ids_of(given), dtype=np.int64))
        if not len(ids):
            raise InputError("the tokeniser knows nothing of the text; give other words")
        return self._named({"ids": ids, "mask": np.ones_like(ids)})

    def complete(self, feeds: Feeds) -> dict[str, Array]:
        """A batch with what follows from its ids and mask: positions and segments, where the model takes them."""
        ids = feeds[self._names["ids"]]
        mask = feeds.get(self._names.get("mask", ""), np.ones_like(ids))
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        return {**feeds, **self._named({"positions": positions, "segments": np.zeros_like(ids)})}

    def _named(self, roles: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays under the names and in the types that the model has for them; none for what it does not take."""
        named = {self._names[role]: array for role, array in roles.items() if role in self._names}
        return {name: array.astype(self._specs[name].dtype) for name, array in named.items()}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The bundle's.

        Raises:
            BundleError: if it is damaged.
            MissingPackageError: without tokenizers.
        """
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise MissingPackageError("texts need tokenizers; install it: pip install tokenizers") from None
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(self._content.decode("utf-8")))
        except Exception as error:  # the library raises its own bare Exception
            raise BundleError(f"the bundle's tokenizer.json is damaged: {brief(error, 160)}") from error

    def _cut(self, ids: Array) -> Array:
        """The first tokens; a token that ends the text stays its last."""
        if self.length is None or len(ids) <= self.length:
            return ids
        if not self.truncate:
            raise InputError(
                f"the text has {len(ids):,} tokens, the model takes {self.length:,}; shorten it, or let it be cut: "
                "truncate=True"
            )
        if ids[-1] != self.tokenizer.end:
            return ids[: self.length]
        return np.concatenate([ids[: self.length - 1], ids[-1:]])

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._specs), None)
