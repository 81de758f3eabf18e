from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.data.text.learn import KINDS, train_tokenizer
from edgekit.data.text.tokenizer import TextTokenizer, load_tokenizer
from edgekit.errors import DataError
from tests.data.text.conftest import sentences

TEXTS = [*sentences(40), "Grüße aus Köln: 5 €!", "日本語"]
LOSSLESS = ("characters", "bytes", "bpe")


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", ["the cat sat.", "Köln 5 €", "日本語", "a  b\n\tc ", ""])
def test_text_comes_back_and_its_characters_are_counted(kind: str, text: str) -> None:
    known = train_tokenizer(kind, [*TEXTS, "\n\t"], 400)
    ids = known.encode([text])[0]
    assert known.decode(ids) == text
    assert int(known.characters[ids].sum()) == len(text)
    assert ids.dtype == np.int64
    assert not len(ids) or ids.max() < known.vocabulary


def test_what_the_kinds_are_made_of() -> None:
    made = {kind: train_tokenizer(kind, TEXTS, 300) for kind in KINDS}
    assert made["bytes"].vocabulary == 257
    assert made["bpe"].vocabulary == 300
    assert made["characters"].vocabulary == 2 + len(set("".join(TEXTS)))
    assert made["wordpiece"].vocabulary <= 300
    assert len(made["bpe"].encode(TEXTS[:1])[0]) < len(made["bytes"].encode(TEXTS[:1])[0]) == len(TEXTS[0])
    assert [made[k].end for k in LOSSLESS] == [0, 0, 0]


def test_wordpiece_is_berts() -> None:
    known = train_tokenizer("wordpiece", TEXTS, 200)
    tokens = [known.raw.id_to_token(i) for i in known.encode(["The CAT sat"], special=True)[0]]
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert "cat" in tokens
    assert (known.pad, known.raw.id_to_token(known.end)) == (0, "[SEP]")
    assert known.decode(known.encode(["The CAT sat"])[0]) == "the cat sat"


def test_rare_characters_are_unknown_and_count_one_each() -> None:
    known = train_tokenizer("characters", ["aaaabbb", "cc", "d"], 4)
    ids = known.encode(["abcd!"])[0]
    assert ids.tolist() == [2, 3, 1, 1, 1]
    assert int(known.characters[ids].sum()) == 5


def test_a_text_that_spells_the_end_token_does_not_end() -> None:
    known = train_tokenizer("bytes", TEXTS, 300)
    ids = known.encode(["a<end>b"])[0]
    assert known.end not in ids
    assert known.decode(ids) == "a<end>b"
    assert int(known.characters[known.end]) == 1


def test_it_is_the_same_each_time_and_from_its_file(tmp_path: Path) -> None:
    first, again = (train_tokenizer("bpe", TEXTS, 300) for _ in range(2))
    assert first.sha256 == again.sha256
    (tmp_path / "tokenizer.json").write_text(first.content, encoding="utf-8")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(place).encode(TEXTS)[3].tolist() == first.encode(TEXTS)[3].tolist()


@pytest.mark.parametrize(("kind", "least"), [("bpe", 257), ("wordpiece", 7)])
def test_a_vocabulary_that_is_too_small(kind: str, least: int) -> None:
    with pytest.raises(DataError, match=rf"^a {kind} tokeniser needs a vocabulary of at least {least}, got 5$"):
        train_tokenizer(kind, TEXTS, 5)


def test_files_that_are_no_tokeniser(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there; name a tokenizer\.json"):
        load_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    for content in (b"{}", b"<html>", b"", b'{"model": 5}'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"tokenizer\.json is no tokenizer.json of the tokenizers library"):
            load_tokenizer(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"is no UTF-8 text \(byte 0\)"):
        load_tokenizer(path)


def test_every_byte_is_counted_once_whatever_its_letter_is() -> None:
    """UTF-8 of one to four bytes, in a tokeniser that knows bytes only."""
    known = train_tokenizer("bytes", ["x"], 300)
    text = "".join(chr(c) for c in (*range(1, 0x180), 0x3B1, 0x20AC, 0xFFFD, 0x1F600))
    ids = known.encode([text])[0]
    assert len(ids) == len(text.encode())
    assert int(known.characters[ids].sum()) == len(text)
    assert isinstance(known, TextTokenizer)


def test_the_same_texts_give_the_same_pieces() -> None:
    """The library numbers letters by a hash map of random order: a training could not go on with another tokeniser."""
    made = {train_tokenizer("wordpiece", TEXTS, 120).sha256 for _ in range(8)}
    assert len(made) == 1
    content = json.loads(train_tokenizer("wordpiece", TEXTS, 120).content)
    assert [token["content"] for token in content["added_tokens"]] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(content["model"]["vocab"]) <= 120


def test_a_word_of_millions_of_letters_takes_seconds() -> None:
    known = train_tokenizer("bpe", ["y" * 1_000_000, "hello there"], 300)
    assert len(known.encode(["y" * 20_000])[0]) <= 8
    assert known.decode([int(i) for i in known.encode(["y" * 20_000])[0]]) == "y" * 20_000
