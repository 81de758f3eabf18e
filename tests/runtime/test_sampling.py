from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.runtime.sampling import Sampling

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2]))


def test_temperature_divides_the_logits() -> None:
    np.testing.assert_allclose(Sampling(temperature=1).probabilities(LOGITS), [0.1, 0.4, 0.05, 0.25, 0.2])
    squared = np.exp(2 * LOGITS)
    np.testing.assert_allclose(Sampling(temperature=0.5).probabilities(LOGITS), squared / squared.sum())


def test_top_k_keeps_the_likeliest() -> None:
    wanted = np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85
    np.testing.assert_allclose(Sampling(temperature=1, top_k=3).probabilities(LOGITS), wanted)
    np.testing.assert_allclose(Sampling(temperature=1, top_k=9).probabilities(LOGITS), np.exp(LOGITS))


@pytest.mark.parametrize(("share", "kept"), [(0.3, [1]), (0.41, [1, 3]), (0.84, [1, 3, 4]), (0.99, [0, 1, 2, 3, 4])])
def test_top_p_keeps_the_fewest_that_hold_the_share(share: float, kept: list[int]) -> None:
    found = Sampling(temperature=1, top_p=share).probabilities(LOGITS)
    assert np.flatnonzero(found).tolist() == kept
    assert found.sum() == pytest.approx(1)


def test_temperature_0_is_the_likeliest_and_a_seed_repeats() -> None:
    rng = np.random.default_rng(0)
    assert {Sampling(temperature=0).draw(LOGITS, rng) for _ in range(5)} == {1}
    first, again = ([Sampling().draw(LOGITS, r) for _ in range(50)] for r in map(np.random.default_rng, (7, 7)))
    assert first == again
    assert len(set(first)) > 1


def test_draws_follow_the_probabilities() -> None:
    rng, sampling = np.random.default_rng(0), Sampling(temperature=1)
    shares = np.bincount([sampling.draw(LOGITS, rng) for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(shares, np.exp(LOGITS), atol=0.03)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("temperature", -0.1, "temperature must be 0 or more, got -0.1"),
        ("temperature", float("nan"), "temperature must be 0 or more, got nan"),
        ("top_k", -1, "top-k must be 0"),
        ("top_p", 0.0, "top-p must lie above 0"),
        ("top_p", 1.5, "top-p must lie above 0"),
    ],
)
def test_values_out_of_range(option: str, value: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        Sampling(**{option: value})  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
