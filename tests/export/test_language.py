"""Hugging Face language and speech models that the tests save, exported and compared with torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgekit.errors import ExportError, ModelError, OutputError
from edgekit.export import export_source
from edgekit.export.language import export_language
from edgekit.export.language_parity import check_language_parity
from edgekit.files import sha256_of
from edgekit.load import Description
from edgekit.load.language import HEADS, LanguageModel, find_head, load_language
from edgekit.ort import Session
from tests.load.language_models import MODELS, WORDS, save_model, save_tokenizer

Cli = Callable[..., Any]
COMPANIONS = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory a model; only to be read."""
    place = tmp_path_factory.mktemp("language")
    for name in MODELS:
        save_model(name, place)
    return place


@pytest.fixture(scope="session")
def exported(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Any], Path]]:
    """What `export` answers for one of MODELS, and the directory that it wrote; made once."""
    place, known = tmp_path_factory.mktemp("exported"), dict[str, dict[str, Any]]()

    def export(name: str) -> tuple[dict[str, Any], Path]:
        if name not in known:
            known[name] = export_source(saved / name, place / name / "m.onnx")
        return known[name], place / name

    return export


def loaded(place: Path, task: str = "") -> LanguageModel:
    head = find_head(place, task)
    assert head is not None
    return load_language(place, head)


@pytest.mark.parametrize(
    ("name", "task", "outputs", "longest"),
    [
        ("bert", "feature-extraction", {"last_hidden_state": ("batch", "length", 16)}, 80),
        ("bert-classes", "text-classification", {"logits": ("batch", 2)}, 80),
        ("distilbert-tokens", "token-classification", {"logits": ("batch", "length", 2)}, 80),
        ("roberta-mask", "fill-mask", {"logits": ("batch", "length", WORDS)}, 78),
    ],
)
def test_encoders(name: str, task: str, outputs: dict[str, Any], longest: int, exported: Callable[..., Any]) -> None:
    answer, place = exported(name)
    assert answer["task"] == task
    assert answer["parity"]["batches"] == (1, 2, 7)
    assert answer["parity"]["lengths"] == (1, 3, 64, longest)
    assert answer["parity"]["padded"]
    assert answer["parity"]["max_abs"] < 1e-4
    session = Session(place / "m.onnx")
    assert {o.name: o.shape for o in session.outputs} == outputs
    assert session.inputs[0].shape == ("batch", "length")
    assert session.metadata["edgekit.longest"] == str(longest)
    assert session.metadata["edgekit.vocabulary"] == str(WORDS)
    assert session.metadata["edgekit.tokenizer"] == sha256_of(place / "tokenizer.json")
    assert {p.name for p in place.iterdir()} == {"m.onnx", *COMPANIONS}


def test_names_of_classes_stand_in_the_file(exported: Callable[..., Any]) -> None:
    _, place = exported("bert-classes")
    said = Session(place / "m.onnx").metadata
    assert (json.loads(said["edgekit.classes"]), said["edgekit.family"]) == (["ham", "spam"], "hf:bert")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_one_file_serves_prompt_and_step(name: str, exported: Callable[..., Any]) -> None:
    answer, place = exported(name)
    assert answer["task"] == "text-generation-with-past"
    assert answer["files"] == [str(place / "m.onnx")]
    assert answer["parity"]["cached"]
    assert answer["parity"]["padded"]
    assert answer["parity"]["lengths"] == (1, 3, 64, 80)
    assert (place / "generation_config.json").is_file()
    shapes = {s.name: s.shape for s in Session(place / "m.onnx").inputs}
    assert shapes["past_key_values.0.key"][::2] == ("batch", "past_length")
    assert shapes["attention_mask"] == ("batch", "past_length + length")


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_tied_embeddings_are_stored_once(name: str, exported: Callable[..., Any]) -> None:
    answer, _ = exported(name)
    weights = onnx.load(answer["files"][-1]).graph.initializer
    assert len([w for w in weights if WORDS in w.dims and len(w.dims) == 2]) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_tokens_with_cache_are_those_of_torch(name: str, saved: Path, exported: Callable[..., Any]) -> None:
    from transformers import AutoModelForCausalLM

    prompt = [7, 3, 9]
    theirs = AutoModelForCausalLM.from_pretrained(saved / name).eval()
    wanted = theirs.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=12, min_new_tokens=12, pad_token_id=0
    )[0].tolist()
    session = Session(exported(name)[1] / "m.onnx")
    assert [*prompt, *greedy(session, prompt, 12)] == wanted


