"""From a text file to text: train, export with and without a cache, generate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import load_split
from edgekit.data.text.beside import find_tokenizer
from edgekit.evaluate import evaluate
from edgekit.generate import Request, Sampling, generate
from edgekit.generate.files import open_model
from edgekit.ort import Session
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import load_checkpoint, read_config

Cli = Callable[..., Any]


def test_it_has_learnt_something(written: Path) -> None:
    """The words are drawn at random from 20: about 1.2 bits a character are left; letters apart cost 4."""
    model = load_checkpoint(written / "checkpoint")
    tokenizer = find_tokenizer(written / "checkpoint", model.card.preprocessing)
    data = f"{{file: {written / 'novel.txt'}, length: 32}}"
    split = load_split(data, "test", task="language-modelling", tokenizer=tokenizer)
    value = evaluate(model, split, find_metric("bits-per-character")).value
    assert 0.9 < value < 2.2
    assert evaluate(Session(written / "gpt.onnx"), split, find_metric("bits-per-character")).value == pytest.approx(
        value, rel=1e-4
    )


def test_the_tokeniser_lies_beside_and_the_card_names_it(written: Path) -> None:
    card = read_config(written / "checkpoint")["card"]
    told = card["preprocessing"]
    assert (told["tokenizer"], told["vocabulary"]) == ("tokenizer.json", 320)
    for place in (written, written / "checkpoint"):
        assert find_tokenizer(place, told).sha256 == told["tokenizer_sha256"]
    metadata = Session(written / "cache.onnx").metadata
    assert metadata["edgekit.tokenizer"] == told["tokenizer_sha256"]
    assert (metadata["edgekit.longest"], metadata["edgekit.vocabulary"]) == ("128", "320")


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(seed=3), Sampling(1.2, top_k=20, top_p=0.9, seed=1)]
)
@pytest.mark.parametrize("prompt", ["", "the cat"])
def test_cache_and_no_cache_write_the_same(written: Path, sampling: Sampling, prompt: str) -> None:
    request = Request(prompt, max_tokens=40, sampling=sampling)
    answers = []
    for name in ("gpt.onnx", "cache.onnx"):
        model, known = open_model(written / name)
        answers.append((model, generate(model, known, request)))
    (plain, first), (cached, second) = answers
    assert (first.text, first.tokens, first.stopped) == (second.text, second.tokens, second.stopped)
    assert (plain.has_cache, plain.cache_bytes, cached.has_cache) == (False, 0, True)
    # keys and values of 2 blocks, 32 float32 a token, of all tokens but the last, which nobody asked about
    assert second.cache_bytes == 2 * 2 * 32 * 4 * (second.prompt_tokens + second.tokens - 1)


def test_eval_takes_the_models_own_tokeniser(written: Path, cli: Cli) -> None:
    """The data's default would learn another one, of 1,024 tokens."""
    data = f"{{file: {written / 'novel.txt'}, length: 32}}"
    found = [
        json.loads(cli("eval", written / m, "--data", data, "--json").out)["metric"]
        for m in ("checkpoint", "cache.onnx")
    ]
    assert [f["name"] for f in found] == ["bits-per-character"] * 2
    assert found[0]["value"] == pytest.approx(found[1]["value"], rel=1e-4)
    assert 0.9 < found[0]["value"] < 2.2


def test_quantize_is_judged_on_text(written: Path, cli: Cli, tmp_path: Path) -> None:
    """A file with a cache, on text in its own tokens, by bits a character; it still writes."""
    data = f"{{file: {written / 'novel.txt'}, length: 32}}"
    out = tmp_path / "int8.onnx"
    answer = cli("quantize", written / "cache.onnx", "--out", out, "--method", "dynamic", "--eval", data, "--json")
    found = json.loads(answer.out)["metric"]
    assert found["name"] == "bits-per-character"
    assert found["before"] == pytest.approx(found["after"], abs=0.2)
    shutil.copy(written / "tokenizer.json", tmp_path)
    assert cli("generate", out, "the", "--max-tokens", 3).code == 0


