from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import PairTokenizers, load_split, resolve_source
from edgekit.data.text.config import TextConfig
from edgekit.data.text.corpus import Corpus, split_corpus
from edgekit.data.text.documents import read_documents
from edgekit.data.text.learn import train_tokenizer
from edgekit.data.text.pairs import PairPreprocessing
from edgekit.data.text.tokenizer import BEGIN, PAD, TextTokenizer
from edgekit.errors import DataError, RecipeError

TASK = "sequence-to-sequence"


def words(*texts: str) -> TextTokenizer:
    return train_tokenizer("words", texts, 50, more=(BEGIN, PAD))


def letters(*texts: str) -> TextTokenizer:
    return train_tokenizer("characters", texts, 50, more=(BEGIN, PAD))


@pytest.fixture
def prepared() -> PairPreprocessing:
    """Letters a..c are ids 2..4, sounds A..C are 2..4; both end with 0, begin behind 5 and are filled up with 6."""
    return PairPreprocessing(PairTokenizers(letters("abc"), words("A B C")), 5, truncate=False)


def test_what_is_read_ends_and_is_filled_up(prepared: PairPreprocessing) -> None:
    made = prepared.read(["ab", "cab"], "x")
    assert made["source"].tolist() == [[2, 3, 0, 6], [4, 2, 3, 0]]
    assert made["mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_what_is_written_is_asked_for_one_place_later(prepared: PairPreprocessing) -> None:
    target, labels = prepared.write(["A B", "C"], "x")
    assert target.tolist() == [[5, 2, 3], [5, 4, 6]]
    assert labels.tolist() == [[2, 3, 0], [4, 0, -1]]


def test_what_the_card_says(prepared: PairPreprocessing) -> None:
    said = prepared.as_dict()
    assert {k: said[k] for k in ("kind", "vocabulary", "target_vocabulary", "begin", "end", "length")} == {
        "kind": "pairs",
        "vocabulary": 7,
        "target_vocabulary": 7,
        "begin": 5,
        "end": 0,
        "length": 5,
    }
    assert [str(s) for s in prepared.inputs] == [
        "source: int64 batchxlength",
        "mask: int64 batchxlength",
        "target: int64 batchxtarget_length",
    ]
    assert sorted(prepared.companions()) == ["target-tokenizer.json", "tokenizer.json"]


def test_longer_texts_are_cut_only_when_asked(prepared: PairPreprocessing) -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 texts have more than 5 tokens \(the longest 6\); set `truncate: true`"
    ):
        prepared.read(["ab", "abcab"], "x")
    cut = PairPreprocessing(prepared.tokenizers, 5, truncate=True)
    assert cut.read(["abcab"], "x")["source"].tolist() == [[2, 3, 4, 2, 0]]
    assert cut.write(["A B C A B"], "x")[1].tolist() == [[2, 3, 4, 2, 0]]


def test_a_text_of_no_tokens(prepared: PairPreprocessing) -> None:
    with pytest.raises(DataError, match="data x: text 1 is empty; remove the pair or fill it in"):
        prepared.write(["A", "  "], "x")


def test_words_are_what_white_space_parts() -> None:
    known = words("AH0 B AH0", "K")
    ids = known.encode(["K  AH0 Z"])[0]
    assert [known.raw.id_to_token(i) for i in ids] == ["K", "AH0", "<unknown>"]
    assert known.decode(known.encode(["K AH0"])[0]) == "K AH0"
    assert known.characters[known.encode(["K AH0"])[0]].tolist() == [2, 4]  # with the space behind each
    assert (known.begin, known.end, known.pad) == (5, 0, 6)


def test_a_table_of_pairs(pairs: Path) -> None:
    config = TextConfig(file=str(pairs), target="target", tokenizer="characters", target_tokenizer="words", length=12)
    source = resolve_source(config)
    assert source.tasks == (TASK,)
    data = source.load(None, TASK)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 48,
        "test": 6,
        "validation": 3,
        "calibration": 3,
    }
    prepare = data.preprocessing
    assert isinstance(prepare, PairPreprocessing)
    seen: set[str] = set()
    for split in data.splits.values():
        split.matched(data.inputs)
        assert split.labels is not None
        for row, label in zip(split.arrays["source"], split.labels, strict=True):
            word = prepare.tokenizers.source.decode(row)
            assert prepare.tokenizers.target.decode(label[label >= 0]).lower()[::3] == word
            assert word not in seen
            seen.add(word)
    assert len(seen) == 60


