from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.inputs import BenchInputs
from edgekit.errors import DataError, ModelError
from edgekit.specs import TensorSpec

IDS = TensorSpec("input_ids", "int64", ("batch", "time"))
MASK = TensorSpec("attention_mask", "int64", ("batch", "time"))
X = TensorSpec("x", "float32", ("batch", "time", 8))
STATE = TensorSpec("h", "float32", ("layers", "batch", 4))


def test_a_batch_replaces_a_first_dimension_of_one() -> None:
    inputs = BenchInputs({"input_ids": (1, 16), "attention_mask": (1, 16)})
    assert inputs.batch([IDS, MASK]) == 1
    assert {a.shape for a in inputs.feeds([IDS, MASK], 8).values()} == {(8, 16)}


def test_a_given_shape_tells_the_batch() -> None:
    inputs = BenchInputs({"x": (3, 5, 8)})
    assert inputs.batch([X]) == 3
    assert inputs.feeds([X], 3)["x"].shape == (3, 5, 8)


def test_a_shape_and_a_batch_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ModelError, match=r"--shape x=3x5x8 has batch 3 and --batch says 4; give one of them, or 1"):
        BenchInputs({"x": (3, 5, 8)}).feeds([X], 4)


def test_a_state_with_its_layers_first_stays_as_it_was_given() -> None:
    inputs = BenchInputs({"x": (3, 5, 8), "h": (2, 3, 4)})
    assert inputs.batch([X, STATE]) == 3
    assert [a.shape for a in inputs.feeds([X, STATE], 3).values()] == [(3, 5, 8), (2, 3, 4)]


def test_ids_are_of_the_vocabulary() -> None:
    ids = BenchInputs({"input_ids": (4, 500)}, vocabularies={"input_ids": 7}).feeds([IDS], 4)["input_ids"]
    assert (ids.min(), ids.max()) == (0, 6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"dynamic dimensions: x: float32 batchxtimex8; give them, for example --shape x=1x"),
        ({"y": (1, 2, 8)}, "unknown inputs y; the model has x: float32 batchxtimex8"),
        ({"x": (1, 2, 9)}, "shape 1x2x9 does not fit input x"),
        ({"x": (1, 2)}, "shape 1x2 does not fit input x"),
        ({"x": (1, 1 << 40, 8)}, r"take 35,184,372,088,832 bytes, the largest is x as float32 1x1099511627776x8;"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        BenchInputs(shapes).feeds([X], 1)


def test_a_fixed_shape_of_terabytes_is_refused_too() -> None:
    with pytest.raises(ModelError, match=r"take 4,398,046,511,104 bytes, .* edgekit generates at most 1,073,741,824"):
        BenchInputs().feeds([TensorSpec("x", "float32", (1, 1 << 20, 1 << 20))], 1)
    with pytest.raises(ModelError, match=r"give a smaller --shape or batch"):
        BenchInputs().feeds([TensorSpec("x", "float32", ("batch", 1 << 20))], 1 << 20)


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="data of rank 1"):
        BenchInputs(data={"x": np.ones(3)}).feeds([X], 1)
    with pytest.raises(DataError, match="has no samples"):
        BenchInputs(data={"x": np.ones((0, 5, 8))}).feeds([X], 1)


def test_a_pruned_model_begins_with_an_empty_memory_of_its_own_size() -> None:
    data = {"series": np.ones((1, 5, 2), np.float32), "hidden": np.zeros((1, 1, 16), np.float32)}
    series = TensorSpec("series", "float32", ("batch", "time", 2))
    thin = TensorSpec("hidden", "float32", ("batch", 1, 8))
    feeds = BenchInputs(data=data).feeds((series, thin), 2)
    assert {name: array.shape for name, array in feeds.items()} == {"series": (2, 5, 2), "hidden": (2, 1, 8)}
    assert not feeds["hidden"].any()
