"""`edgekit compare` of models that take chunks and carry a state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.compress import OnnxStep
from edgekit.compress.quantize.dynamic import DynamicConfig, quantize_dynamic
from edgekit.export import export_source
from edgekit.training.request import train_family
from tests.data.text.conftest import sentences


def test_the_drift_of_the_state_step_by_step(tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "t.txt").write_text("\n\n".join(sentences(120)), encoding="utf-8")
    data = f"{{file: {tmp_path / 't.txt'}, tokenizer: bytes, length: 24, most_tokens: 240}}"
    options = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-2}
    train_family("lstm", "pico", data, tmp_path / "checkpoint", options)
    export_source(tmp_path / "checkpoint", tmp_path / "a.onnx", part="streaming")
    quantize_dynamic(DynamicConfig(), OnnxStep(model=tmp_path / "a.onnx", out=tmp_path / "b.onnx"))
    answer = cli("compare", tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", data, "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json()["models"]
    assert first["state_drift_db"] == []
    assert len(second["state_drift_db"]) == 24
    assert all(10 < step <= 200 for step in second["state_drift_db"])
    assert first["metric"]["name"] == "bits-per-character"
    assert first["metric"]["value"] == pytest.approx(second["metric"]["value"], rel=0.05)
    said = cli("compare", tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", data).out
    assert "drift of the state" in said
    assert "step 24" in said