def greedy(session: Session, prompt: list[int], count: int) -> list[int]:
    """The likeliest tokens, one at a time, each with the cache of those before."""
    cache = {
        s.name: np.zeros([1 if i == 0 else d if isinstance(d, int) else 0 for i, d in enumerate(s.shape)], np.float32)
        for s in session.inputs
        if s.name.startswith("past")
    }
    found, ids, seen = list[int](), prompt, 0
    for _ in range(count):
        feeds = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, seen + len(ids)), np.int64),
            "position_ids": np.arange(seen, seen + len(ids))[None],
            **cache,
        }
        answers = session.run({s.name: feeds[s.name] for s in session.inputs})
        outputs = dict(zip((o.name for o in session.outputs), answers, strict=True))
        cache = {name: outputs[name.replace("past_key_values", "present")] for name in cache}
        seen += len(ids)
        ids = [int(outputs["logits"][0, -1].argmax())]
        found += ids
    return found


def test_without_a_past(saved: Path, tmp_path: Path) -> None:
    answer = export_source(saved / "llama", tmp_path / "m.onnx", described=Description(task="text-generation"))
    assert not answer["parity"]["cached"]
    assert {s.name for s in Session(tmp_path / "m.onnx").inputs} == {"input_ids", "attention_mask", "position_ids"}


def test_encoder_and_decoder_are_two_files(exported: Callable[..., Any]) -> None:
    answer, place = exported("t5")
    assert answer["files"] == [str(place / "m.encoder.onnx"), str(place / "m.decoder.onnx")]
    assert answer["path"] == answer["files"][0]
    assert answer["parity"]["cached"]
    assert answer["parity"]["lengths"] == (1, 3, 64, 512)
    decoder = Session(place / "m.decoder.onnx")
    assert decoder.metadata["edgekit.part"] == "decoder"
    assert {s.name for s in decoder.inputs} >= {"use_cache_branch", "encoder_hidden_states"}


def test_speech(exported: Callable[..., Any]) -> None:
    answer, _ = exported("wav2vec2")
    assert answer["parity"]["lengths"] == (20, 40, 650)  # samples that give 1, 3 and 64 frames
    answer, place = exported("whisper")
    assert answer["parity"]["batches"] == (1, 2, 7)
    assert Session(place / "m.encoder.onnx").inputs[0].shape == ("batch", 8, 3000)


def test_a_file_that_differs_is_refused(saved: Path, exported: Callable[..., Any]) -> None:
    model = loaded(saved / "bert-classes")
    with torch.no_grad():
        model.module.get_parameter("classifier.bias").add_(0.01)
    with pytest.raises(ExportError, match=r"differs from torch by 0\.01 at batch 1, length 1; at most 1e-04"):
        check_language_parity(model, {"model": Session(exported("bert-classes")[1] / "m.onnx")})


def test_dimensions_are_fixed_after_the_comparison(saved: Path, tmp_path: Path) -> None:
    answer = export_source(saved / "bert", tmp_path / "m.onnx", fix=["batch=1", "length=16"])
    assert answer["parity"]["lengths"] == (1, 3, 64, 80)
    assert {s.shape for s in Session(tmp_path / "m.onnx").inputs} == {(1, 16)}


def test_opset_and_runtime(saved: Path, tmp_path: Path) -> None:
    answer = export_source(saved / "bert", tmp_path / "m.onnx", target_ort="1.13", opset=14)
    assert answer["opset"] == 14
    assert answer["ir_version"] <= 8
    with pytest.raises(ExportError, match="opset 9 cannot be had: this takes 11 to"):
        export_source(saved / "bert", tmp_path / "n.onnx", opset=9)


