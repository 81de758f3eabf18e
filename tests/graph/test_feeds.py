from __future__ import annotations

import numpy as np
import pytest

from edgekit.graph.feeds import generate_feeds, guessed_shapes
from edgekit.specs import Array, TensorSpec


def one(name: str, dtype: str, shape: tuple[int, ...], vocabulary: int | None = None) -> Array:
    known = {} if vocabulary is None else {name: vocabulary}
    return generate_feeds([TensorSpec(name, dtype, shape)], vocabularies=known)[name]


def test_floats_are_normal() -> None:
    values = one("x", "float32", (100, 100))
    assert values.dtype == np.float32
    assert (values.mean(), values.std()) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))


@pytest.mark.parametrize(("shape", "axes"), [((2, 3, 32, 32), (2, 3)), ((2, 32, 32, 3), (1, 2))])
def test_pictures_are_smooth_wherever_their_channels_are(shape: tuple[int, ...], axes: tuple[int, int]) -> None:
    picture = one("image", "float32", shape)
    assert picture.shape == shape
    for axis in axes:
        assert np.abs(np.diff(picture, axis=axis)).mean() < 0.4 * picture.std()


def test_what_is_no_picture_is_not_smooth() -> None:
    state = one("x", "float32", (2, 12, 32, 64))
    assert np.abs(np.diff(state, axis=2)).mean() > state.std()


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_masks_are_ones(dtype: str) -> None:
    mask = one("attention_mask", dtype, (2, 5))
    assert mask.dtype == dtype
    assert (mask == 1).all()


def test_segments_are_zeros() -> None:
    assert one("token_type_ids", "int64", (2, 5)).sum() == 0


def test_ids_exist() -> None:
    assert one("input_ids", "int64", (50, 50)).max() == 99
    assert one("input_ids", "int64", (50, 50), 3).max() == 2
    assert one("input_ids", "int32", (500, 500), 30_000).max() > 29_000
    assert one("step", "int64", ()) in (0, 1)
    assert one("x", "int8", (100,), 100_000).min() >= 0


def test_the_same_seed_gives_the_same_values() -> None:
    spec = [TensorSpec("x", "float32", ("batch", 4))]
    first, second = (generate_feeds(spec, batch=3, seed=5)["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 4)


def test_positions_count_and_a_mask_covers_what_is_remembered() -> None:
    specs = (
        TensorSpec("position_ids", "int64", ("batch", "length")),
        TensorSpec("attention_mask", "int64", ("batch", "past_length + length")),
        TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past_length", 4)),
    )
    shapes = next(guessed_shapes(specs))
    assert shapes == {"position_ids": (1, 64), "attention_mask": (1, 128), "past_key_values.0.key": (1, 2, 64, 4)}
    assert generate_feeds(specs, shapes=shapes)["position_ids"].tolist() == [list(range(64))]
