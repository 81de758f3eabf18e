"""Models of text that know fewer tokens, or take shorter texts, and give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compress.prune.length import limit_length
from edgekit.compress.prune.tokens import trim_tokenizer
from edgekit.compress.prune.vocabulary import trim_vocabulary
from edgekit.data.text.beside import find_tokenizer, told_of
from edgekit.data.text.learn import train_tokenizer
from edgekit.data.text.tokenizer import TextTokenizer
from edgekit.errors import CompressError
from edgekit.export import export_source
from edgekit.ort import Session
from tests.data.text.conftest import sentences
from tests.generate.conftest import written  # noqa: F401  a pico GPT
from tests.load.language_models import WORDS, save_model

ALL = [*sentences(300), "Zebra crossing, über 7 quick jumps?!"]
FEW = ["the cat sat on the mat 1.", "a dog ran over it"]


@pytest.mark.parametrize("kind", ["bpe", "bytes", "wordpiece", "characters"])
def test_texts_of_kept_tokens_are_read_as_before(kind: str) -> None:
    whole = train_tokenizer(kind, ALL, 400)
    cut = trim_tokenizer(whole, FEW)
    assert np.all(np.diff(cut.kept) > 0)
    assert cut.tokenizer.vocabulary == len(cut.kept) <= whole.vocabulary
    for before, after in zip(whole.encode(FEW, special=True), cut.tokenizer.encode(FEW, special=True), strict=True):
        np.testing.assert_array_equal(cut.kept[after], before)
    assert (cut.tokenizer.end, cut.tokenizer.pad) == tuple(
        int(np.flatnonzero(cut.kept == old)[0]) for old in (whole.end, whole.pad)
    )
    if kind in ("bpe", "wordpiece"):
        assert len(cut.kept) < whole.vocabulary


def test_no_byte_becomes_unknown() -> None:
    cut = trim_tokenizer(train_tokenizer("bpe", ALL, 400), FEW).tokenizer
    strange = "Zebra über 日本 \x00"
    assert cut.decode(cut.encode([strange])[0]) == strange


def test_unigrams_keep_their_scores() -> None:
    from tokenizers import Tokenizer, models

    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.5), ("ab", -1.2), ("c", -3.0)]
    whole = TextTokenizer(Tokenizer(models.Unigram(pieces, unk_id=0)).to_str())
    cut = trim_tokenizer(whole, ["abab", "a"])
    assert cut.kept.tolist() == [0, 1, 3]
    assert [ids.tolist() for ids in cut.tokenizer.encode(["abab", "ac"])] == [[2, 2], [1, 0]]


@pytest.mark.parametrize("file", ["gpt.onnx", "cache.onnx"])
def test_a_language_model(written: Path, tmp_path: Path, file: str) -> None:  # noqa: F811
    done = trim_vocabulary(written / file, tmp_path / "small.onnx", FEW)
    assert (done.before, done.size_after < done.size_before) == (320, True)
    old, new = Session(written / file), Session(tmp_path / "small.onnx")
    small = find_tokenizer(tmp_path / "small.onnx", told_of(new.metadata))
    assert small.vocabulary == done.after == new.outputs[0].shape[-1]
    ids, before = small.encode(FEW[:1])[0], find_tokenizer(written / file, told_of(old.metadata)).encode(FEW[:1])[0]
    past = {s.name: np.zeros((1, 2, 0, 16), np.float32) for s in old.inputs[1:]}
    wanted = old.run({"ids": before[None], **past})[0]
    got = new.run({"ids": ids[None], **past})[0]
    kept = trim_tokenizer(find_tokenizer(written / file, told_of(old.metadata)), FEW).kept
    np.testing.assert_allclose(got, wanted[..., kept], atol=1e-5)
    assert done.max_rel < 1e-5


def test_by_the_command(written: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:  # noqa: F811
    (tmp_path / "few.txt").write_text("\n\n".join(FEW), encoding="utf-8")
    asked = ("prune", written / "gpt.onnx", "--method", "vocabulary", "--out", tmp_path / "small.onnx")
    answer = cli(*asked, "--data", tmp_path / "few.txt", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json()["before"], answer.json()["after"] < 320) == (320, True)
    assert Session(tmp_path / "small.onnx").outputs[0].shape[-1] == answer.json()["after"]
    for flags, words in (
        ([], "name them: --data texts.txt"),
        (["--ratio", "0.5"], "--ratio does not go with --method vocabulary"),
        (["--data", "digits"], "--data digits is no text"),
    ):
        refused = cli(*asked, *flags)
        assert refused.code == 2
        assert words in " ".join(refused.err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["llama", "bert-classes", "gpt2"])
def test_models_of_others(tmp_path: Path, name: str) -> None:
    export_source(save_model(name, tmp_path), tmp_path / "whole" / "m.onnx")
    done = trim_vocabulary(tmp_path / "whole" / "m.onnx", tmp_path / "m.onnx", ["a b c word3"])
    assert (done.before, done.max_rel < 1e-5) == (WORDS, True)
    assert done.after < WORDS
    assert done.size_after < done.size_before


def test_what_is_quantised_or_used_whole(written: Path, tmp_path: Path) -> None:  # noqa: F811
    from edgekit.compress import OnnxStep
    from edgekit.compress.quantize.int4 import Int4Config, quantize_int4

    quantize_int4(Int4Config(min_elements=64), OnnxStep(model=written / "gpt.onnx", out=tmp_path / "q.onnx"))
    with pytest.raises(CompressError, match="cut the vocabulary of a model of text, before quantising it"):
        trim_vocabulary(tmp_path / "q.onnx", tmp_path / "x.onnx", FEW, written / "tokenizer.json")
    known = find_tokenizer(written / "gpt.onnx", {})
    everything = [known.decode([i]) for i in range(known.vocabulary)]
    with pytest.raises(CompressError, match="there is nothing to leave out"):
        trim_vocabulary(written / "gpt.onnx", tmp_path / "x.onnx", everything)
    assert not (tmp_path / "x.onnx").exists()


def test_a_shorter_longest_text(written: Path, tmp_path: Path) -> None:  # noqa: F811
    done = limit_length(written / "gpt.onnx", tmp_path / "short.onnx", 40)
    assert (done["before"], done["after"], len(done["tables"])) == (128, 40, 1)
    assert done["size_before"] - done["size_after"] == pytest.approx((128 - 40) * 32 * 4, abs=600)
    old, new = Session(written / "gpt.onnx"), Session(tmp_path / "short.onnx")
    ids = np.arange(80).reshape(2, 40)
    np.testing.assert_allclose(new.run({"ids": ids})[0], old.run({"ids": ids})[0], atol=1e-6)
    assert new.metadata["edgekit.longest"] == "40"
    with pytest.raises(CompressError, match=r"a lower limit is 2 to 127, got 128"):
        limit_length(written / "gpt.onnx", tmp_path / "x.onnx", 128)


@pytest.mark.parametrize("name", ["llama", "bert-classes", "gpt2"])
def test_shorter_texts_for_models_of_others(tmp_path: Path, name: str) -> None:
    export_source(save_model(name, tmp_path), tmp_path / "whole" / "m.onnx")
    done = limit_length(tmp_path / "whole" / "m.onnx", tmp_path / "m.onnx", 33)
    assert (done["before"], done["after"]) == (80, 33)
    assert len(done["tables"]) == (0 if name == "llama" else 1)


Cli = Callable[..., Any]
