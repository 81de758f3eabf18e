from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.errors import DataError
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.metric import summarise

RNG = np.random.default_rng(0)
LOGITS, IDS = RNG.standard_normal((6, 5, 7)) * 3, RNG.integers(0, 7, (6, 5))
FEEDS = {"ids": IDS}
NOTHING = np.empty(0)


def test_the_loss_is_the_logarithm_of_perplexity() -> None:
    batch = TrainingBatch((torch.from_numpy(IDS),), None)
    loss = float(TASKS["language-modelling"].loss([torch.from_numpy(LOGITS)], batch))
    metric = find_metric("perplexity")
    assert summarise(metric, metric.score([LOGITS], NOTHING, FEEDS)).value == pytest.approx(np.exp(loss))


def test_bits_per_character_against_numpy() -> None:
    """All bits over all characters, not the mean of the windows' ratios."""
    metric, characters = find_metric("bits-per-character"), np.array([4, 9, 1, 30, 2, 12])
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities[:, :-1], IDS[:, 1:, None], -1)
    value = summarise(metric, metric.score([LOGITS], characters, FEEDS))
    assert value.value == pytest.approx(float(-np.log2(chosen).sum() / 58))
    assert (value.unit, value.higher_is_better, value.n) == ("bits", False, 6)


def test_the_same_text_costs_the_same_whatever_the_tokens_are() -> None:
    """Uniform over 4 tokens of 2 characters is 1 bit a character, as uniform over 2 tokens of 1 character is."""
    metric = find_metric("bits-per-character")
    coarse = metric.score([np.zeros((2, 5, 4))], np.array([8, 8]), {"ids": np.ones((2, 5), np.int64)})
    fine = metric.score([np.zeros((2, 9, 2))], np.array([8, 8]), {"ids": np.ones((2, 9), np.int64)})
    assert metric.value(coarse) == metric.value(fine) == pytest.approx(1.0)


def test_a_large_vocabulary_is_scored_in_parts() -> None:
    logits, ids = RNG.standard_normal((5, 9, 300_000)).astype(np.float32), RNG.integers(0, 300_000, (5, 9))
    found = find_metric("perplexity").score([logits], NOTHING, {"ids": ids})
    wanted = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[3, :-1]).double(), torch.from_numpy(ids[3, 1:]), reduction="mean"
    )
    assert found[3] == pytest.approx(float(wanted), rel=1e-6)


def test_token_agreement_counts_positions() -> None:
    other = LOGITS.copy()
    other[0, :2] = -other[0, :2]  # the likeliest becomes the unlikeliest
    metric = find_metric("token-agreement")
    scores = metric.score([other], LOGITS, FEEDS)
    assert scores.tolist() == pytest.approx([0.6, 1, 1, 1, 1, 1])
    assert summarise(metric, scores).value == pytest.approx(28 / 30)


def test_kl_against_torch() -> None:
    other = LOGITS + RNG.standard_normal(LOGITS.shape)
    ours, theirs = (torch.from_numpy(x).log_softmax(-1) for x in (other, LOGITS))
    wanted = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1).mean(1)
    np.testing.assert_allclose(find_metric("kl").score([other], LOGITS, FEEDS), wanted, rtol=1e-9)
    np.testing.assert_allclose(find_metric("kl").score([LOGITS], LOGITS, FEEDS), 0, atol=1e-12)


@pytest.mark.parametrize("ids", [np.full((6, 5), 7), np.full((6, 5), -1)])
def test_ids_outside_the_vocabulary(ids: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^ids must lie in 0\.\.6 for a vocabulary of 7, got .*; take the tokenizer"):
        find_metric("perplexity").score([LOGITS], NOTHING, {"ids": ids})


def test_ids_are_found_by_name_wherever_they_stand() -> None:
    metric = find_metric("perplexity")
    first = metric.score([LOGITS], NOTHING, FEEDS)
    for name in ("ids", "input_ids"):
        feeds = {"attention_mask": np.ones_like(IDS), name: IDS}
        np.testing.assert_array_equal(metric.score([LOGITS], NOTHING, feeds), first)


def test_what_does_not_fit() -> None:
    with pytest.raises(DataError, match=r"needs logits for each of the ids \(6, 4\), got \(6, 5, 7\)"):
        find_metric("perplexity").score([LOGITS], NOTHING, {"ids": IDS[:, :4]})
    with pytest.raises(DataError, match=r"needs labels of shape \(n,\), the number of characters"):
        find_metric("bits-per-character").score([LOGITS], IDS, FEEDS)
    with pytest.raises(DataError, match=r"'kl' compares logits with those of the original, got \(6, 5, 7\) for"):
        find_metric("kl").score([LOGITS], LOGITS[:, :, :6], FEEDS)
