from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.inputs import BenchInputs
from edgekit.bench.scenarios import library as module
from edgekit.bench.scenarios.library import make_library
from edgekit.errors import DataError, ModelError
from edgekit.specs import TensorSpec

OPEN = [TensorSpec("x", "float32", ("batch", 3)), TensorSpec("scale", "float32", ())]
FIXED = [TensorSpec("x", "float32", (4, 3))]


def test_generated_samples_differ_and_a_feed_holds_the_rows_asked_for() -> None:
    held = make_library(BenchInputs(), OPEN)
    assert held.count == 64
    feed = held.feed([5, 0])
    assert feed["x"].shape == (2, 3)
    np.testing.assert_array_equal(feed["x"][1], held.batched["x"][0])
    assert not np.array_equal(feed["x"][0], feed["x"][1])
    assert feed["scale"].shape == ()


def test_one_sample_is_no_copy() -> None:
    held = make_library(BenchInputs(), OPEN)
    one = held.feed([7])["x"]
    assert one.shape == (1, 3)
    assert np.shares_memory(one, held.batched["x"])


def test_a_fixed_batch_is_filled_up_with_the_last_sample() -> None:
    held = make_library(BenchInputs(), FIXED)
    assert (held.count, held.fill) == (64, 4)
    feed = held.feed([1, 2])["x"]
    np.testing.assert_array_equal(feed, held.batched["x"][[1, 2, 2, 2]])


def test_data_gives_its_rows() -> None:
    data = {"x": np.arange(21.0).reshape(7, 3), "scale": np.float32(2)}
    held = make_library(BenchInputs(data=data), OPEN)
    assert held.count == 7
    np.testing.assert_array_equal(held.feed([6])["x"], [[18, 19, 20]])
    assert make_library(BenchInputs(data={"x": np.ones((2, 3))}), FIXED).feed([0])["x"].shape == (4, 3)


def test_of_a_given_shape_all_but_the_batch_counts() -> None:
    specs = [TensorSpec("x", "float32", ("batch", "time"))]
    assert make_library(BenchInputs({"x": (1, 9)}), specs).feed([0, 1, 2])["x"].shape == (3, 9)
    with pytest.raises(ModelError, match="dynamic dimensions"):
        make_library(BenchInputs(), specs)


def test_large_samples_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 40)
    assert make_library(BenchInputs(), OPEN).count == 3


def test_what_has_no_batch_is_one_sample() -> None:
    held = make_library(BenchInputs(), [TensorSpec("x", "float32", ())])
    assert (held.count, held.batched) == (1, {})


def test_data_that_lacks_an_input_is_refused() -> None:
    with pytest.raises(DataError, match="data lacks input x"):
        make_library(BenchInputs(data={"y": np.ones((2, 3))}), OPEN)
