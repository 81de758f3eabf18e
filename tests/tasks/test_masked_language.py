from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.errors import DataError
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.metric import summarise

# Two texts of three tokens from four: the first has two masked tokens, the second one.
LABELS = np.array([[1, -100, 2, 3], [0, 2, -100, -100]])
TOKENS = np.zeros((2, 3, 4), np.float32)
TOKENS[0, 1, 2] = TOKENS[0, 2, 0] = TOKENS[1, 0, 2] = 5.0  # right, wrong, right
FOLLOWS = np.array([[0.0, 2.0], [0.0, 2.0]], np.float32)  # right, wrong


@pytest.mark.parametrize(
    ("name", "value"),
    [("masked-accuracy", 2 / 3), ("unigram-accuracy", 2 / 3), ("next-sentence-accuracy", 0.5)],
)
def test_metrics(name: str, value: float) -> None:
    metric = find_metric(name)
    found = summarise(metric, metric.score([TOKENS, FOLLOWS], LABELS, {}))
    assert found.value == pytest.approx(value)


def test_texts_weigh_by_their_masked_tokens() -> None:
    metric = find_metric("masked-accuracy")
    assert metric.score([TOKENS, FOLLOWS], LABELS, {}).tolist() == [[1.0, 2.0], [1.0, 1.0]]


def test_the_loss_is_that_of_the_masked_tokens_and_of_the_next_sentence() -> None:
    batch = TrainingBatch((), torch.from_numpy(LABELS))
    loss = TASKS["masked-language-modelling"].loss([torch.from_numpy(TOKENS), torch.from_numpy(FOLLOWS)], batch)
    right, wrong = np.log(np.exp(5) + 3) - 5, np.log(np.exp(5) + 3)
    pair = np.log(np.exp(2) + 1)
    assert float(loss) == pytest.approx((2 * right + wrong) / 3 + (2 * pair - 2) / 2, abs=1e-5)


def test_outputs_and_labels_that_do_not_fit() -> None:
    metric = find_metric("masked-accuracy")
    with pytest.raises(DataError, match=r"needs logits \(n, length, vocabulary\) and labels \(n, 1 \+ length\)"):
        metric.score([TOKENS[:, 0]], LABELS, {})
    with pytest.raises(DataError, match=r"ids must lie in 0\.\.1 for a vocabulary of 2, got 3; take the tokenizer"):
        metric.score([TOKENS[:, :, :2]], LABELS, {})
    with pytest.raises(DataError, match=r"needs a second output \(n, 2\)"):
        find_metric("next-sentence-accuracy").score([TOKENS], LABELS, {})
