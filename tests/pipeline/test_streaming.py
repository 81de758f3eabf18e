"""Recipes of recurrent models that take chunks and carry their state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import progress
from edgekit.bundle import verify_bundle
from edgekit.data import find_source
from edgekit.errors import RecipeError
from edgekit.evaluate import scores
from edgekit.pipeline import run_recipe
from edgekit.recipe import load_recipe
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import load_checkpoint
from tests.data.text.conftest import sentences

REST = """
export: {part: streaming}
bench: {min_seconds: 0.01, threads: 1, generate: 4}
"""


def write(place: Path, text: str) -> Path:
    (place / "r.yaml").write_text(text + REST, encoding="utf-8")
    return place / "r.yaml"


def run(place: Path, text: str) -> dict[str, Any]:
    progress.set_quiet(True)
    run_recipe(load_recipe(write(place, text)), place / "out")
    found: dict[str, Any] = json.loads((place / "out" / "results.json").read_text())
    return found


def test_series_that_end_anywhere_are_judged_step_by_step(tmp_path: Path) -> None:
    variants = "variants: {int8: [{quantize: weights, min_elements: 64}]}"
    head = "name: s\nfamily: lstm\nsize: pico\ndata: japanese-vowels\ntrain: {epochs: 1, learning_rate: 1e-2}\n"
    base, int8 = run(tmp_path, f"{head}{variants}\npack: {{variant: int8}}\n")["models"]
    assert not verify_bundle(tmp_path / "out" / "bundle").faults
    whole = load_checkpoint(tmp_path / "out" / "checkpoint")
    test = find_source("japanese-vowels").load(None, "classification").splits["test"]
    wanted = scores(whole, test, find_metric("top1"))
    assert base["metric"]["test"]["value"] == pytest.approx(float(wanted.mean()), abs=0.01)
    assert np.load(tmp_path / "out" / "work" / "base.test.npy") == pytest.approx(wanted)
    drift = int8["metric"]["test"]["state_drift_db"]
    assert len(drift) == 29
    assert 20 < min(drift) < 100
    assert "state_drift_db" not in base["metric"]["test"]
    told = (tmp_path / "out" / "report.md").read_text()
    assert "- int8: signal to error of the state " in told
    assert " dB behind step 29; worst " in told


def test_a_language_model_that_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "n.txt").write_text("\n\n".join(sentences(120)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = "data: {file: n.txt, tokenizer: bytes, length: 24, most_tokens: 240}\n"
    head = f"name: s\nfamily: gru\nsize: pico\n{data}train: {{epochs: 1, batch_size: 16}}\n"
    base, int8 = run(tmp_path, f"{head}variants: {{int8: [{{quantize: weights, min_elements: 64}}]}}")["models"]
    assert len(int8["metric"]["test"]["state_drift_db"]) == 24
    assert base["generation"]["cache_bytes"] == 16 * 4
    assert base["generation"]["cache_bytes_per_token"] == 0
    assert "its state takes 64 B, whatever it has read" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "family: lstm\nsize: pico-bidirectional",
            "r.yaml:6: export: a bidirectional model cannot stream: it needs the",
        ),
        ("family: cnn\nsize: pico", "export: cnn/pico has no part 'streaming'; leave it out"),
        ("family: gru\nsize: pico\nrobust: {attack: fgsm}", "robust: attacks are on whole models, and `export` takes"),
    ],
)
def test_what_cannot_stream_is_refused_before_anything_is_trained(tmp_path: Path, text: str, message: str) -> None:
    data = "digits" if "cnn" in text else "japanese-vowels"
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, f"name: s\ndata: {data}\n{text}\n"))
    assert message in str(error.value)
