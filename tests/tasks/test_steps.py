from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.errors import DataError
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.metric import summarise

METRIC = find_metric("step-accuracy")
LOGITS = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0], [1, 1, 1, 1]]]  # (2, 4, 3)


def test_right_steps_among_those_with_a_label() -> None:
    labels = np.array([[0, 1, 0, -100], [1, -1, -1, -1]])
    scores = METRIC.score([LOGITS], labels, {})
    assert scores.tolist() == [[2, 3], [1, 1]]
    assert METRIC.value(scores) == 0.75
    assert summarise(METRIC, scores).n == 2


def test_no_label_at_all_is_no_number() -> None:
    assert np.isnan(METRIC.value(METRIC.score([LOGITS], np.full((2, 4), -1), {})))


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"needs outputs \(n, time, classes\) and labels \(n, time\), got"):
        METRIC.score([LOGITS], np.zeros((2, 3), np.int64), {})
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.2 for 3 classes, or be negative .*; got 3"):
        METRIC.score([LOGITS], np.full((2, 4), 3), {})


def test_the_loss_passes_over_steps_without_a_label() -> None:
    logits, labels = torch.randn(2, 4, 3), torch.tensor([[0, 1, 0, -1], [1, -100, -1, -1]])
    loss = TASKS["step-classification"].loss([logits], TrainingBatch((), labels))
    there = labels >= 0
    wanted = functional.cross_entropy(logits[there], labels[there])
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    with pytest.raises(DataError, match="step-classification needs labels"):
        TASKS["step-classification"].loss([logits], TrainingBatch((), None))
