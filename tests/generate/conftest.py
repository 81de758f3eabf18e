from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import progress
from edgekit.export import export_source
from edgekit.training.request import train_family
from tests.data.text.conftest import sentences, spelled


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico GPT of a text file: `checkpoint`, `gpt.onnx` and `cache.onnx`; only to be read."""
    place = tmp_path_factory.mktemp("gpt")
    (place / "novel.txt").write_text("\n\n".join(sentences(400)), encoding="utf-8")
    progress.set_quiet(True)
    data = f"{{file: {place / 'novel.txt'}, tokenizer: bpe, vocabulary: 320, length: 32}}"
    train_family("gpt", "pico", data, place / "checkpoint", {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2})
    export_source(place / "checkpoint", place / "gpt.onnx")
    export_source(place / "checkpoint", place / "cache.onnx", part="cache")
    return place


@pytest.fixture(scope="session")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico transformer of pairs: `checkpoint`, `whole.onnx`, and encoder and decoder, each also with a cache; to be
    read only.
    """
    place = tmp_path_factory.mktemp("spelling")
    (place / "pairs.csv").write_text(spelled(700), encoding="utf-8")
    progress.set_quiet(True)
    options = {"epochs": 6, "batch_size": 16, "learning_rate": 1e-2}
    train_family("transformer", "pico", pairs_in(place), place / "checkpoint", options)
    export_source(place / "checkpoint", place / "whole.onnx")
    for part in ("encoder", "decoder", "encoder-cache", "decoder-cache"):
        export_source(place / "checkpoint", place / f"{part}.onnx", part=part)
    return place


def pairs_in(place: Path) -> str:
    """The data of `spelling`."""
    return f"{{file: {place / 'pairs.csv'}, target: target, tokenizer: characters, target_tokenizer: words}}"
