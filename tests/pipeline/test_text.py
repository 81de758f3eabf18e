"""A recipe of text, from a file of the user to a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.pipeline import run_recipe
from edgekit.recipe import load_recipe
from tests.data.text.conftest import sentences

RECIPE = """
name: novel
family: gpt
size: pico
data: {{file: {file}, tokenizer: bpe, vocabulary: 300, length: 32}}
train: {{epochs: 2, batch_size: 16, learning_rate: 1e-2}}
variants:
  int8: [{{quantize: dynamic}}]
  int4: [{{quantize: int4}}]
bench: {{providers: [cpu], batch: [1], min_seconds: 0.01}}
accept: {{max_drop: 0.5}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "novel.txt").write_text("\n\n".join(sentences(200)), encoding="utf-8")
    path = tmp_path / "novel.yaml"
    path.write_text(RECIPE.format(file=tmp_path / "novel.txt"), encoding="utf-8")
    return path


def test_a_recipe_of_text(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = run_recipe(load_recipe(recipe), out).as_dict()
    assert report["metric"] == "bits-per-character"
    base, *variants = report["models"]
    assert base["metric"]["test"]["unit"] == "bits"
    assert base["metric"]["test"]["drift"]["value"] == 1
    for model in variants:
        drift = model["metric"]["test"]["drift"]
        assert drift["name"] == "token-agreement"
        assert 0.5 < drift["value"] <= 1
        assert 0 <= drift["also"]["kl"]["value"] < 0.5
        assert model["metric"]["test"]["also"]["perplexity"]["value"] > 1
    told = json.loads((out / "checkpoint" / "config.json").read_text())["card"]["preprocessing"]
    assert told["vocabulary"] == 300
    assert (out / "models" / "tokenizer.json").read_bytes() == (out / "checkpoint" / "tokenizer.json").read_bytes()
    text = (out / "report.md").read_text()
    assert f"gpt/pico, trained on {tmp_path / 'novel.txt'}" in text
    assert "token-agreement" in text
    assert "kl" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data={file: a.txt, lenght: 3}", "data.lenght: unknown key; did you mean 'length'?"),
        ("data={file: a.pdf}", "data: file 'a.pdf' must end in one of .txt, .csv, .tsv, .jsonl"),
        ("data={name: fortune}", "data: unknown data 'fortune'; did you mean 'fortunes'?"),
        ("data={name: fortunes, tokenizer: bp}", "data: unknown tokenizer 'bp'; did you mean 'bpe'?"),
        ("data={name: fortunes, length: x}", "data.length: input should be a valid integer"),
        ("data=digits", "data 'digits' is for classification, reconstruction, generation; family 'gpt' does language"),
        ("data=5", "data: "),
    ],
)
def test_what_a_recipe_cannot_say_of_text(recipe: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, [change])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
