from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgekit.bundle.guard import learn_guard
from edgekit.bundle.models import read_models
from edgekit.bundle.records import Candidate
from edgekit.data import load_split
from edgekit.runtime import load


def test_the_guard_of_a_bundle_tells_noise_from_digits(packed: Path) -> None:
    guard = json.loads((packed / "manifest.json").read_text())["guard"]
    assert guard["score"]["kind"] == "mahalanobis-of-moments"
    assert guard["energy"]["output"] == "logits"
    with load(packed) as model:
        assert model.predict(str(packed / "golden" / "0.raw.png")).warnings == ()
        noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
        assert model.predict(noise).warnings


def test_the_first_samples_are_enough_and_no_data_gives_no_guard(variants: tuple[Candidate, ...]) -> None:
    (model,) = read_models(variants[1:])
    seen = load_split("digits", "calibration").matched(model.info.inputs)
    softmax = {"kind": "softmax", "output": "logits"}
    assert learn_guard(model, None, softmax) == {"inputs": {}, "score": None, "energy": None, "tokens": None}
    assert learn_guard(model, seen, {"kind": "none", "output": "logits"})["energy"] is None
    assert learn_guard(model, seen.take(30), softmax)["score"]["inputs"]["image"]["threshold_warn"] >= 1.0