def test_the_command(written: Path, cli: Cli) -> None:
    first, again = (cli("generate", written / "cache.onnx", "the dog", "--max-tokens", 12) for _ in range(2))
    assert first.code == 0
    assert first.out.startswith("the dog")
    assert first.out == again.out
    assert "tokens/s; cache 6.7 kB of 65.5 kB at the longest" in first.err
    other = cli("generate", written / "cache.onnx", "the dog", "--max-tokens", 12, "--seed", 1)
    assert other.out != first.out


def test_the_command_as_json(written: Path, cli: Cli) -> None:
    answer = cli("generate", written / "cache.onnx", "the dog", "--max-tokens", 9, "--temperature", 0, "--json")
    found = json.loads(answer.out)
    assert (found["tokens"], found["stopped"], found["has_cache"]) == (9, "max-tokens", True)
    assert found["prompt"] == "the dog"
    assert found["first_token_ms"] > 0
    stopped = cli(
        "generate", written / "cache.onnx", "the dog", "--temperature", 0, "--stop", found["text"][-4:], "--json"
    )
    assert found["text"].startswith(json.loads(stopped.out)["text"])
    assert json.loads(stopped.out)["stopped"] == "stop"


def test_what_cannot_be_generated_with(written: Path, tmp_path: Path, cli: Cli, dense_onnx: Path) -> None:
    def said(*args: object) -> str:
        answer = cli("generate", *args)
        assert answer.code == 1
        return str(answer.err)

    assert "is a directory; write the model as ONNX first: edgekit export" in said(written / "checkpoint", "a")
    assert "this is no language model that can generate: it takes image" in said(dense_onnx, "a")
    shutil.copy(written / "cache.onnx", tmp_path / "gpt.onnx")
    assert "has no tokeniser" in said(tmp_path / "gpt.onnx", "a")
    (tmp_path / "tokenizer.json").write_text((written / "tokenizer.json").read_text().replace("<end>", "<fin>"))
    assert "tokenizer.json is of another model: its SHA-256 is " in said(tmp_path / "gpt.onnx", "a")
    from edgekit.data.text.learn import train_tokenizer

    (tmp_path / "tokenizer.json").write_text(train_tokenizer("bytes", ["a"], 300).content)
    assert "it has 257 tokens, and " in said(tmp_path / "gpt.onnx", "a")
    assert cli("generate", tmp_path / "gpt.onnx", "a", "--tokenizer", written, "--max-tokens", 2).code == 0
    long = "the cat sat " * 60
    assert "and the model takes a text of 128 at most with what it writes" in said(written / "cache.onnx", long)
    assert "top-p must lie above 0" in said(written / "cache.onnx", "a", "--top-p", 0)
    assert cli("generate", written / "cache.onnx", "a", "--provider", "cuda").code == 3


def test_two_models_in_one_place_keep_their_tokenisers(written: Path, tmp_path: Path) -> None:
    from edgekit.data.text.beside import carry_tokenizer

    (tmp_path / "tokenizer.json").write_text("another model's")
    told = read_config(written / "checkpoint")["card"]["preprocessing"]
    assert carry_tokenizer(written / "checkpoint", tmp_path / "gpt.onnx", told) == tmp_path / "gpt.tokenizer.json"
    assert (tmp_path / "tokenizer.json").read_text() == "another model's"
    assert carry_tokenizer(written / "checkpoint", tmp_path / "gpt.onnx", told) == tmp_path / "gpt.tokenizer.json"
    assert find_tokenizer(tmp_path / "gpt.onnx", told).vocabulary == 320


def test_ids_that_no_token_has(written: Path, tmp_path: Path, cli: Cli) -> None:
    for ids in ([[1, 2, 320]], [[1, -1, 2]]):
        np.savez(tmp_path / "x.npz", ids=np.array(ids))
        for model in ("gpt.onnx", "checkpoint"):
            answer = cli("eval", written / model, "--data", tmp_path / "x.npz", "--metric", "perplexity")
            assert answer.code == 1
            assert "ids must lie in 0..319 for a vocabulary of 320" in answer.err
            assert len(answer.err.splitlines()) == 1


def test_texts_that_are_longer_than_the_model_takes(written: Path, cli: Cli) -> None:
    data = f"{{file: {written / 'novel.txt'}, length: 200}}"
    for model in ("gpt.onnx", "checkpoint"):
        answer = cli("eval", written / model, "--data", data)
        assert answer.code == 1
        assert "texts of 200 tokens" in answer.err
        assert "takes 128 at most" in answer.err
