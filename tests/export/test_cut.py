"""`edgekit export` of models of text that know fewer tokens and take shorter texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.text.conftest import sentences
from tests.load.language_models import WORDS, save_model

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cut")
    save_model("llama", place)
    texts = [text.replace("s", "b") for text in sentences(120)]
    (place / "novel.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return place


def export(cli: Cli, source: Path, out: Path, *options: object) -> dict[str, Any]:
    answer = cli("export", source, "--out", out, *options, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = answer.json()
    return found


def test_both_cuts_of_a_hugging_face_model(here: Path, tmp_path: Path, cli: Cli) -> None:
    out, text = tmp_path / "small" / "m.onnx", here / "novel.txt"
    done = export(cli, here / "llama", out, "--trim-vocabulary", text, "--max-length", 40)
    assert done["vocabulary"]["before"] == WORDS
    assert done["vocabulary"]["tokenizer"] == done["tokenizer"]
    assert done["vocabulary"]["after"] < WORDS
    assert (done["max_length"]["before"], done["max_length"]["after"]) == (80, 40)
    assert (done["path"], done["tokenizer"]) == (str(out), str(out.parent / "tokenizer.json"))
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "config.json",
        "generation_config.json",
        "m.onnx",
        "tokenizer.json",
    ]
    assert json.loads((out.parent / "config.json").read_text())["vocab_size"] == done["vocabulary"]["after"]
    fits = cli("eval", out, "--data", f"{{file: {text}, length: 32}}", "--json")
    assert fits.code == 0, fits.err
    long = cli("eval", out, "--data", f"{{file: {text}, length: 64}}")
    assert long.code == 1
    assert f"texts of 64 tokens, and {out} takes 40 at most; set `length: 40`" in long.err
    written = cli("generate", out, "the cat", "--max-tokens", 5, "--json")
    assert written.code == 0, written.err
    assert written.json()["longest"] == 40
    assert written.json()["longest_cache_bytes"] == 40 * written.json()["cache_bytes_per_token"]


def test_a_file_that_is_onnx_already(here: Path, tmp_path: Path, cli: Cli) -> None:
    export(cli, here / "llama", tmp_path / "whole" / "m.onnx")
    done = export(
        cli, tmp_path / "whole" / "m.onnx", tmp_path / "m.onnx", "--trim-vocabulary", f"{{file: {here / 'novel.txt'}}}"
    )
    assert done["vocabulary"]["size_after"] < done["vocabulary"]["size_before"]
    short = export(cli, tmp_path / "m.onnx", tmp_path / "short" / "m.onnx", "--max-length", 20)
    assert short["max_length"]["after"] == 20
    assert (tmp_path / "short" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_what_is_no_text_and_what_is_no_limit(here: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("export", here / "llama", "--out", tmp_path / "m.onnx", "--trim-vocabulary", "digits")
    assert answer.code == 2
    answer = cli("export", here / "llama", "--out", tmp_path / "m.onnx", "--max-length", 80)
    assert answer.code == 1
    assert "takes texts of at most 80 tokens; a lower limit is 2 to 79, got 80" in answer.err
    assert list(tmp_path.iterdir()) == []
