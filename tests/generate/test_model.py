"""How a file is asked: its names and memory, whoever made it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.generate import SessionModel
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec

LOGITS = TensorSpec("logits", "float32", ("batch", "length", 7))


class Fake:
    """A session that keeps what it was fed, and answers with what it remembers grown by one row a token."""

    def __init__(self, *inputs: TensorSpec, outputs: tuple[str, ...] = ()) -> None:
        self.inputs = inputs
        self.outputs = (LOGITS, *(TensorSpec(name, "float32", ()) for name in outputs))
        self.fed: list[dict[str, Array]] = []

    def run(self, feeds: Feeds, outputs: list[str]) -> list[Array]:
        self.fed.append(dict(feeds))
        ids = next(v for k, v in feeds.items() if k.endswith("ids") and not k.startswith("position"))
        past = [v for k, v in feeds.items() if k.startswith("past")]
        grown = [np.zeros((1, 2, p.shape[2] + ids.shape[1], 4), np.float32) for p in past]
        states = [v + 1 for k, v in feeds.items() if k in ("hidden", "cell")]
        assert outputs == [o.name for o in self.outputs]
        return [np.zeros((1, ids.shape[1], 7), np.float32), *grown, *states]


def ids(name: str = "ids") -> TensorSpec:
    return TensorSpec(name, "int64", ("batch", "length"))


def model(fake: Fake, **options: Any) -> SessionModel:
    return SessionModel(cast(Session, fake), **options)


def test_without_a_memory_everything_is_read_again() -> None:
    fake = Fake(ids())
    asked = model(fake, longest=9)
    for part in ([1, 2, 3], [4], [5]):
        assert asked.read(part).shape == (7,)
    assert [f["ids"].tolist() for f in fake.fed] == [[[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]]]
    assert (asked.has_cache, asked.cache_bytes, asked.vocabulary, asked.longest) == (False, 0, 7, 9)


def test_hugging_faces_names() -> None:
    past = [TensorSpec(f"past_key_values.0.{k}", "float32", ("batch", 2, "past_length", 4)) for k in ("key", "value")]
    fake = Fake(
        ids("input_ids"),
        TensorSpec("attention_mask", "int64", ("batch", "past_length + length")),
        ids("position_ids"),
        *past,
        outputs=("present.0.key", "present.0.value"),
    )
    asked = model(fake)
    asked.read([1, 2, 3])
    asked.read([4])
    first, second = fake.fed
    assert first["past_key_values.0.key"].shape == (1, 2, 0, 4)
    assert second["past_key_values.0.value"].shape == (1, 2, 3, 4)
    assert second["input_ids"].tolist() == [[4]]
    assert second["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert (first["position_ids"].tolist(), second["position_ids"].tolist()) == ([[0, 1, 2]], [[3]])
    assert asked.cache_bytes == 2 * 2 * 4 * 4 * 4


def test_a_recurrent_state_begins_with_zeros() -> None:
    states = [TensorSpec(name, "float32", ("batch", 3, 5)) for name in ("hidden", "cell")]
    fake = Fake(ids(), *states, outputs=("next_hidden", "next_cell"))
    asked = model(fake)
    asked.read([1, 2])
    asked.read([3])
    assert fake.fed[0]["hidden"].shape == (1, 3, 5)
    assert not fake.fed[0]["cell"].any()
    assert (fake.fed[1]["cell"] == 1).all()
    assert fake.fed[1]["ids"].tolist() == [[3]]


@pytest.mark.parametrize(
    "fake",
    [
        Fake(TensorSpec("image", "float32", ("batch", 3, 8, 8))),
        Fake(ids(), TensorSpec("image", "float32", ("batch", 3, 8, 8))),
        Fake(ids(), TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past", 4))),
    ],
)
def test_what_cannot_be_asked(fake: Fake) -> None:
    with pytest.raises(ModelError, match="this is no language model that can generate: it takes "):
        model(fake)


def test_other_types_of_ids() -> None:
    fake = Fake(TensorSpec("input_ids", "int32", ("batch", "n")), TensorSpec("attention_mask", "int32", ("batch", "m")))
    model(fake).read([1, 2])
    assert {name: str(array.dtype) for name, array in fake.fed[0].items()} == {
        "input_ids": "int32",
        "attention_mask": "int32",
    }


def test_logits_of_a_whole_text_are_none_of_a_language_model() -> None:
    fake = Fake(ids())
    fake.outputs = (TensorSpec("logits", "float32", ("batch", 2)),)
    with pytest.raises(ModelError, match="it needs `ids`, `logits` for each token, and for each past key or value"):
        model(fake)


def test_what_is_remembered_is_found_by_its_name() -> None:
    """Tools write their outputs in any order; keys in the place of values write nonsense, and nobody knows."""
    past = [TensorSpec(f"past_key_values.0.{k}", "float32", ("batch", 2, "past", 4)) for k in ("key", "value")]
    asked = model(Fake(ids(), *past, outputs=("present.0.value", "present.0.key")))
    assert asked.tensors.present == ("present.0.key", "present.0.value")
    others = [TensorSpec(f"past_{k}_0", "float32", ("batch", 2, "past", 4)) for k in ("key", "value")]
    assert model(Fake(ids(), *others, outputs=("b", "a"))).tensors.present == ("b", "a")
    swapped = model(Fake(ids(), *others, outputs=("present_value_0", "present_key_0")))
    assert swapped.tensors.present == ("present_key_0", "present_value_0")
