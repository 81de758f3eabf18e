from __future__ import annotations

import numpy as np

from edgekit.bundle.golden import kept_outputs, raw_bytes
from edgekit.bundle.preprocessing import preprocessing_of
from edgekit.specs import TensorSpec

IDS = TensorSpec("input_ids", "int64", ("batch", "length"))
PAST = TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past_length", 4))


def test_keys_and_values_are_not_compared() -> None:
    outputs = [TensorSpec(n, "float32", ("batch",)) for n in ("logits", "present.0.key", "present.0.value")]
    assert kept_outputs([IDS, PAST], outputs) == ["logits"]
    assert kept_outputs([IDS], outputs) == ["logits", "present.0.key", "present.0.value"]
    assert kept_outputs([IDS, PAST], outputs[1:]) == ["present.0.key", "present.0.value"]


def test_raw_bytes_are_little_endian_in_c_order() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert raw_bytes(array.T) == np.array([0, 3, 1, 4, 2, 5], "<i4").tobytes()


def test_a_language_model_of_others_takes_text_too() -> None:
    metadata = {"edgekit.tokenizer": "ab" * 32, "edgekit.vocabulary": "7", "edgekit.longest": "64"}
    entry = preprocessing_of(metadata, [IDS, PAST])
    assert entry is not None
    assert (entry["kind"], entry["ids"], entry["length"], entry["vocabulary"]) == ("text", "input_ids", 64, 7)
    assert preprocessing_of({}, [IDS]) is None
