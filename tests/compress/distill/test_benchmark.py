"""The benchmark of students alone and distilled, on a tiny recipe."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import ROOT

RECIPE = """\
name: tiny
family: cnn
size: pico
data: digits
train: {epochs: 2, batch_size: 128, learning_rate: 1e-2}
variants:
  student: [{distill: logits, family: mlp, size: pico, train: {epochs: 1}}]
  int8: [{quantize: static}]
"""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("distillation")


def test_every_seed_is_trained_once_and_compared(benchmark: ModuleType, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "out"
    recipe.write_text(RECIPE)
    text = benchmark.compare(str(recipe), "student", [0, 1], out)
    told = json.loads((out / "comparison.json").read_text())
    values = np.array(told["rows"])
    assert values.shape == (2, 2)
    assert len(set(values.ravel())) > 2
    assert f"| mean | {values[:, 0].mean():.4f} | {values[:, 1].mean():.4f} |" in text
    assert len(list(out.glob("teacher/*/answers.json"))) == 1
    before = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    assert len(before) == 5
    assert benchmark.compare(str(recipe), "student", [0, 1], out) == text
    assert {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")} == before


def test_its_intervals_are_those_of_student(benchmark: ModuleType) -> None:
    figures = benchmark.Figures((0.1, 0.2, 0.6))
    assert figures.mean == pytest.approx(0.3)
    assert figures.spread == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    assert figures.half_width == pytest.approx(4.303 * figures.spread / np.sqrt(3))
    assert benchmark.Figures((0.1,)).half_width == np.inf


def test_variants_without_a_student_are_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    with pytest.raises(Exception, match="variant 'int8' of tiny does not begin with a distillation of the base"):
        benchmark.compare(str(recipe), "int8", [0], tmp_path / "out")
