"""Every classifier, from an untrained pico model through export to static int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.compress import OnnxStep
from edgekit.compress.quantize.static import StaticConfig, quantize_static
from edgekit.data.split import Split
from edgekit.export.torch_onnx import export_onnx
from edgekit.families import FAMILIES
from edgekit.ort import Session
from edgekit.specs import Array, TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel

CLOTHES = (TensorSpec("image", "float32", ("batch", 1, 28, 28)),)
PICOS = [
    (f.name, size)
    for f in FAMILIES.values()
    if f.tasks[0] == "classification" and "quantize: static" not in f.refuses
    for size in f.sizes
    if size.startswith("pico")
]


def pico(family: str, size: str) -> TrainedModel:
    """An untrained model whose batch normalisation has seen what the tests feed."""
    torch.manual_seed(0)
    card = ModelCard(family, size, "classification", "clothes", tuple("abcdefghij"), CLOTHES, {})
    module = card.build().train()
    for _ in range(5):
        module(torch.from_numpy(images(16)))
    return TrainedModel(module.eval(), card)


def images(n: int) -> Array:
    """Pictures as smooth as real ones: float32 (n, 1, 28, 28)."""
    coarse = np.random.default_rng(0).standard_normal((n, 1, 7, 7)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(4, axis=2).repeat(4, axis=3))


@pytest.mark.parametrize(("family", "size"), PICOS)
def test_export_and_static_int8_of_every_pico_size(family: str, size: str, tmp_path: Path) -> None:
    """The export is torch's model at batches of 1, 2 and 7; int8 is smaller and says nearly the same."""
    exported, written = tmp_path / "pico.onnx", tmp_path / "int8.onnx"
    result = export_onnx(pico(family, size), exported)
    assert result.exporter == "dynamo"
    assert result.parity.batches == (1, 2, 7)
    assert result.parity.max_abs < 1e-5
    data = Split("calibration", {"image": images(64)})
    step = OnnxStep(model=exported, out=written, target="cpu", calibration=data)
    assert quantize_static(StaticConfig(), step).changed
    assert written.stat().st_size < exported.stat().st_size
    feeds = {"image": images(32)}
    before, after = Session(exported).run(feeds)[0], Session(written).run(feeds)[0]
    error = float(((before - after) ** 2).sum() / (before**2).sum())
    assert error < 0.01
