from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.tasks import METRICS, TASKS, TrainingBatch, find_metric
from edgekit.tasks.metric import jackknife, summarise

RNG = np.random.default_rng(0)


def test_tasks_name_a_metric_that_is_there() -> None:
    assert all(task.metric in METRICS for task in TASKS.values())


def test_cross_entropy_against_numpy() -> None:
    import torch

    logits, labels = RNG.standard_normal((5, 3)).astype(np.float32), np.array([0, 2, 1, 1, 0])
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    wanted = -np.log(shifted[np.arange(5), labels] / shifted.sum(1)).mean()
    batch = TrainingBatch((), torch.from_numpy(labels))
    loss = TASKS["classification"].loss([torch.from_numpy(logits)], batch)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_top1() -> None:
    logits = np.array([[1, 2], [3, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(find_metric("top1").score([logits], np.array([1, 1, 1]), {}), [1, 0, 1])


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (np.ones((3, 4, 2)), [0, 1, 1], "needs outputs of shape (n, classes), got (3, 4, 2); choose another --metric"),
        (np.ones((3, 2)), [0, 1], "needs one label a sample, got labels (2,) for outputs (3, 2)"),
        (np.ones((3, 2)), [[0], [1], [1]], "needs one label a sample, got labels (3, 1) for outputs (3, 2)"),
        (np.ones((3, 2)), [0, 1, 2], "labels must lie in 0..1 for 2 classes, got 2 (1 of 3 are no class); mend"),
        (np.ones((3, 2)), [-1, 1, 1], "labels must lie in 0..1 for 2 classes, got -1 (1 of 3 are no class); mend"),
        (np.ones((3, 2)), [0, 0.5, 1], "labels must lie in 0..1 for 2 classes, got 0.5 (1 of 3 are no class); mend"),
    ],
)
def test_top1_refuses_what_does_not_fit(outputs: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        find_metric("top1").score([outputs], np.array(labels), {})
    assert message in str(error.value)


def test_rmse_against_numpy() -> None:
    got, wanted = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 3))
    value = summarise(find_metric("rmse"), find_metric("rmse").score([got], wanted, {}))
    assert value.value == pytest.approx(np.sqrt(((got - wanted) ** 2).mean()))
    assert not value.higher_is_better
    assert value.ci95[0] <= value.value <= value.ci95[1]


def test_rmse_refuses_another_shape() -> None:
    with pytest.raises(DataError, match="'rmse' needs labels of the outputs' shape, got \\(2, 4\\) for \\(2, 3\\)"):
        find_metric("rmse").score([np.ones((2, 3))], np.ones((2, 4)), {})


def test_perplexity_of_uniform_logits_is_the_vocabulary() -> None:
    metric = find_metric("perplexity")
    scores = metric.score([np.zeros((2, 5, 17), np.float32)], np.empty(0), {"ids": np.ones((2, 5), np.int64)})
    assert summarise(metric, scores).value == pytest.approx(17)


def test_perplexity_against_numpy() -> None:
    logits, ids = RNG.standard_normal((2, 4, 5)) * 50, RNG.integers(0, 5, (2, 4))
    nll = [-(logits[s, t] - np.logaddexp.reduce(logits[s, t]))[ids[s, t + 1]] for s in range(2) for t in range(3)]
    metric = find_metric("perplexity")
    value = summarise(metric, metric.score([logits], np.empty(0), {"ids": ids}))
    assert value.value == pytest.approx(np.exp(np.mean(nll)))


def test_perplexity_refuses_two_dimensions() -> None:
    with pytest.raises(DataError, match="needs outputs of shape \\(n, length, vocabulary\\), got \\(2, 3\\)"):
        find_metric("perplexity").score([np.ones((2, 3))], np.empty(0), {"ids": np.ones((2, 3), int)})


def test_wilson_interval_against_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263 has the Wilson interval 0.2553 to 0.3662."""
    value = summarise(find_metric("top1"), np.array([1.0] * 81 + [0.0] * 182))
    assert value.n == 263
    assert value.ci95 == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


def test_intervals_at_the_ends() -> None:
    metric = find_metric("top1")
    assert summarise(metric, np.ones(10)).ci95[1] == pytest.approx(1.0)
    assert summarise(metric, np.zeros(10)).ci95[0] == pytest.approx(0.0)


def test_no_samples() -> None:
    with pytest.raises(DataError, match="metric 'top1' has no samples to work on"):
        summarise(find_metric("top1"), np.empty(0))


def test_unknown_metric_gives_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown metric 'top5'; did you mean 'top1'\? allowed: bits-per-char"):
        find_metric("top5")


def test_calibration_error_against_numbers_worked_out_by_hand() -> None:
    """Two answers at 0.9 confidence, one right: |0.9 - 0.5| of half the samples; two at 0.6, both right: 0.4."""
    metric = find_metric("calibration-error")
    logits = [np.log([p, 1 - p]) for p in (0.9, 0.9, 0.6, 0.6)]
    scores = metric.score([np.array(logits)], np.array([0, 1, 0, 0]), {})
    assert metric.value(scores) == pytest.approx(0.4)


def test_r2_against_numpy() -> None:
    got, wanted = RNG.standard_normal((40, 2)), RNG.standard_normal((40, 2)) + 3
    metric = find_metric("r2")
    spread = np.square(wanted - wanted.mean(0)).sum()
    value = summarise(metric, metric.score([got], wanted, {}))
    assert value.value == pytest.approx(1 - np.square(got - wanted).sum() / spread)
    assert value.ci95[0] < value.value < value.ci95[1]
    assert metric.value(metric.score([wanted], wanted, {})) == 1.0


def test_jackknife_of_a_mean_is_students_interval() -> None:
    """With as many samples as groups it is the textbook's interval of a mean: t(19) = 2.093."""
    values = RNG.standard_normal(20)
    wanted = 2.093 * values.std(ddof=1) / np.sqrt(20)
    assert jackknife(lambda kept: float(values[kept].mean()), 20) == pytest.approx(wanted, rel=1e-3)
    assert jackknife(lambda kept: 0.0, 1) == float("inf")


def test_jackknife_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        values = rng.standard_normal(100)
        half = jackknife(lambda kept: float(np.log(values[kept].var())), 100)  # noqa: B023
        hits += abs(float(np.log(values.var(ddof=1)))) <= half
    assert 0.91 <= hits / 400 <= 0.98


def test_drop_has_the_metrics_direction() -> None:
    assert find_metric("top1").drop(0.9, 0.8) == pytest.approx(0.1)
    assert find_metric("rmse").drop(0.9, 0.8) == pytest.approx(-0.1)
