"""A tokeniser of the tokenizers library: texts to ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from edgekit.specs import Array

# What published tokenisers call the id that ends a text, and the one that fills a batch up.
_ENDS = ("<end>", "<|endoftext|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
_PADS = ("[PAD]", "<pad>", "<|pad|>")


class Tokenizer:
    """A tokeniser that neither cuts texts nor fills batches up, and takes no text for a special token.

    Args:
        raw: A `tokenizers.Tokenizer`.
    """

    def __init__(self, raw: Any) -> None:
        raw.no_truncation()
        raw.no_padding()
        raw.encode_special_tokens = True  # a text that holds "<end>" does not end there
        self.raw = raw

    @cached_property
    def vocabulary(self) -> int:
        """How many ids there are: one more than the largest."""
        return 1 + max(int(number) for number in self.raw.get_vocab(with_added_tokens=True).values())

    @cached_property
    def end(self) -> int | None:
        """The id that ends a text; None where the tokeniser has none."""
        return self.first_id(_ENDS)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Every id that ends a text: a model for conversations has one for a turn too."""
        found = (self.first_id([token]) for token in _ENDS)
        return frozenset(number for number in found if number is not None)

    @cached_property
    def pad(self) -> int:
        """The id that fills a batch up, behind a mask."""
        found = self.first_id(_PADS)
        return found if found is not None else self.end or 0

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text, with what the model wants around it."""
        return list(self.raw.encode_batch_fast([text])[0].ids)

    def decode(self, ids: Sequence[int] | Array) -> str:
        """The text of ids; half a character at the end is left as U+FFFD."""
        return str(self.raw.decode([int(i) for i in ids], skip_special_tokens=True))

    def first_id(self, tokens: Sequence[str]) -> int | None:
        """The id of the first of these tokens that is known; None where none is."""
        found = (self.raw.token_to_id(token) for token in tokens)
        return next((int(number) for number in found if number is not None), None)
