from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.evaluate import evaluate, scores_of
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks import TASKS, TrainingBatch, find_metric
from edgekit.tasks.sequence_to_sequence import write_greedily

BEGIN, END, PAD = 9, 0, 8
SOURCE = np.array([[1, 2, 3, 0], [4, 5, 0, 8], [6, 0, 8, 8]])
LABELS = np.array([[1, 2, 3, END], [4, 5, END, -1], [7, END, -1, -1]])
TARGET = np.array([[BEGIN, 1, 2, 3], [BEGIN, 4, 5, PAD], [BEGIN, 7, PAD, PAD]])
SPLIT = Split("test", {"source": SOURCE, "mask": (SOURCE != PAD) * 1, "target": TARGET}, LABELS)


class Copying:
    """Writes what it reads; says 5 for a 4, from the second id on also where it was told otherwise."""

    metadata: ClassVar = {"edgekit.task": "sequence-to-sequence"}
    inputs = tuple(TensorSpec(name, "int64", ("batch", "length")) for name in ("source", "mask", "target"))

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, feeds: Feeds) -> list[Array]:
        self.rows.append(len(feeds["source"]))
        written = feeds["target"].shape[1]
        ids = np.where(feeds["source"] == 4, 5, feeds["source"])[:, :written]
        return [np.eye(10, dtype=np.float32)[ids]]


def test_what_a_model_writes_itself() -> None:
    model = Copying()
    written, right = write_greedily(model.run, SPLIT.arrays, LABELS)
    assert written.tolist() == [[1, 2, 3, -1], [5, 5, -1, -1], [6, -1, -1, -1]]
    assert right.tolist() == [[1, 2, 3, -1], [4, 5, -1, -1], [7, -1, -1, -1]]
    assert model.rows == [3, 3, 2, 1]  # who has ended is not asked again


def test_metrics_of_what_it_writes_and_of_what_it_is_told() -> None:
    names = ("token-accuracy", "sequence-accuracy", "edit-distance")
    found = scores_of(Copying(), SPLIT, [find_metric(n) for n in names])
    assert list(found) == list(names)
    assert found["token-accuracy"].tolist() == [[4, 4], [2, 3], [1, 2]]
    assert found["sequence-accuracy"].tolist() == [1, 0, 0]
    assert found["edit-distance"].tolist() == [[0, 3], [1, 2], [1, 1]]
    assert evaluate(Copying(), SPLIT, find_metric("edit-distance"), batch=2).value == pytest.approx(2 / 6)


def test_the_loss_leaves_padding_out_and_smooths() -> None:
    logits, labels = torch.randn(3, 4, 10), torch.from_numpy(LABELS)
    loss = TASKS["sequence-to-sequence"].loss([logits], TrainingBatch((), labels, 0.1))
    known = torch.log_softmax(logits, dim=-1)[labels >= 0]
    one = known.gather(1, labels[labels >= 0][:, None])[:, 0]
    torch.testing.assert_close(loss, -(0.9 * one + 0.1 * known.mean(dim=1)).mean())


@pytest.mark.parametrize(
    ("feeds", "labels", "message"),
    [
        ({"source": SOURCE}, LABELS, r"needs an input 'target' of the labels' shape \(3, 4\), got none"),
        ({"target": TARGET[:, :2]}, LABELS, r"got \(3, 2\); give pairs"),
        ({"target": TARGET}, np.where(LABELS == 3, 2, LABELS)[:, :3], r"got \(3, 4\)"),
        ({"target": TARGET}, np.array([[1, 2, 3, 0], [4, 5, 6, -1], [7, 0, -1, -1]]), "they end with 0, 6"),
        ({"target": TARGET}, np.full_like(LABELS, -1), "must end with one id"),
    ],
)
def test_labels_that_are_none_of_pairs(feeds: Feeds, labels: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_greedily(Copying().run, feeds, labels)


def test_labels_beyond_the_vocabulary() -> None:
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.9 for 10 classes, .* got 12"):
        find_metric("token-accuracy").score([np.zeros((3, 4, 10))], np.where(LABELS == 7, 12, LABELS), {})
    with pytest.raises(DataError, match=r"^metric 'token-accuracy' needs outputs \(n, time, classes\)"):
        find_metric("token-accuracy").score([np.zeros((3, 10))], LABELS, {})
