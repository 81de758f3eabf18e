from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgekit.bundle import PackOptions, pack_bundle
from edgekit.bundle.guard import learn_guard
from edgekit.bundle.models import read_models
from edgekit.bundle.records import Candidate
from edgekit.data import load_split
from edgekit.runtime import load
from tests.bundle.texts import write_text_model


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


def test_the_guard_of_a_bundle_of_texts_knows_their_tokens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [
        *("offer", "free", "money", "click", "here", "now", "dear", "friend"),
        *("please", "send", "your", "reply", "today", "win", "prize", "call"),
    ]
    rows = [" ".join(words[(i + k) % len(words)] for k in range(24)) for i in rng.integers(0, len(words), 900)]
    data = tmp_path / "texts.csv"
    data.write_text("text,label\n" + "\n".join(f"{row} {i},{'ab'[i % 2]}" for i, row in enumerate(rows)) + "\n")
    model = write_text_model(tmp_path / "m", length=64, texts=[" ".join(words)])
    told = f"{{file: {data}, text: text, label: label, tokenizer: {tmp_path / 'm/tokenizer.json'}, length: 64}}"
    bundle = pack_bundle([Candidate("base", model)], tmp_path / "B", PackOptions(data=told, judge=False)).path
    guard = json.loads((bundle / "manifest.json").read_text())["guard"]
    assert (guard["score"], guard["energy"], guard["tokens"]["input"]) == (None, None, "ids")
    with load(bundle) as loaded:
        assert loaded.predict(rows[0]).warnings == ()
        (warning,) = loaded.predict(" ".join(rng.permutation(words * 2)[:24])).warnings
        assert warning.startswith("the text is unlike calibration data: share of new pairs of tokens")