def test_one_tokenizer_for_both_sides(pairs: Path) -> None:
    data = resolve_source(f"{{file: {pairs}, target: target, tokenizer: characters}}").load(None, TASK)
    prepare = data.preprocessing
    assert isinstance(prepare, PairPreprocessing)
    assert prepare.tokenizers.shared
    assert list(prepare.companions()) == ["tokenizer.json"]
    assert data.inputs[0].vocabulary == data.inputs[2].vocabulary == prepare.as_dict()["target_vocabulary"]


def test_of_several_targets_for_one_source_the_first_counts() -> None:
    texts = [f"w{i}" for i in range(30)]
    whole = Corpus("x", (*texts, *texts), targets=(*(f"first {t}" for t in texts), *(f"then {t}" for t in texts)))
    splits = split_corpus(whole)
    assert sum(len(part) for part in splits.values()) == 30
    for part in splits.values():
        assert part.targets == tuple(f"first {text}" for text in part.texts)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_other_files_and_names(tmp_path: Path, suffix: str) -> None:
    rows = [("ab", "A B"), ("b", "B")]
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".tsv":
        path.write_text("word\tsounds\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    else:
        path.write_text("".join(json.dumps({"word": a, "sounds": b}) + "\n" for a, b in rows))
    found = read_documents(path, TextConfig(file=str(path), source="word", target="sounds"))
    assert (found.texts, found.targets) == (("ab", "b"), ("A B", "B"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source,other\na,b\n", r"pairs\.csv:2: unknown column 'target'.*allowed: other, source; name .* as `target`"),
        ("from,target\na,b\n", r"pairs\.csv:2: unknown column 'source'.*; name the right one as `source`"),
        ("source,target\na,b\nc,\n", r"pairs\.csv:3: column 'target' is empty; remove the pair or fill it in"),
        ("source,target\n  ,b\n", r"pairs\.csv:2: column 'source' is empty"),
        ("source,target\nc\n", r"pairs\.csv:2: the row has 1 fields, and the first line names 2"),
        ("source,target\n", r"pairs\.csv holds no text"),
        ("", r"pairs\.csv holds no text"),
        ("source,target\na,b\n", r"holds 1 different texts; at least 20 are needed"),
    ],
)
def test_tables_that_are_none_of_pairs(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        resolve_source(TextConfig(file=str(path), target="target")).load(None, TASK)


def test_what_cannot_be_said_of_pairs() -> None:
    for said in ("{file: a.txt, target: x}", "{file: a.csv, target: x, label: y}", "{name: fortunes, target: x}"):
        with pytest.raises(DataError, match=r"`target` is the column of a \.csv, \.tsv, \.jsonl of pairs"):
            resolve_source(said)
    with pytest.raises(DataError, match=r"unknown tokenizer 'word'; did you mean 'words'\?"):
        resolve_source("{file: a.csv, target: x, target_tokenizer: word}")


def test_a_models_tokenisers_take_the_place_of_the_datas(pairs: Path) -> None:
    said = f"{{file: {pairs}, target: target}}"
    known = PairTokenizers(letters("hgfedcba"), words("A0"))
    split = load_split(said, "test", task=TASK, tokenizer=known)
    assert split.arrays["source"].max() <= 11
    assert set(np.unique(split.labels)) <= {-1, 0, 1, 2}  # nearly all sounds are unknown to it
    with pytest.raises(DataError, match="is pairs of texts, and the model is one of single texts"):
        load_split(said, "test", tokenizer=letters("abc"))
    with pytest.raises(DataError, match="is text, and the model takes pairs; name the column `target` to write"):
        load_split(f"{{file: {pairs}, text: source}}", "test", tokenizer=known)


def test_a_tokenizer_without_an_end(tmp_path: Path, pairs: Path) -> None:
    import tokenizers

    known = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    path = tmp_path / "tokenizer.json"
    known.save(str(path))
    source = resolve_source(TextConfig(file=str(pairs), target="target", tokenizer=str(path)))
    with pytest.raises(DataError, match="the tokeniser has no token that ends a text"):
        source.load(None, TASK)


def test_the_fingerprint_knows_both_tokenisers(pairs: Path) -> None:
    said = [TextConfig(file=str(pairs), target="target", target_tokenizer=t) for t in (None, "words", "bytes")]
    assert len({resolve_source(config).fingerprint(None) for config in said}) == 3


def test_a_family_of_single_texts(pairs: Path, tmp_path: Path) -> None:
    from edgekit.recipe import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nfamily: gpt\ndata: {{file: {pairs}, target: target}}\n")
    with pytest.raises(RecipeError, match=r"is for sequence-to-sequence; family 'gpt' does language-modelling"):
        load_recipe(path)
