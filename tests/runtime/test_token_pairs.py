"""Texts of other pairs of tokens than calibration texts are told; those of the same are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError
from edgekit.runtime.guard import guard_statistics, look_at, read_watch
from edgekit.runtime.token_pairs import own_ids
from edgekit.specs import Array

_WORDS, _LENGTH = 500, 40


def texts(rng: np.random.Generator, count: int) -> Array:
    """A language in which 6 words can follow each: int64 (count, 40)."""
    found = np.zeros((count, _LENGTH), np.int64)
    found[:, 0] = rng.integers(0, _WORDS, count)
    for at in range(1, _LENGTH):
        found[:, at] = (7 * found[:, at - 1] + rng.integers(0, 6, count)) % _WORDS
    return found


def statistics(**more: Array) -> dict[str, Any]:
    return guard_statistics({"input_ids": texts(np.random.default_rng(0), 400), **more})


def alarms(guard: dict[str, Any], rows: Array) -> float:
    watch = read_watch(guard, "manifest.json")
    return float(np.mean([bool(look_at({"input_ids": ids}, {}, watch)) for ids in rows]))


def test_the_same_language_is_usual_and_another_is_not() -> None:
    guard, rng = statistics(), np.random.default_rng(1)
    assert alarms(guard, texts(rng, 500)) < 0.04
    assert alarms(guard, rng.integers(0, _WORDS, (200, _LENGTH))) == 1.0
    assert alarms(guard, texts(rng, 200)[:, ::-1]) > 0.98  # the same words the other way round


def test_what_is_said_of_it() -> None:
    guard, noise = statistics(), np.random.default_rng(1).integers(0, _WORDS, _LENGTH)
    (finding,) = look_at({"input_ids": noise}, {}, read_watch(guard, "manifest.json"))
    assert finding.text.startswith("the text is unlike calibration data: share of new pairs of tokens 0.")
    assert finding.refuse
    told = guard["tokens"]
    assert 0 < told["threshold_warn"] < told["threshold_error"] < 1
    assert len(told["known"]) < 20_000
    assert guard["score"] is None


def test_short_texts_are_not_judged() -> None:
    assert alarms(statistics(), np.random.default_rng(1).integers(0, _WORDS, (50, 16))) == 0.0
    few = {"input_ids": texts(np.random.default_rng(0), 19)}
    assert guard_statistics(few)["tokens"] is None
    assert guard_statistics({"input_ids": texts(np.random.default_rng(0), 50)[:, :16]})["tokens"] is None
    assert guard_statistics({"image": np.zeros((30, 4), np.float32)})["tokens"] is None


def test_what_fills_a_text_up_is_no_part_of_it() -> None:
    rng = np.random.default_rng(0)
    rows, lengths = texts(rng, 400), rng.integers(20, _LENGTH, 400)
    mask = (np.arange(_LENGTH) < lengths[:, None]).astype(np.int64)
    filled = {"input_ids": np.where(mask, rows, 499), "attention_mask": mask}
    masked = guard_statistics(filled)["tokens"]
    assert guard_statistics({"input_ids": filled["input_ids"]})["tokens"]["threshold_warn"] == pytest.approx(
        masked["threshold_warn"], abs=0.05
    )
    np.testing.assert_array_equal(
        own_ids({"ids": np.array([1, 2, 2, 2]), "mask": np.array([1, 1, 0, 0])}, "ids"), [1, 2]
    )
    np.testing.assert_array_equal(own_ids({"ids": np.array([3, 1, 0, 0, 0])}, "ids"), [3, 1, 0])
    np.testing.assert_array_equal(own_ids({"ids": np.array([0, 0])}, "ids"), [0])
    assert own_ids({"ids": np.zeros(0, np.int64)}, "ids").size == 0


@pytest.mark.parametrize("known", ["", "AAAA", "?", "A" * 684])
def test_a_damaged_entry_is_named(known: str) -> None:
    guard = statistics()
    guard["tokens"]["known"] = known
    with pytest.raises(BundleError, match=r"guard.tokens.known must be 2\^12 to 2\^20 bits in base64"):
        read_watch(guard, "manifest.json")
