from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quantize.rounding import best_scale, choose_axes, round_on_data, round_to

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_uneven_channels_get_their_own_scales_and_even_ones_share_one():
    uneven = floats(64, 64) * np.logspace(0, 3, 64, dtype=np.float32)[:, None]
    assert choose_axes(uneven) == (0,)
    assert choose_axes(uneven.T) == (1,)
    assert choose_axes(np.ones((64, 64), np.float32)) == ()
    assert choose_axes(np.stack([uneven, uneven])) in ((1,), (0, 1))


@pytest.mark.parametrize("bits", [7, 8, 16])
def test_the_error_is_at_most_half_a_step_where_nothing_is_clipped(bits):
    weight = floats(8, 32)
    scale = np.abs(weight).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    q = round_to(weight, scale, bits)
    assert q.dtype == (np.int8 if bits <= 8 else np.int16)
    assert np.abs(q.astype(int)).max() == 2 ** (bits - 1) - 1
    assert (np.abs(q * scale - weight) <= 0.5001 * scale).all()


def test_the_scale_of_least_error_is_never_worse_than_the_largest_value_and_float16_holds_it():
    weight = np.random.default_rng(0).standard_t(2, (16, 256)).astype(np.float32)
    plain = np.abs(weight).max(axis=1, keepdims=True) / 127
    best = best_scale(weight, (0,))
    assert best.shape == (16, 1)
    assert np.array_equal(best, best.astype(np.float16).astype(np.float32))
    error, plain_error = (np.square(round_to(weight, s) * s - weight).sum() for s in (best, plain))
    assert error <= plain_error * 1.001


def test_a_channel_of_zeros_and_an_empty_weight_have_a_scale():
    assert (best_scale(np.zeros((4, 8), np.float32), (0,)) > 0).all()
    assert round_to(np.zeros((0, 8), np.float32), np.ones((1, 1), np.float32)).shape == (0, 8)


def test_rounding_on_data_loses_less_on_that_data():
    x = floats(2000, 8) @ floats(8, 160) + 0.01 * floats(2000, 160)  # correlated, more than one block wide
    weight = floats(24, 160)
    scale = best_scale(weight, (0,))
    moments = (x.T @ x / len(x)).astype(np.float64)
    nearest, on_data = round_to(weight, scale), round_on_data(weight, scale, moments)
    lost = [np.square(x @ (q * scale - weight).T).mean() for q in (nearest, on_data)]
    assert lost[1] < 0.2 * lost[0]


def test_data_that_says_nothing_rounds_to_the_nearest():
    weight = floats(4, 8)
    scale = best_scale(weight, (0,))
    np.testing.assert_array_equal(round_on_data(weight, scale, np.zeros((8, 8))), round_to(weight, scale))
