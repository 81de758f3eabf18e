from __future__ import annotations

import numpy as np
import pytest

from edgekit.pictures.outcomes import changed, confusion, fold, most_confused, outcomes, reliability
from edgekit.tasks.classification import CALIBRATION_ERROR


def answers(labels: np.ndarray, predicted: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """What a model said: float64 (n, 3)."""
    return np.stack([np.full(len(labels), confidence), labels == predicted, predicted], axis=1)


def test_confusion_counts_true_rows_and_predicted_columns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    wanted = [[int(((labels == i) & (predicted == j)).sum()) for j in range(5)] for i in range(5)]
    assert confusion(labels, predicted, 5).tolist() == wanted


def test_many_classes_are_folded_into_those_with_the_most_mistakes() -> None:
    labels = np.repeat(np.arange(40), 10)
    predicted = labels.copy()
    predicted[70:76] = 3  # six of class 7 taken for class 3
    counts = confusion(labels, predicted, 40)
    kept = most_confused([counts])
    assert len(kept) == 20
    assert {3, 7} <= set(kept)
    assert kept == sorted(kept)
    folded = fold(counts, kept)
    assert folded.shape == (21, 21)
    assert folded.sum() == 400
    assert folded[kept.index(7), kept.index(3)] == 6
    assert folded[20, 20] == 200
    assert most_confused([counts[:30, :30]]) == list(range(30))


def test_reliability_is_accuracy_against_confidence_and_agrees_with_the_metric() -> None:
    rng = np.random.default_rng(1)
    logits = 3 * rng.standard_normal((500, 4))
    labels = rng.integers(0, 4, 500)
    scores = CALIBRATION_ERROR.score([logits], labels, {})
    found = reliability(scores)
    assert found["error"] == pytest.approx(CALIBRATION_ERROR.value(scores))
    assert sum(found["count"]) == 500
    last = scores[scores[:, 0] >= 14 / 15]
    assert found["count"][-1] == len(last)
    assert found["confidence"][-1] == pytest.approx(last[:, 0].mean())
    assert found["accuracy"][-1] == pytest.approx(last[:, 1].mean())
    assert found["accuracy"][0] is None  # nobody is less sure than chance
    bins = zip(found["count"], found["confidence"], found["accuracy"], strict=True)
    gaps = [count * abs(sure - right) for count, sure, right in bins if count]
    assert found["error"] == pytest.approx(sum(gaps) / 500)


def test_what_compression_changed_is_counted_by_direction() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    before, after = np.array([0, 1, 1, 2, 0]), np.array([1, 0, 1, 0, 0])
    found = changed(answers(labels, before), answers(labels, after))
    assert found == {"right_to_wrong": 1, "wrong_to_right": 1, "wrong_to_wrong": 1}


def test_outcomes_show_the_base_and_the_variant_and_know_every_model_by_class() -> None:
    labels = np.array([0, 0, 1, 1])
    said = {"base": np.array([0, 0, 1, 1]), "int8": np.array([0, 1, 1, 1]), "int4": np.array([1, 1, 1, 1])}
    found = outcomes(labels, {n: answers(labels, p) for n, p in said.items()}, ("a", "b"), ["int8"])
    assert found["confusion"] == {"base": [[2, 0], [0, 2]], "int8": [[1, 1], [0, 2]]}
    assert found["by_class"] == {
        "classes": ["a", "b"],
        "n": [2, 2],
        "right": {"base": [2, 2], "int8": [1, 2], "int4": [0, 2]},
    }
    assert found["changed"]["int8"]["right_to_wrong"] == 1
    assert list(found["reliability"]) == ["base", "int8", "int4"]
    assert found["n"] == 4
