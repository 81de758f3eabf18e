from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError, InputError
from edgekit.runtime import load
from edgekit.runtime.guard import energy_of, guard_statistics, look_at, moments_of, read_watch
from tests.runtime.bundles import logits_of, manifest, write_bundle

RNG = np.random.default_rng(0)


def smooth(count: int) -> np.ndarray[Any, Any]:
    """Pictures of four grey squares and a little noise: float32 (n, 1, 8, 8)."""
    squares = RNG.standard_normal((count, 1, 2, 2)).repeat(4, axis=-1).repeat(4, axis=-2)
    return (squares + 0.05 * RNG.standard_normal((count, 1, 8, 8))).astype(np.float32)


SEEN = smooth(400)
STATISTICS = guard_statistics({"image": SEEN}, {"logits": logits_of(SEEN)}, "logits")
WATCH = read_watch(STATISTICS, "manifest.json")


def noticed(samples: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Shares of the samples that are warned of, and that are refused."""
    found = [look_at({"image": s}, {"logits": logits_of(s[None])[0]}, WATCH) for s in samples]
    return float(np.mean([bool(f) for f in found])), float(np.mean([any(x.refuse for x in f) for f in found]))


def test_statistics_are_json_and_say_what_was_seen() -> None:
    again = json.loads(json.dumps(STATISTICS))
    assert again == STATISTICS
    assert again["inputs"]["image"] == {"low": float(SEEN.min()), "high": float(SEEN.max())}
    told = again["score"]["inputs"]["image"]
    np.testing.assert_allclose(told["mean"], np.mean([moments_of(s) for s in SEEN], axis=0))
    assert told["threshold_warn"] < told["threshold_error"]


def test_moments_are_those_of_numpy() -> None:
    sample = RNG.standard_normal((1, 5, 7)).astype(np.float32)
    wide = sample.astype(np.float64)
    steps = [np.abs(np.diff(wide, axis=axis)).mean() for axis in (-1, -2)]
    np.testing.assert_allclose(moments_of(sample), [wide.mean(), wide.std(), *steps])
    assert moments_of(np.array([1.0, 3.0])).tolist() == [2.0, 1.0, 2.0, 0.0]


def test_energy_is_minus_log_sum_exp() -> None:
    logits = RNG.standard_normal((3, 10))
    np.testing.assert_allclose(energy_of(logits), -np.log(np.exp(logits).sum(axis=1)))
    assert energy_of(np.array([1e4, 0.0])) == -1e4


def test_what_is_alike_passes_and_what_is_not_is_noticed() -> None:
    warned, refused = noticed(smooth(400))
    assert warned < 0.06
    assert refused == 0.0
    noise = RNG.standard_normal((50, 1, 8, 8)).astype(np.float32) * SEEN.std()
    assert noticed(noise) == (1.0, 1.0)
    assert noticed(100 * SEEN[:50])[1] > 0.9
    assert noticed(np.full((1, 1, 8, 8), SEEN.max(), np.float32))[0] == 1.0


def test_nothing_is_learnt_from_too_little() -> None:
    few = guard_statistics(
        {"image": SEEN[:5], "ids": np.zeros((5, 3), np.int64)}, {"logits": logits_of(SEEN[:5])}, "logits"
    )
    assert few["score"] is None
    assert few["energy"] is None
    assert list(few["inputs"]) == ["image"]
    assert guard_statistics({"x": np.full((30, 2), np.nan)})["inputs"] == {}
    assert look_at({"x": SEEN[0]}, {}, read_watch({}, "m")) == []


def test_an_input_that_never_changed_may_change_a_little() -> None:
    flat = np.ones((30, 1, 8, 8), np.float32)
    statistics = guard_statistics({"image": flat})
    assert look_at({"image": flat[0] * np.float32(1 + 1e-7)}, {}, read_watch(statistics, "m")) == []
    assert look_at({"image": flat[0] * 2}, {}, read_watch(statistics, "m"))


def test_a_model_warns_refuses_or_does_not_look(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest(guard=STATISTICS))
    noise = 9 * RNG.standard_normal((1, 1, 8, 8)).astype(np.float32)
    warned = load(bundle).predict({"image": noise})
    assert any("input 'image' lies in" in text for text in warned.warnings)
    assert any("input 'image' is unlike calibration data: distance" in text for text in warned.warnings)
    assert warned.as_dict()["warnings"] == list(warned.warnings)
    assert load(bundle, guard=None).predict({"image": noise}).warnings == ()
    strict = load(bundle, guard="error")
    assert strict.predict({"image": SEEN[:1]}).label is not None
    with pytest.raises(InputError, match="load with guard='warn' to get an answer anyway"):
        strict.predict({"image": noise})
    with pytest.raises(InputError, match=r"^item 1 of 2: input 'image' "):
        strict.predict([{"image": SEEN[:1]}, {"image": noise}])
    with pytest.raises(BundleError, match="guard must be 'warn', 'error' or None, got 'strict'"):
        load(bundle, guard="strict")  # type: ignore[arg-type]


def test_nan_is_refused_unless_nobody_looks(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    wrong = np.full((1, 1, 8, 8), np.nan, np.float32)
    wrong[0, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="input 'image' has 63 NaN and 1 infinite values of 64; mend the input"):
        load(bundle).predict({"image": wrong})
    assert load(bundle, guard=None).predict({"image": wrong}).top


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"inputs": {"image": {"low": 0}}}, "manifest.json: guard.inputs.image.high is missing"),
        ({"inputs": {"image": {"low": "0", "high": 1}}}, "guard.inputs.image.low must be a number, got '0'"),
        ({"inputs": []}, r"guard.inputs must be an object, got \[\]"),
        ({"energy": {"output": "logits"}}, "guard.energy.threshold_warn is missing"),
        ({"score": {}}, "guard.score.kind is missing"),
    ],
)
def test_a_damaged_guard_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        read_watch(wrong, "manifest.json")
    told = json.loads(json.dumps(STATISTICS["score"]))
    told["inputs"]["image"]["precision"] = [[1, 2], [3]]
    with pytest.raises(BundleError, match="precision must be 4 x 4 numbers, and mean and std 4"):
        read_watch({"score": told}, "manifest.json")
    told["inputs"]["image"] = {**STATISTICS["score"]["inputs"]["image"], "std": [0, 1, 1, 1]}
    with pytest.raises(BundleError, match="std must be above 0"):
        read_watch({"score": told}, "manifest.json")


def test_a_guard_of_a_kind_that_is_not_known_yet_is_passed_over() -> None:
    assert read_watch({"score": {"kind": "later"}, "energy": None}, "m").moments == {}


def test_an_answer_that_is_no_number_is_told() -> None:
    (finding,) = look_at({}, {"logits": np.array([np.nan, 1.0])}, read_watch({}, "m"))
    assert (finding.text, finding.refuse) == ("the model answered logits with values that are NaN or infinite", True)
