"""Texts as pairs with masked tokens: what an encoder of text is trained on first.

Source: Devlin et al. 2018, arXiv:1810.04805, sections 3.1 and A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.specs import Array

_MASKED, _REPLACED, _KEPT = 0.15, 0.1, 0.1  # of all tokens; of those that are masked
_NOT_MASKED = -100  # as tasks.masked_language has it, and torch
_AROUND = 3  # [CLS] first [SEP] second [SEP]
_LEAST_HALF = 4  # tokens


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that are no text.

    Attributes:
        first: Begins a pair, [CLS].
        separator: Ends each of its texts, [SEP].
        mask: Stands for a masked token, [MASK].
        pad: Fills a batch up.
        vocabulary: Number of all ids.
    """

    first: int
    separator: int
    mask: int
    pad: int
    vocabulary: int


def pretraining_split(
    name: str, texts: Sequence[Array], special: SpecialTokens, length: int, *, seed: int, copies: int = 1
) -> Split:
    """Pairs of texts with masked tokens.

    Each text is cut into pieces, and each piece in two; every other second half is put behind the first half of
    another piece.

    Args:
        name: Of the split.
        texts: Ids, int64 (tokens,) each, without special tokens.
        special: Of the tokeniser.
        length: Tokens of a pair, with the special ones.
        seed: Of pairs and masks.
        copies: How often the texts are taken, with other pairs and masks each time.

    Returns:
        Arrays `ids`, `mask` and `segments`, int64 (n, length) each, and labels int64 (n, 1 + length): 1 where the
        second half follows the first, then the token at each masked place and -100 elsewhere.

    Raises:
        DataError: if no text has 8 tokens, or the length leaves no room for so many.
    """
    rng = np.random.default_rng(seed)
    room = length - _AROUND
    pieces = [text[i : i + room] for text in texts for i in range(0, len(text), max(room, 1))]
    pieces = [p for p in pieces if len(p) >= 2 * _LEAST_HALF]
    if room < 2 * _LEAST_HALF or len(pieces) < 2:
        raise DataError(
            f"split {name!r}: {len(pieces)} pieces of text have {2 * _LEAST_HALF} tokens or more at a length of "
            f"{length}; at least 2 are needed, give more or longer text, or a `length` from "
            f"{_AROUND + 2 * _LEAST_HALF} on"
        )
    made = [_pairs(pieces, special, length, rng) for _ in range(copies)]
    ids, mask, segments, follows = (np.concatenate(parts) for parts in zip(*made, strict=True))
    hidden, targets = mask_tokens(ids, special, rng)
    return Split(name, {"ids": hidden, "mask": mask, "segments": segments}, np.hstack([follows[:, None], targets]))


def _pairs(
    pieces: Sequence[Array], special: SpecialTokens, length: int, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Ids, mask, segments (n, length) and whether the second half follows (n,), one row a piece."""
    count = len(pieces)
    cuts = [int(rng.integers(_LEAST_HALF, len(p) - _LEAST_HALF + 1)) for p in pieces]
    follows = rng.permutation(np.arange(count) % 2)
    others = (np.arange(count) + rng.integers(1, count, count)) % count  # any but the piece itself
    ids = np.full((count, length), special.pad, np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for row, piece in enumerate(pieces):
        other = row if follows[row] else int(others[row])
        first, second = piece[: cuts[row]], pieces[other][cuts[other] :]
        second = second[: length - _AROUND - len(first)]
        pair = [np.array([special.first]), first, np.array([special.separator]), second, np.array([special.separator])]
        filled = len(first) + len(second) + _AROUND
        ids[row, :filled], mask[row, :filled] = np.concatenate(pair), 1
        segments[row, len(first) + 2 : filled] = 1
    return ids, mask, segments, follows.astype(np.int64)


def mask_tokens(ids: Array, special: SpecialTokens, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mask 15 % of the tokens of a text: 8 of 10 by [MASK], 1 by any token, 1 as it is; at least one in each row.

    Args:
        ids: int64 (n, length).
        special: These are never masked.
        rng: Chooses.

    Returns:
        (ids with masks, targets): int64 (n, length) each; targets are -100 where nothing was masked.
    """
    text = ~np.isin(ids, (special.first, special.separator, special.pad))
    chance = np.where(text, rng.random(ids.shape), 2.0)
    chosen = (chance < _MASKED) | (chance == chance.min(axis=1, keepdims=True))
    how = rng.random(ids.shape)
    hidden = np.where(chosen & (how >= _REPLACED + _KEPT), special.mask, ids)
    replaced = chosen & (how < _REPLACED)
    hidden = np.where(replaced, rng.integers(0, special.vocabulary, ids.shape), hidden)
    return hidden.astype(np.int64), np.where(chosen, ids, _NOT_MASKED).astype(np.int64)
