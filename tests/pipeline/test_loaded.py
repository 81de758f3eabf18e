"""Recipes whose base model is there already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.errors import EdgekitError, ModelError
from edgekit.ort import Session
from edgekit.pipeline import run_recipe
from edgekit.recipe import load_recipe
from edgekit.training.checkpoint import load_checkpoint

REST = """\
name: loaded
data: digits
variants:
  stored: [{quantize: weights}]
bench: {min_seconds: 0.02, threads: 1}
report: {pictures: false}
"""
NETS = Path(__file__).parents[1] / "load" / "nets.py"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Run a recipe in `here` whose `model` (and more) is given; its results.json, and what was not reused."""
    (tmp_path / "here").mkdir()

    def act(text: str) -> tuple[dict[str, Any], list[str]]:
        path = tmp_path / "here" / "r.yaml"
        path.write_text(text + REST)
        report = run_recipe(load_recipe(path), tmp_path / "out")
        found = json.loads((tmp_path / "out" / "results.json").read_text())
        return found, [s.name for s in report.steps if not s.reused]

    return act


def test_weights_with_other_names(run: Callable[..., Any], tmp_path: Path, pico_cnn: Path) -> None:
    ours = load_checkpoint(pico_cnn)
    torch.save({f"net.{k}": v for k, v in ours.module.state_dict().items()}, tmp_path / "here" / "w.pth")
    (tmp_path / "here" / "map.yaml").write_text("strip: net.\n")
    text = "model: {family: cnn, size: pico, weights: w.pth, mapping: map.yaml}\n"
    results, done = run(text)
    assert results["training"]["validation"]["value"] > 0.8
    assert results["models"][0]["metric"]["test"]["value"] > 0.8
    assert results["recipe"]["model"]["mapping"]["strip"] == "net."
    assert "w.pth, used on digits" in (tmp_path / "out" / "report.md").read_text()
    assert "train" in done
    assert run(text)[1] == []
    weights = {f"net.{k}": v * 1.5 for k, v in ours.module.state_dict().items()}
    torch.save(weights, tmp_path / "here" / "w.pth")
    assert "train" in run(text)[1]


def test_an_onnx_file_with_an_input_of_another_name(run: Callable[..., Any], tmp_path: Path, dense_onnx: Path) -> None:
    import onnx

    model = onnx.load(dense_onnx)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"
    onnx.save(model, tmp_path / "here" / "m.onnx")
    results, _ = run("model: {onnx: m.onnx}\n")
    assert results["training"] == {"history": []}
    assert results["export"]["exporter"] == "onnx"
    assert "the ONNX file written anew, opset 18" in (tmp_path / "out" / "report.md").read_text()
    images = np.ones((2, 1, 8, 8), np.float32)
    base = Session(tmp_path / "out" / "models" / "base.onnx")
    np.testing.assert_allclose(
        base.run({"pixels": images})[0], Session(dense_onnx).run({"image": images})[0], atol=1e-5
    )


def test_a_builder_is_fine_tuned_with_a_new_last_layer(run: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(NETS, tmp_path / "here" / "mine.py")
    text = (
        "model: {builder: mine.py:plain}\n"
        "train: {epochs: 3, batch_size: 64, learning_rate: 1e-2, freeze: [body.0.bias], precision: 32-true}\n"
    )
    results, _ = run(text)
    assert results["training"]["validation"]["value"] > 0.8
    assert len(results["training"]["history"]) == 3
    assert results["training"]["card"]["architecture"]["head"] == {"replaces": 3, "outputs": 10}
    assert "mine.py:plain, fine-tuned on digits" in (tmp_path / "out" / "report.md").read_text()
    assert results["training"]["card"]["family"] == "builder:mine.py:plain"
    session = Session(tmp_path / "out" / "models" / "stored.onnx")
    assert str(tmp_path).encode() not in (tmp_path / "out" / "models" / "stored.onnx").read_bytes()
    assert session.outputs[0].shape == ("batch", 10)
    assert json.loads(session.metadata["edgekit.classes"]) == [str(d) for d in range(10)]
    assert run(text)[1] == []


def test_a_hugging_face_directory(run: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=10,
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "here" / "vit")
    results, _ = run("model: {hf: vit}\n")
    assert results["export"]["parity"]["max_abs"] < 1e-4
    assert results["training"]["card"]["family"] == "hf:vit"
    assert results["training"]["train"] is None
    assert Session(tmp_path / "out" / "models" / "base.onnx").inputs[0].name == "pixel_values"


def test_data_that_a_loaded_model_does_not_take(run: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(NETS, tmp_path / "here" / "mine.py")
    with pytest.raises(ModelError, match=r"gives 3 classes, and digits has labels of 10; give other data, or `train`"):
        run("model: {builder: mine.py:plain}\n")
    with pytest.raises(EdgekitError, match=r"does not fit|does not take"):
        run("model: {builder: mine.py:plain, inputs: {image: 1x3x8x8}}\n")
    assert not (tmp_path / "out" / "models").exists()
