from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from edgekit.errors import DataError
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.metric import summarise

RNG = np.random.default_rng(0)
IMAGE = RNG.random((5, 1, 4, 4)).astype(np.float32)
LOGITS = (3 * RNG.standard_normal((5, 1, 4, 4))).astype(np.float32)
MEAN, LOG_VARIANCE = (RNG.standard_normal((5, 3)).astype(np.float32) for _ in range(2))
OUTPUTS = [1 / (1 + np.exp(-LOGITS)), MEAN, LOG_VARIANCE, LOGITS]
FEEDS = {"noise": np.zeros((5, 3), np.float32), "image": IMAGE}


def wanted() -> np.ndarray:
    likelihood = Bernoulli(logits=torch.from_numpy(LOGITS), validate_args=False).log_prob(torch.from_numpy(IMAGE))
    q = Normal(torch.from_numpy(MEAN), torch.from_numpy(LOG_VARIANCE / 2).exp())
    divergence = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    return np.asarray(likelihood.flatten(1).sum(1) - divergence)


def test_elbo_against_torch_distributions() -> None:
    np.testing.assert_allclose(find_metric("elbo").score(OUTPUTS, np.empty(0), FEEDS), wanted(), rtol=1e-5)


def test_the_loss_is_minus_the_elbo() -> None:
    batch = TrainingBatch((torch.from_numpy(IMAGE), torch.zeros(5, 3)), None)
    loss = TASKS["reconstruction"].loss([torch.from_numpy(o) for o in OUTPUTS], batch)
    assert float(loss) == pytest.approx(-wanted().mean(), rel=1e-5)


def test_elbo_does_not_saturate() -> None:
    """A logit of 200 for a black pixel costs 200 nats; a sigmoid in float32 would give 1 - p = 0."""
    image, logits, zero = np.zeros((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 200.0, np.float32), np.zeros((1, 1))
    outputs = [np.ones_like(logits), zero, zero, logits]
    assert find_metric("elbo").score(outputs, np.empty(0), {"image": image}) == pytest.approx([-200.0])


def test_pixel_error_is_a_root_mean_square() -> None:
    metric = find_metric("pixel-error")
    value = summarise(metric, metric.score(OUTPUTS, np.empty(0), FEEDS))
    assert value.value == pytest.approx(float(np.sqrt(np.square(OUTPUTS[0] - IMAGE).mean())))
    assert value.ci95[0] < value.value < value.ci95[1]


def test_elbo_of_something_else() -> None:
    with pytest.raises(DataError) as error:
        find_metric("elbo").score(OUTPUTS[:1], np.empty(0), FEEDS)
    assert str(error.value) == (
        "metric 'elbo' needs the outputs reconstruction, mean, log_variance, logits, got 1 outputs; "
        "choose another --metric"
    )


def test_pixels_out_of_range() -> None:
    with pytest.raises(DataError, match=r"metric 'elbo' needs pixels in 0\.\.1, got 255\.\.255; scale the pictures"):
        find_metric("elbo").score(OUTPUTS, np.empty(0), {"image": np.full_like(IMAGE, 255)})


def test_no_input_of_the_outputs_shape() -> None:
    with pytest.raises(DataError, match="needs an input of the output's shape"):
        find_metric("pixel-error").score(OUTPUTS, np.empty(0), {"noise": FEEDS["noise"]})
