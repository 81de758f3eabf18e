from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quantize.observers import BINS, Observation, Range
from edgekit.errors import CompressError


def observed(*arrays: np.ndarray) -> Observation:
    seen = Observation()
    for array in arrays:
        seen.update(array.astype(np.float32))
    return seen


def rounding_error(values: np.ndarray, high: float) -> float:
    scale = high / 255
    return float(np.square(values - np.clip(np.rint(values / scale), 0, 255) * scale).mean())


def test_min_and_max_are_exact_over_all_batches() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(4, 3, 300, 300)) * k for k in (1, 5, 2)]
    seen = observed(*batches)
    assert seen.low == pytest.approx(min(b.min() for b in batches))
    assert seen.high == pytest.approx(max(b.max() for b in batches))


def test_growing_range_merges_bins_and_loses_no_count() -> None:
    seen = observed(np.linspace(-0.9, 0.9, 1000), np.linspace(-70, 70, 1000))
    assert seen.limit == 128
    assert seen.counts.sum() == 2000
    assert len(seen.counts) == BINS
    inside = np.abs(seen.centres) <= 1
    assert seen.counts[inside].sum() == pytest.approx(1000 + 1000 / 70, abs=15)


def test_zero_is_always_inside() -> None:
    assert observed(np.array([3.0, 4.0])).range("minmax") == Range(0.0, 4.0)
    assert observed(np.zeros(5)).range("mse") == Range(0.0, 0.0)


def test_percentile_matches_numpy() -> None:
    values = np.random.default_rng(1).normal(size=60_000)
    found = observed(values).range("percentile", percentile=99.0)
    assert found.high == pytest.approx(np.percentile(values, 99), abs=0.01)
    assert found.low == pytest.approx(np.percentile(values, 1), abs=0.01)


@pytest.mark.parametrize("outlier", [1.0, 5.0, 20.0])
def test_mse_matches_a_search_over_the_values_themselves(outlier: float) -> None:
    values = np.append(np.random.default_rng(2).exponential(size=50_000), [outlier * 8]).astype(np.float32)
    best = min(rounding_error(values, high) for high in np.linspace(0.01, 1, 400) * values.max())
    assert rounding_error(values, observed(values).range("mse").high) <= 1.05 * best


def test_entropy_clips_an_outlier_and_keeps_a_uniform_range() -> None:
    rng = np.random.default_rng(3)
    uniform = observed(rng.uniform(0, 1, 60_000)).range("entropy")
    spiked = observed(np.append(rng.exponential(size=60_000), [500.0])).range("entropy")
    assert uniform.high > 0.9
    assert 3 < spiked.high < 100


def test_symmetric_range_has_zero_in_its_middle() -> None:
    found = observed(np.random.default_rng(4).normal(size=10_000) + 1).range("mse", symmetric=True)
    assert found.high > 0
    assert -found.low <= found.high


def test_values_that_are_not_finite_or_reach_the_float_limits_are_marked() -> None:
    assert not observed(np.array([1.0, np.inf])).range("mse").finite
    assert not observed(np.array([np.nan, 1.0]), np.array([1.0])).range("mse").finite
    assert not observed(np.array([-3.4e38, 1.0])).range("percentile").finite
    assert observed(np.array([-5.0, 1.0])).range("minmax").finite


def test_channel_peaks_and_means() -> None:
    values = np.random.default_rng(5).normal(size=(6, 4, 5, 5)) * np.array([1, 10, 0.1, 3]).reshape(1, 4, 1, 1)
    seen = observed(values[:2], values[2:])
    np.testing.assert_allclose(seen.channel_peak, np.abs(values).max(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(seen.channel_mean, values.mean(axis=(0, 2, 3)), atol=1e-5)


def test_an_axis_that_changes_its_length_has_no_channels() -> None:
    assert observed(np.ones((1, 3, 2)), np.ones((1, 4, 2))).channel_peak.size == 0


def test_json_round_trip() -> None:
    import json

    seen = observed(np.random.default_rng(6).normal(size=(8, 3, 7, 7)))
    back = Observation.from_json(json.loads(json.dumps(seen.to_json())))
    assert back.range("mse") == seen.range("mse")
    np.testing.assert_array_equal(back.counts, seen.counts)
    np.testing.assert_array_equal(back.channel_mean, seen.channel_mean)


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(CompressError, match="did you mean 'entropy'"):
        observed(np.ones(3)).range("entropie")  # type: ignore[arg-type]


def test_what_readers_cannot_tell_apart_takes_no_room() -> None:
    seen = observed(np.r_[np.linspace(-40, 0, 4000), np.linspace(0, 5, 4000)])
    raised = seen.above(-3.0)
    assert raised.low == -3.0
    assert raised.counts.sum() == seen.counts.sum()
    assert raised.range("mse").low == pytest.approx(-3, abs=0.05)
    assert raised.range("minmax") == Range(-3.0, 5.0)
    assert seen.above(-50.0) is seen
    assert seen.low == -40
