from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import load_split
from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.evaluate import evaluate, paired_drop, scores
from edgekit.ort import Session
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks import find_metric

TOP1 = find_metric("top1")


@dataclass(frozen=True)
class Linear:
    """x (n, 4) -> x @ weight (4, k)."""

    weight: Array
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", ("batch", 4)),)

    def run(self, feeds: Feeds) -> list[Array]:
        return [feeds["x"] @ self.weight]


RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((4, 3)).astype(np.float32)
X = RNG.standard_normal((150, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 150)


def test_a_metric_against_numpy_over_several_batches() -> None:
    value = evaluate(Linear(WEIGHT), Split("s", {"x": X}, LABELS), TOP1, batch=64)
    assert value.value == pytest.approx(((X @ WEIGHT).argmax(1) == LABELS).mean())
    assert value.n == 150


def test_the_batch_size_changes_nothing() -> None:
    split = Split("s", {"x": X}, LABELS)
    np.testing.assert_array_equal(scores(Linear(WEIGHT), split, TOP1), scores(Linear(WEIGHT), split, TOP1, batch=7))


def test_padding_of_a_fixed_batch_is_not_counted() -> None:
    fixed = Linear(WEIGHT, (TensorSpec("x", "float32", (64, 4)),))
    assert evaluate(fixed, Split("s", {"x": X}, LABELS), TOP1).n == 150


def test_labels_missing() -> None:
    with pytest.raises(DataError) as error:
        evaluate(Linear(WEIGHT), Split("s", {"x": X}), TOP1)
    assert str(error.value) == "data 's' has no labels, and metric 'top1' needs them; add an array `labels`"


def test_torch_and_onnx_get_the_same_score(pico_cnn: Path, pico_onnx: Path) -> None:
    from edgekit.training.checkpoint import load_checkpoint

    split = load_split("digits", "test")
    torch_scores, onnx_scores = scores(load_checkpoint(pico_cnn), split, TOP1), scores(Session(pico_onnx), split, TOP1)
    np.testing.assert_array_equal(torch_scores, onnx_scores)
    assert onnx_scores.shape == (360,)


def test_paired_drop_against_numpy() -> None:
    before, after = RNG.integers(0, 2, 500).astype(float), RNG.integers(0, 2, 500).astype(float)
    drop = paired_drop(TOP1, before, after)
    difference = before - after
    half = 1.96 * difference.std(ddof=1) / np.sqrt(500)
    assert drop.value == pytest.approx(difference.mean())
    assert drop.ci95 == (
        pytest.approx(difference.mean() - half, rel=1e-3),
        pytest.approx(difference.mean() + half, rel=1e-3),
    )


def test_paired_drop_of_equal_scores_is_exactly_nothing() -> None:
    same = np.ones(10)
    assert paired_drop(TOP1, same, same).as_dict() == {"value": 0.0, "ci95": (0.0, 0.0), "n": 10}
