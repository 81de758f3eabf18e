"""Recipes of language models that others trained, and of ours with their cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import progress
from edgekit.errors import DataError, EdgekitError, ModelError
from edgekit.load import Description, ModelSource, load_model
from edgekit.load.causal import TorchDecoder, find_causal
from edgekit.pipeline import run_recipe
from edgekit.recipe import load_recipe
from tests.data.text.conftest import sentences
from tests.load.language_models import save_model, save_tokenizer

Cli = Callable[..., Any]
REST = """
data: {file: novel.txt, length: 32, most_tokens: 256}
bench: {min_seconds: 0.01, threads: 1, generate: 8}
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text and a Llama, with the run of a recipe on them in `out`."""
    progress.set_quiet(True)
    place = tmp_path_factory.mktemp("language")
    (place / "novel.txt").write_text("\n\n".join(sentences(200)), encoding="utf-8")
    save_model("llama", place)
    variants = "variants: {int4: [{quantize: int4, min_elements: 64}]}"
    write(place, f"name: tiny\nmodel: {{hf: llama}}\n{variants}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_recipe(load_recipe(place / "r.yaml"), place / "out")
    return place


def write(place: Path, text: str) -> Path:
    (place / "r.yaml").write_text(text + REST, encoding="utf-8")
    return place / "r.yaml"


@pytest.fixture
def results(here: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((here / "out" / "results.json").read_text())
    return found


def test_the_export_is_as_good_as_torch(results: dict[str, Any]) -> None:
    base = results["models"][0]["metric"]["validation"]
    torch = results["export"]["torch"]
    assert base["value"] == pytest.approx(torch["bits-per-character"]["value"], rel=1e-3)
    assert base["also"]["perplexity"]["value"] == pytest.approx(torch["perplexity"]["value"], rel=1e-3)


def test_a_variant_is_told_with_what_it_does_to_the_text(here: Path, results: dict[str, Any]) -> None:
    base, int4 = results["models"]
    assert base["metric"]["test"]["n"] == 256 // 32
    assert base["metric"]["test"]["drift"]["value"] == 1
    drift = int4["metric"]["test"]["drift"]
    assert (drift["name"], drift["also"]["kl"]["unit"]) == ("token-agreement", "nats")
    assert 0.8 < drift["value"] <= 1
    assert 0 < drift["also"]["kl"]["value"] < 0.1
    text = (here / "out" / "report.md").read_text()
    assert "the first 256 tokens of the split at most" in text
    assert "exported on validation data: perplexity" in text
    assert "int4 writes" in text


def test_how_fast_a_variant_writes(results: dict[str, Any]) -> None:
    base, int4 = (model["generation"] for model in results["models"])
    heads, width, layers = 2, 4, 2
    assert base["cache_bytes_per_token"] == 2 * layers * heads * width * 4
    assert base["longest_cache_bytes"] == 80 * base["cache_bytes_per_token"]
    assert base["cache_bytes"] == (16 + 8 - 1) * base["cache_bytes_per_token"]
    assert (base["prompt_tokens"], base["tokens"], base["ratio"]) == (16, 8, 1)
    assert int4["ratio"] == pytest.approx(int4["tokens_per_second"] / base["tokens_per_second"])


def test_a_second_run_does_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    path = write(here, "name: tiny\nmodel: {hf: llama}\nvariants: {int4: [{quantize: int4, min_elements: 64}]}\n")
    assert all(step.reused for step in run_recipe(load_recipe(path), here / "out").steps)


def test_its_file_as_the_base_of_a_recipe(
    here: Path, tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    path = write(here, "name: again\nmodel: {onnx: out/models/base.onnx}\n")
    found = run_recipe(load_recipe(path), tmp_path / "out").as_dict()
    assert found["metric"] == "bits-per-character"
    assert found["models"][0]["metric"]["test"]["value"] == results["models"][0]["metric"]["test"]["value"]


@pytest.mark.parametrize(
    ("text", "setting", "message"),
    [
        (
            "model: {hf: llama}\ntrain: {epochs: 1}\n",
            "data.length=100",
            "hf:llama takes a length of at most 80, and data",
        ),
        (
            "model: {hf: llama}\ntrain: {epochs: 1}\n",
            "variants.thin=[{prune: heads, ratio: 0.5}]",
            "`prune: heads` needs a model that edgekit takes apart in torch, and",
        ),
        ("model: {hf: llama}\n", "data.tokenizer=bytes", "comes with its own tokeniser; leave `tokenizer` out"),
        ("model: {hf: llama}\n", "data.vocabulary=300", "comes with its own tokeniser; leave `vocabulary` out"),
        ("model: {onnx: out/models/base.onnx}\n", "data.tokenizer=other/tokenizer.json", "is of another model"),
    ],
)
def test_what_cannot_be_asked_of_it(
    here: Path, tmp_path: Path, text: str, setting: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    save_tokenizer(here / "other", 40)
    recipe = load_recipe(write(here, f"name: wrong\n{text}"), [setting] if setting else [])
    with pytest.raises(EdgekitError) as error:
        run_recipe(recipe, tmp_path / "out")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_no_tokeniser_beside_an_onnx_file(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (tmp_path / "m.onnx").write_bytes((here / "out" / "models" / "base.onnx").read_bytes())
    recipe = load_recipe(write(here, f"name: bare\nmodel: {{onnx: {tmp_path / 'm.onnx'}}}\n"))
    with pytest.raises(EdgekitError, match="has no tokeniser"):
        run_recipe(recipe, tmp_path / "out")
    recipe = load_recipe(here / "r.yaml", ["data.tokenizer=llama/tokenizer.json"])
    assert run_recipe(recipe, tmp_path / "out").models[0].metric["test"]["value"] > 0


def test_the_data_may_name_the_same_tokeniser(here: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(here)
    data = "{file: novel.txt, length: 32, most_tokens: 128, tokenizer: llama/tokenizer.json}"
    answer = cli("eval", "out/models/base.onnx", "--data", data, "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["metric"]["n"] == 4
    other = data.replace("llama/", "other/")
    save_tokenizer(here / "other", 40)
    assert "is of another model" in cli("eval", "out/models/base.onnx", "--data", other).err


def test_two_files_compared(here: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(here)
    data = "{file: novel.txt, length: 32, most_tokens: 128}"
    answer = cli("compare", "out/models/base.onnx", "out/models/int4.onnx", "--data", data, "--json")
    assert answer.code == 0, answer.err
    base, int4 = answer.json()["models"]
    assert base["metric"]["name"] == "bits-per-character"
    assert base["agreement"] is None
    assert set(base["also"]) == {"perplexity"}
    assert int4["agreement"]["name"] == "token-agreement"
    assert set(int4["also"]) == {"perplexity", "kl"}
    assert "token-agreement" in cli("compare", "out/models/base.onnx", "out/models/int4.onnx", "--data", data).out


def test_a_recipe_of_ours_with_a_cache(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    train = "train: {epochs: 1, batch_size: 16, learning_rate: 1e-2}\n"
    text = f"name: cached\nfamily: gpt\nsize: pico\nexport: {{part: cache}}\n{train}"
    variants = "variants: {int8: [{quantize: dynamic}]}\n"
    recipe = load_recipe(write(here, text + variants))
    cached = run_recipe(recipe, tmp_path / "out").as_dict()
    assert [m["generation"]["longest"] for m in cached["models"]] == [128, 128]
    plain = run_recipe(load_recipe(here / "r.yaml", ["export={}", "variants={}"]), tmp_path / "out").as_dict()
    assert plain["models"][0]["generation"] is None
    same = pytest.approx(plain["models"][0]["metric"]["test"]["value"], rel=1e-5)
    assert cached["models"][0]["metric"]["test"]["value"] == same


@pytest.mark.parametrize(
    "text", ["family: cnn\nexport: {part: cache}\n", "model: {hf: llama}\nexport: {part: cache}\n"]
)
def test_a_part_that_is_not_there(here: Path, text: str) -> None:
    with pytest.raises(EdgekitError, match="has no part 'cache'"):
        load_recipe(write(here, f"name: x\n{text}"), ["data=digits"])


def test_a_recipe_that_cuts_its_model(
    here: Path, tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    path = write(here, "name: cut\nmodel: {hf: llama}\nexport: {trim_vocabulary: true, max_length: 40}\n")
    found = run_recipe(load_recipe(path), tmp_path / "out").as_dict()
    assert found["export"]["vocabulary"]["after"] < found["export"]["vocabulary"]["before"]
    assert found["export"]["max_length"]["after"] == found["models"][0]["generation"]["longest"] == 40
    assert found["models"][0]["size_bytes"] < results["models"][0]["size_bytes"]
    assert found["models"][0]["metric"]["test"]["value"] <= results["models"][0]["metric"]["test"]["value"]
    assert "tokens of" in (tmp_path / "out" / "report.md").read_text()
    assert all(step.reused for step in run_recipe(load_recipe(path), tmp_path / "out").steps)
    with pytest.raises(DataError, match=r"texts of 32 tokens, and .*llama takes 20 at most"):
        run_recipe(load_recipe(path, ["export.max_length=20"]), tmp_path / "out")


def test_a_classifier_of_text_with_fewer_tokens(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    save_model("bert", here)
    rows = [f'"{text}",{"ham" if i % 2 else "spam"}' for i, text in enumerate(sentences(60))]
    (here / "mails.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    path = write(here, "name: mails\nmodel: {hf: bert}\nexport: {trim_vocabulary: true}\ntrain: {epochs: 1}\n")
    data = "data={file: mails.csv, label: label, length: 24, truncate: true, tokenizer: bert/tokenizer.json}"
    found = run_recipe(load_recipe(path, [data]), tmp_path / "out").as_dict()
    assert found["metric"] == "top1"
    assert found["export"]["vocabulary"]["after"] < found["export"]["vocabulary"]["before"]


def test_a_tokeniser_of_ours_is_made_as_small_as_wanted(here: Path) -> None:
    path = write(here, "name: x\nfamily: gpt\nsize: pico\nexport: {trim_vocabulary: true}\n")
    with pytest.raises(EdgekitError, match=r"export: .*`data.vocabulary`"):
        load_recipe(path)


def test_a_hub_id_without_a_network(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    path = write(here, "name: x\nmodel: {hf: somebody/some-model}\n")
    with pytest.raises(ModelError, match=r"somebody/some-model is no path here .*`hf download somebody/some-model"):
        run_recipe(load_recipe(path), tmp_path / "out")


def test_code_that_comes_with_a_model(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    place = save_model("llama", tmp_path)
    said = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**said, "auto_map": {"AutoModelForCausalLM": "modeling.Net"}}))
    recipe = load_recipe(write(here, f"name: x\nmodel: {{hf: {place}}}\n"))
    with pytest.raises(ModelError, match=r"asks to run Python code of its own \(modeling.Net\)"):
        run_recipe(recipe, tmp_path / "out")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_that_is_trained_on(
    here: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """It learns the texts, is exported with its cache, and lies in both layouts: ours and Hugging Face's."""
    monkeypatch.chdir(here)
    save_model(name, here)
    train = "train: {epochs: 2, batch_size: 8, learning_rate: 1e-2}\n"
    path = write(here, f"name: tuned\nmodel: {{hf: {name}}}\n{train}")
    out = tmp_path / "out"
    found = run_recipe(load_recipe(path), out).as_dict()
    before = run_recipe(load_recipe(write(here, f"name: plain\nmodel: {{hf: {name}}}\n")), tmp_path / "plain").as_dict()
    tuned, plain = (f["models"][0] for f in (found, before))
    assert tuned["metric"]["test"]["value"] < 0.8 * plain["metric"]["test"]["value"]
    assert found["training"]["validation"]["value"] == pytest.approx(tuned["metric"]["validation"]["value"], rel=1e-3)
    assert tuned["generation"]["cache_bytes_per_token"] == plain["generation"]["cache_bytes_per_token"]
    assert "fine-tuned on novel.txt" in (out / "report.md").read_text()
    ours = load_model(ModelSource(checkpoint=str(out / "checkpoint")), Description())
    theirs = load_causal(out / "checkpoint" / "hf")
    ids = np.arange(12)[None, :]
    assert ours.run({"ids": ids})[0] == pytest.approx(theirs.run({"ids": ids})[0], abs=1e-5)
    judged = cli("eval", out / "checkpoint", "--data", "{file: novel.txt, length: 32, most_tokens: 256}", "--json")
    assert judged.json()["metric"]["value"] == pytest.approx(tuned["metric"]["test"]["value"], rel=1e-4)
    path = write(here, f"name: tuned\nmodel: {{hf: {name}}}\n{train}")
    assert all(step.reused for step in run_recipe(load_recipe(path), out).steps)


def load_causal(directory: Path) -> TorchDecoder:
    """As another program would find it."""
    source = find_causal(ModelSource(hf=str(directory)))
    assert source is not None
    return TorchDecoder(source.load())
