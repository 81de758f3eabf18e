from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from edgekit.errors import DataError
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.generation import frechet_distance, precision, recall
from edgekit.tasks.metric import summarise

RNG = np.random.default_rng(0)


def scores(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.concatenate([made, real], axis=1)


def by_scipy(made: np.ndarray, real: np.ndarray) -> float:
    a, b = np.cov(made, rowvar=False), np.cov(real, rowvar=False)
    apart = np.square(made.mean(0) - real.mean(0)).sum()
    return float(apart + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real))


def test_frechet_against_scipy() -> None:
    made = RNG.standard_normal((400, 6)) @ RNG.standard_normal((6, 6)) + 1
    real = RNG.standard_normal((400, 6)) @ RNG.standard_normal((6, 6))
    assert frechet_distance(scores(made, real)) == pytest.approx(by_scipy(made, real), rel=1e-9)


def test_frechet_of_known_gaussians() -> None:
    """Means 3 apart, deviations 2 and 1 in one of two dimensions: 9 + (2 - 1)^2."""
    x = RNG.standard_normal((200_000, 2))
    assert frechet_distance(scores(x * [2, 1] + [0, 3], x)) == pytest.approx(10, rel=0.01)


def test_frechet_of_the_same_pictures_is_nothing() -> None:
    x = RNG.standard_normal((50, 8))
    assert frechet_distance(scores(x, x)) == pytest.approx(0, abs=1e-9)


def test_frechet_with_fewer_samples_than_features() -> None:
    made, real = RNG.standard_normal((10, 30)), RNG.standard_normal((10, 30)) + 1
    assert frechet_distance(scores(made, real)) == pytest.approx(by_scipy(made, real), rel=1e-4)


def test_frechet_of_one_sample_is_not_known() -> None:
    assert np.isnan(frechet_distance(np.ones((1, 4))))


def test_frechet_has_an_interval() -> None:
    value = summarise(find_metric("frechet"), RNG.standard_normal((500, 8)))
    assert value.ci95[0] < value.value < value.ci95[1]
    assert value.n == 500


def test_precision_and_recall_of_the_same_cloud() -> None:
    x = RNG.standard_normal((300, 4))
    assert precision(scores(x, x)) == recall(scores(x, x)) == 1.0


def test_precision_and_recall_of_clouds_apart() -> None:
    x = RNG.standard_normal((300, 4))
    assert precision(scores(x + 100, x)) == recall(scores(x + 100, x)) == 0.0


def test_a_generator_that_knows_one_of_two_modes_is_precise_but_covers_half() -> None:
    real = RNG.standard_normal((400, 4))
    real[200:] += 100
    made = RNG.standard_normal((400, 4))
    assert precision(scores(made, real)) > 0.7
    assert 0.3 < recall(scores(made, real)) <= 0.5


def test_a_generator_that_also_makes_nonsense_covers_all_but_is_not_precise() -> None:
    real = RNG.standard_normal((400, 4))
    made = RNG.standard_normal((400, 4))
    made[200:] += 100
    assert 0.3 < precision(scores(made, real)) <= 0.5
    assert recall(scores(made, real)) > 0.7


def test_few_samples_are_no_error() -> None:
    assert precision(scores(np.zeros((1, 2)), np.zeros((1, 2)))) == 1.0


def test_without_a_judge() -> None:
    with pytest.raises(DataError, match="this metric needs a judge, a classifier of a named data set; name"):
        find_metric("frechet").score([np.zeros((1, 1, 8, 8))], np.empty(0), {})


def test_the_generators_loss() -> None:
    told = torch.tensor([[0.0], [2.0]])
    assert float(TASKS["generation"].loss([told], TrainingBatch((), None))) == -1.0
