from __future__ import annotations

import torch

from edgekit.families import FAMILIES
from edgekit.tasks.steps import step_cross_entropy
from edgekit.tasks.task import TrainingBatch
from edgekit.training.trim import without_idle_columns
from tests.families.test_encoder_decoder import TASK, inputs

NAMES = ["source", "mask", "target"]
SOURCE = torch.tensor([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]])
TARGET = torch.tensor([[9, 1, 0, 0], [9, 2, 0, 0]])
LABELS = torch.tensor([[1, 8, -1, -1], [8, -1, -1, -1]])
ARRAYS = [SOURCE, (SOURCE > 0).long(), TARGET]


def test_a_batch_is_as_long_as_its_longest_sample() -> None:
    arrays, labels = without_idle_columns(NAMES, ARRAYS, LABELS)
    assert [a.shape for a in arrays] == [(2, 3), (2, 3), (2, 2)]
    assert labels.tolist() == [[1, 8], [8, -1]]
    same, all_labels = without_idle_columns(["ids", "mask"], ARRAYS[:2], LABELS)
    assert same[0] is SOURCE
    assert all_labels is LABELS


def test_the_loss_is_the_same() -> None:
    torch.manual_seed(0)
    module = FAMILIES["transformer"].make("pico", inputs(), 0, task=TASK).eval()
    losses = []
    for arrays, labels in ((ARRAYS, LABELS), without_idle_columns(NAMES, ARRAYS, LABELS)):
        losses.append(step_cross_entropy([module(*arrays)], TrainingBatch(tuple(arrays), labels)))
    torch.testing.assert_close(*losses)
