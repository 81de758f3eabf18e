from __future__ import annotations

import numpy as np

from edgekit.data.split import Split
from edgekit.data.text.named import named_for, our_task
from edgekit.specs import TensorSpec

IDS = np.arange(8, dtype=np.int64).reshape(2, 4)
MASK = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])


def wanted(*names: str) -> list[TensorSpec]:
    return [TensorSpec(name, "int64", ("batch", "length")) for name in names]


def test_our_names_stay() -> None:
    split = Split("test", {"ids": IDS, "mask": MASK}, np.array([0, 1]))
    assert named_for(split, wanted("ids", "mask")).arrays == split.arrays
    assert list(named_for(split, []).arrays) == ["ids", "mask"]


def test_their_names_and_what_follows_from_the_ids() -> None:
    inputs = wanted("input_ids", "attention_mask", "position_ids", "token_type_ids")
    made = named_for(Split("test", {"ids": IDS}), inputs).matched(inputs).arrays
    assert made["input_ids"] is IDS
    assert made["attention_mask"].tolist() == [[1] * 4] * 2
    assert made["position_ids"].tolist() == [[0, 1, 2, 3]] * 2
    assert made["token_type_ids"].tolist() == [[0] * 4] * 2


def test_a_mask_is_kept_and_positions_follow_it() -> None:
    inputs = wanted("input_ids", "attention_mask", "position_ids")
    made = named_for(Split("test", {"ids": IDS, "mask": MASK}), inputs).arrays
    assert made["attention_mask"] is MASK
    assert made["position_ids"].tolist() == [[0, 1, 2, 2], [0, 1, 2, 3]]
    assert list(named_for(Split("test", {"ids": IDS, "mask": MASK}), wanted("input_ids")).arrays) == [
        "input_ids",
        "mask",
    ]


def test_a_cache_of_a_model_of_theirs_is_empty() -> None:
    past = TensorSpec("past_key_values.0.key", "float32", ("batch", 3, "past_length", 8))
    inputs = [*wanted("input_ids", "attention_mask"), past]
    made = named_for(Split("test", {"ids": IDS}), inputs).matched(inputs).arrays
    assert made["past_key_values.0.key"].shape == (2, 3, 0, 8)


def test_tasks() -> None:
    assert our_task("text-generation") == "language-modelling"
    assert our_task("text-classification") == "classification"
    assert our_task("regression") == "regression"
