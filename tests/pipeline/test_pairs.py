"""A recipe of pairs of texts, from a file of the user to a report."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.ort import Session
from edgekit.pipeline import run_recipe
from edgekit.recipe import find_recipe, load_recipe
from tests.data.text.conftest import spelled

RECIPE = """
name: spelling
family: transformer
size: pico
data: {{file: {file}, target: target, tokenizer: characters, target_tokenizer: words}}
train: {{epochs: 2, batch_size: 16, learning_rate: 1e-2, label_smoothing: 0.1}}
variants:
  int8: [{{quantize: dynamic}}]
  weights: [{{quantize: weights}}]
  int4: [{{quantize: int4}}]
  fewer-heads-int8: [{{prune: heads, ratio: 0.5, finetune: {{epochs: 1}}}}, {{quantize: dynamic}}]
bench: {{providers: [cpu], batch: [1], min_seconds: 0.01}}
accept: {{max_drop: 0.5}}
pack: {{variant: base}}
"""


def test_a_recipe_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(spelled(200), encoding="utf-8")
    path, out = tmp_path / "spelling.yaml", tmp_path / "out"
    path.write_text(RECIPE.format(file=tmp_path / "pairs.csv"), encoding="utf-8")
    report = run_recipe(load_recipe(path), out).as_dict()
    assert report["metric"] == "token-accuracy"
    assert report["export"]["parity"]["padded"]
    for model in report["models"]:
        test, validation = model["metric"]["test"], model["metric"]["validation"]
        assert list(test["also"]) == ["sequence-accuracy", "edit-distance"]
        assert validation["also"] == {}  # what decides is cheap
        assert 0 <= test["also"]["sequence-accuracy"]["value"] <= 1
        assert abs(model["drop"]["test"]["value"]) < 0.1
    assert Session(out / "models" / "int8.onnx").metadata["edgekit.task"] == "sequence-to-sequence"
    for name in ("tokenizer.json", "target-tokenizer.json"):
        assert (out / "models" / name).read_bytes() == (out / "checkpoint" / name).read_bytes()
    bundle = out / "bundle"
    for name in ("tokenizer.json", "target-tokenizer.json"):
        assert (bundle / "preprocessing" / name).read_bytes() == (out / "models" / name).read_bytes()
    told = json.loads((bundle / "manifest.json").read_text())["preprocessing"]
    assert (told["kind"], told["target_tokenizer"]) == ("pairs", "preprocessing/target-tokenizer.json")
    text = (out / "report.md").read_text()
    assert "- base: sequence-accuracy" in text
    assert "edit-distance" in text


def test_the_recipe_that_comes_with_edgekit() -> None:
    recipe = load_recipe(find_recipe(Path("cmudict-transformer")))
    assert (recipe.family, recipe.size, recipe.data) == ("transformer", "mini", "cmudict")
    assert list(recipe.variants) == ["int8", "weights", "int4", "fewer-heads-int8"]
