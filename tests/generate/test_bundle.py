"""A bundle of a language model writes what edgekit.generate writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.data.text.learn import train_tokenizer
from edgekit.errors import BundleError, InputError
from edgekit.generate import Request, Sampling, generate
from edgekit.generate.files import open_model
from edgekit.ort import Session
from edgekit.runtime import Model, load
from edgekit.specs import TensorSpec
from tests.conftest import Answer
from tests.runtime.bundles import manifest, variant, write_bundle


def language_bundle(place: Path, model: Path) -> Path:
    session = Session(model)

    def told(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [{"name": s.name, "dtype": s.dtype, "shape": [d or "any" for d in s.shape]} for s in specs]

    return write_bundle(
        place,
        manifest(
            [variant()],
            task="language-modelling",
            classes=[],
            inputs=told(session.inputs),
            outputs=told(session.outputs),
            preprocessing={"kind": "text", "tokenizer": "preprocessing/tokenizer.json", "length": 32, "ids": "ids"},
            postprocessing={"kind": "tokens", "output": "logits"},
        ),
        {
            "models/base/model.onnx": model.read_bytes(),
            "preprocessing/tokenizer.json": (model.parent / "tokenizer.json").read_bytes(),
        },
    )


@pytest.fixture(scope="module", params=["gpt.onnx", "cache.onnx"])
def pair(request: Any, written: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    path = written / request.param
    return load(language_bundle(tmp_path_factory.mktemp("b"), path), threads=1), path


@pytest.mark.parametrize(
    "how", [{"temperature": 0.0}, {"temperature": 0.8, "seed": 3}, {"top_k": 5, "seed": 1}, {"top_p": 0.7, "seed": 2}]
)
def test_it_writes_what_generate_writes(pair: tuple[Model, Path], how: dict[str, Any]) -> None:
    model, path = pair
    language, tokenizer = open_model(path, threads=1)
    wanted = generate(language, tokenizer, Request("the cat", 24, (), Sampling(**{"temperature": 0.8, **how})))
    pieces: list[str] = []
    found = model.generate("the cat", max_tokens=24, show=pieces.append, **how)
    assert (found.text, found.tokens, found.stopped) == (wanted.text, wanted.tokens, wanted.stopped)
    assert found.prompt_tokens == wanted.prompt_tokens
    assert found.tokens > 8
    assert "".join(pieces) == found.text


def test_it_stops_where_it_is_told_to(pair: tuple[Model, Path]) -> None:
    model, _ = pair
    whole = model.generate("the cat", max_tokens=40, seed=3).text
    assert len(whole) > 8
    stop = whole[5:7]
    found = model.generate("the cat", max_tokens=40, seed=3, stops=("", stop))
    assert (found.text, found.stopped) == (whole[: whole.find(stop)], "stop")
    assert model.generate("", max_tokens=1, temperature=0).tokens == 1


def test_bad_requests_are_refused(pair: tuple[Model, Path]) -> None:
    model, _ = pair
    for prompt, how, said in (
        ("a " * 500, {}, "the model takes a text of 128 at most with what it writes; shorten the prompt"),
        ("a", {"max_tokens": 0}, "max_tokens must be 1 or more, got 0"),
        ("a", {"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ("a", {"top_k": -1}, "top-k must be 0"),
        ("a", {"top_p": 0.0}, "top-p must lie above 0"),
        (7, {}, "a prompt is a text, got int"),
    ):
        with pytest.raises(InputError) as caught:
            model.generate(prompt, **how)  # type: ignore[arg-type]
        assert said in str(caught.value)


def test_a_model_of_classes_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the model of bundle tiny is for classification; it writes no text"):
        load(write_bundle(tmp_path / "b")).generate("a")


def test_predict_writes_too(
    cli: Callable[..., Answer], pair: tuple[Model, Path], written: Path, tmp_path: Path
) -> None:
    bundle = language_bundle(tmp_path / "b", pair[1])
    answer = cli("predict", bundle, "the cat", "--max-tokens", "12", "--temperature", "0", "--json")
    assert answer.code == 0, answer.err
    (one,) = json.loads(answer.out)["predictions"]
    assert one["text"] == pair[0].generate("the cat", max_tokens=12, temperature=0).text


def test_the_tokeniser_knows_its_ends(tmp_path: Path) -> None:
    from edgekit.runtime.texts import TextPreparation

    known = train_tokenizer("bytes", ["x"], 300)
    inputs = [TensorSpec("ids", "int64", ("batch", "length"))]
    ours = TextPreparation({"kind": "text"}, inputs, known.content.encode()).tokenizer
    assert (ours.end, ours.ends, ours.vocabulary) == (known.end, known.ends, known.vocabulary)
    assert ours.decode(ours.ids_of("aö€")) == "aö€"
