from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import load_split, resolve_source
from edgekit.data.text.config import TextConfig
from edgekit.data.text.corpus import Corpus, split_corpus
from edgekit.data.text.learn import train_tokenizer
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.errors import DataError
from tests.data.text.conftest import sentences


def texts_of(corpus: Corpus) -> set[str]:
    return set(corpus.texts)


def test_no_text_is_in_two_splits_and_doubles_are_taken_once() -> None:
    texts = sentences(100)
    splits = split_corpus(Corpus("x", (*texts, *texts[:30])))
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 80,
        "test": 10,
        "validation": 5,
        "calibration": 5,
    }
    assert set.union(*map(texts_of, splits.values())) == set(texts)
    again = split_corpus(Corpus("x", (*texts, *texts[:30])))
    assert again["test"].texts == splits["test"].texts


def test_too_few_texts() -> None:
    with pytest.raises(DataError, match=r"holds 3 different texts; at least 20 are needed .* set `separator`"):
        split_corpus(Corpus("x", ("a", "b", "c", "a")))


def test_windows_tell_every_token_but_the_first_once() -> None:
    known = train_tokenizer("bytes", ["x"], 300)
    prepared = TextPreprocessing(known, 5, truncate=False)
    texts = ["abcd", "efgh", "ijk"]
    ids = prepared.windows(texts, "x")["ids"]
    assert ids.shape == (3, 5)
    stream = [i for text in texts for i in (*known.encode([text])[0], 0)]
    assert np.concatenate([ids[0, :1], ids[:, 1:].ravel()]).tolist() == stream[:13]
    assert prepared.characters(ids).tolist() == [4, 4, 4]  # the end of a text is a character


def test_text_shorter_than_a_window() -> None:
    prepared = TextPreprocessing(train_tokenizer("bytes", ["x"], 300), 64, truncate=False)
    with pytest.raises(DataError, match=r"data x has 4 tokens, and one sample needs 64; .* set `length` to at most 4"):
        prepared.windows(["abc"], "x")


def test_padding_and_its_mask() -> None:
    known = train_tokenizer("bytes", ["x"], 300)
    made = TextPreprocessing(known, 4, truncate=True).padded(["ab", "abcdef"], "x")
    ids = known.encode(["abcdef"])[0]
    assert made["ids"].tolist() == [[*ids[:2], 0, 0], [*ids[:4]]]
    assert made["mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_what_ends_a_text_stays_its_last_token() -> None:
    known = train_tokenizer("wordpiece", sentences(40), 200)
    made = TextPreprocessing(known, 6, truncate=True).padded(["the cat sat on the mat and ran"], "x")
    assert [known.raw.id_to_token(i) for i in made["ids"][0]][::5] == ["[CLS]", "[SEP]"]


def test_longer_texts_are_cut_only_when_asked() -> None:
    prepared = TextPreprocessing(train_tokenizer("bytes", ["x"], 300), 4, truncate=False)
    with pytest.raises(DataError) as error:
        prepared.padded(["ab", "abcdef"], "x")
    assert str(error.value) == (
        "data x: 1 of 2 texts have more than 4 tokens (the longest 6); set `truncate: true` to cut them, "
        "or a larger `length`"
    )


def test_an_empty_text() -> None:
    prepared = TextPreprocessing(train_tokenizer("bytes", ["x"], 300), 4, truncate=False)
    with pytest.raises(DataError, match="data x: text 1 is empty; remove it"):
        prepared.padded(["ab", ""], "x")


def test_a_text_file_is_data_to_model(novel: Path) -> None:
    source = resolve_source(f"{{file: {novel}, tokenizer: bytes, length: 16}}")
    assert source.tasks == ("language-modelling", "masked-language-modelling")
    data = source.load(None, "language-modelling")
    assert (str(data.inputs[0]), data.inputs[0].vocabulary) == ("ids: int64 batchxlength", 257)
    test = data.splits["test"]
    assert test.arrays["ids"].shape[1] == 16
    assert test.labels is not None
    assert test.labels.tolist() == [15] * len(test)
    assert data.preprocessing is not None
    facts = data.preprocessing.as_dict()
    assert {k: facts[k] for k in ("kind", "vocabulary", "length")} == {"kind": "text", "vocabulary": 257, "length": 16}


def test_a_table_is_data_to_classify(mails: Path) -> None:
    source = resolve_source(TextConfig(file=str(mails), text="body", label="kind", vocabulary=300, truncate=True))
    assert source.tasks == ("classification", "language-modelling", "masked-language-modelling")
    data = source.load(None, "classification")
    assert [s.name for s in data.inputs] == ["ids", "mask"]
    assert data.classes == ("ham", "spam")
    assert {len(s) for s in data.splits.values()} == {48, 6, 3}
    with pytest.raises(DataError, match="has no classes; name the column"):
        resolve_source(TextConfig(file=str(mails), text="body", vocabulary=300)).load(None, "classification")


def test_the_tokeniser_learns_from_training_texts_only(novel: Path) -> None:
    """A character that only a test text has is unknown."""
    texts = split_corpus(Corpus("x", tuple(novel.read_text().split("\n\n"))))
    novel.write_text(novel.read_text().replace(texts["test"].texts[0], texts["test"].texts[0] + "ß"))
    ids = load_split(f"{{file: {novel}, tokenizer: characters, length: 8}}", "test").arrays["ids"]
    train = load_split(f"{{file: {novel}, tokenizer: characters, length: 8}}", "train").arrays["ids"]
    assert 1 not in train
    assert (ids == 1).sum() <= 1


def test_a_models_tokeniser_takes_the_place_of_the_datas(novel: Path) -> None:
    known = train_tokenizer("bytes", ["x"], 300)
    split = load_split(f"{{file: {novel}, length: 16}}", "test", tokenizer=known)
    assert known.decode(split.arrays["ids"][0]) in novel.read_text().replace("\n\n", "")


def test_the_fingerprint_changes_with_text_and_options(novel: Path) -> None:
    def fingerprint(**options: object) -> str:
        return resolve_source(TextConfig.model_validate({"file": str(novel), **options})).fingerprint(None)

    first = fingerprint()
    assert first == fingerprint()
    assert first != fingerprint(length=64)
    novel.write_text(novel.read_text() + "more")
    assert first != fingerprint()


def test_unknown_names() -> None:
    with pytest.raises(DataError, match=r"unknown data 'fortune'; did you mean 'fortunes'\?"):
        resolve_source("{name: fortune}")
    with pytest.raises(DataError, match=r"unknown tokenizer 'bp'; did you mean 'bpe'\? .*; or the path of a tokenizer"):
        resolve_source("{name: fortunes, tokenizer: bp}")
    with pytest.raises(DataError, match=r"tokenizer no/tokenizer\.json is not there"):
        resolve_source("{file: a.txt, tokenizer: no/tokenizer.json}").fingerprint(None)