def test_a_tokeniser_of_another_model_is_refused(saved: Path, tmp_path: Path, cli: Cli) -> None:
    place = Path(shutil.copytree(saved / "bert", tmp_path / "bert"))
    save_tokenizer(place, words=WORDS + 1)
    answer = cli("export", place, "--out", tmp_path / "out" / "m.onnx")
    assert answer.code == 1
    assert answer.err == (
        f"error: {place / 'tokenizer.json'} has 51 tokens and the model has 50: it is the tokeniser of another model; "
        "put the right one there, or take it away\n"
    )
    (place / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is damaged or no tokeniser"):
        export_source(place, tmp_path / "out" / "m.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_a_model_without_a_tokeniser_is_told(saved: Path, tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "bare"
    place.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(saved / "bert" / name, place)
    answer = cli("export", place, "--out", tmp_path / "m.onnx")
    assert answer.code == 0
    assert f"warning: {place} has no tokenizer.json" in answer.err


def test_files_of_another_model_are_not_overwritten(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("another")
    with pytest.raises(OutputError, match="is there already and belongs to another model; give each model a directory"):
        export_source(saved / "bert", tmp_path / "m.onnx")
    assert (tmp_path / "tokenizer.json").read_text() == "another"
    assert not (tmp_path / "m.onnx").exists()


def test_export_into_the_models_own_directory(saved: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(saved / "bert", tmp_path / "bert"))
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    export_source(place, place / "m.onnx")
    assert {p.name: p.read_bytes() for p in place.iterdir() if p.name != "m.onnx"} == before


def test_a_task_that_the_model_has_no_head_for(saved: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("export", saved / "bert", "--task", "text-clasification", "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert "unknown task 'text-clasification'; did you mean 'text-classification'?" in answer.err
    answer = cli("export", saved / "bert", "--task", "text-classification", "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert "missing classifier.bias" in answer.err
    answer = cli("export", saved / "wav2vec2", "--task", "text-generation", "--out", tmp_path / "m.onnx")
    assert "model type 'wav2vec2' is no model for text-generation" in answer.err


def test_code_that_comes_with_a_model_is_refused(saved: Path, tmp_path: Path, cli: Cli) -> None:
    place = Path(shutil.copytree(saved / "gpt2", tmp_path / "gpt2"))
    said = json.loads((place / "config.json").read_text())
    (place / "modeling.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    (place / "config.json").write_text(json.dumps({**said, "auto_map": {"AutoModelForCausalLM": "modeling.Net"}}))
    answer = cli("export", place, "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert "asks to run Python code of its own (modeling.Net)" in answer.err
    assert not (tmp_path / "touched").exists()


def test_an_architecture_that_says_nothing(saved: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(saved / "bert", tmp_path / "bert"))
    said = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**said, "architectures": None}))
    with pytest.raises(ModelError, match="names no architecture, which says nothing of what the model is for"):
        find_head(place)
    assert find_head(place, "fill-mask") == HEADS["fill-mask"]


def test_a_file_that_is_no_gguf(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "m.gguf").write_bytes(b"<!DOCTYPE html>")
    answer = cli("export", tmp_path / "m.gguf", "--out", tmp_path / "m.onnx")
    assert answer.code == 1
    assert "m.gguf is no GGUF file: it begins with b'<!DO'" in answer.err
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\0" * 60)
    assert "cannot be loaded" in cli("export", tmp_path / "m.gguf", "--out", tmp_path / "m.onnx").err
    assert "is not there" in cli("export", tmp_path / "none.gguf", "--out", tmp_path / "m.onnx").err


def test_what_optimum_cannot_export_is_told(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved / "bert")
    model.config.model_type = "nonesuch"
    with pytest.raises(ExportError, match="optimum does not export 'nonesuch' for feature-extraction"):
        export_language(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
