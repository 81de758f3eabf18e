"""Pairs of texts with masked tokens."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data.pretraining import SpecialTokens, mask_tokens, pretraining_split
from edgekit.errors import DataError

SPECIAL = SpecialTokens(first=2, separator=3, mask=4, pad=0, vocabulary=1000)


def texts(count: int, length: int = 20) -> list[np.ndarray]:
    """Text k holds the numbers from 10 k on, so that it is known where each token comes from."""
    return [5 + 30 * k + np.arange(length) for k in range(count)]


def unmasked(count: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    split = pretraining_split("train", texts(count), SPECIAL, 24, seed=0)
    labels = split.labels
    assert labels is not None
    ids = np.where(labels[:, 1:] == -100, split.arrays["ids"], labels[:, 1:])
    return ids, split.arrays["mask"], split.arrays["segments"], labels


def test_a_row_is_two_texts_with_their_special_tokens() -> None:
    ids, mask, segments, _ = unmasked()
    assert ids.shape == mask.shape == segments.shape == (30, 24)
    for row, kept, part in zip(ids, mask.sum(axis=1), segments, strict=True):
        ends = np.flatnonzero(row[:kept] == SPECIAL.separator)
        assert row[0] == SPECIAL.first
        assert len(ends) == 2
        assert ends[1] == kept - 1
        assert (part[: ends[0] + 1] == 0).all()
        assert (part[ends[0] + 1 : kept] == 1).all()
        assert (row[kept:] == SPECIAL.pad).all()
        assert (part[kept:] == 0).all()


def test_half_of_the_second_texts_follow_the_first() -> None:
    ids, _, _, labels = unmasked()
    assert labels[:, 0].mean() == 0.5
    for row, follows in zip(ids, labels[:, 0], strict=True):
        end = int(np.argmax(row == SPECIAL.separator))
        same = (row[1] - 5) // 30 == (row[end + 1] - 5) // 30
        assert same == bool(follows)
        if follows:
            assert row[end + 1] == row[end - 1] + 1


def test_shares_of_masks() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 1000, (400, 100))
    ids[:, 0], ids[:, 50] = SPECIAL.first, SPECIAL.separator
    hidden, targets = mask_tokens(ids, SPECIAL, rng)
    chosen = targets != -100
    assert chosen.mean() == pytest.approx(0.15 * 0.98, abs=0.005)
    assert not chosen[:, [0, 50]].any()
    assert (hidden[~chosen] == ids[~chosen]).all()
    assert (hidden[chosen] == SPECIAL.mask).mean() == pytest.approx(0.8, abs=0.02)
    assert (hidden[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.02)


def test_every_row_has_a_mask_and_the_same_seed_gives_the_same() -> None:
    first, second = (pretraining_split("train", texts(30), SPECIAL, 24, seed=3, copies=2) for _ in range(2))
    assert first.labels is not None
    assert second.labels is not None
    assert len(first) == 60
    assert ((first.labels[:, 1:] != -100).sum(axis=1) >= 1).all()
    np.testing.assert_array_equal(first.arrays["ids"], second.arrays["ids"])
    assert (first.arrays["ids"][:30] != first.arrays["ids"][30:]).any()


def test_texts_that_are_too_short() -> None:
    with pytest.raises(DataError, match="split 'train': 0 pieces of text have 8 tokens or more at a length of 24"):
        pretraining_split("train", texts(5, length=7), SPECIAL, 24, seed=0)
    with pytest.raises(DataError, match="or a `length` from 11 on"):
        pretraining_split("train", texts(5), SPECIAL, 10, seed=0)
