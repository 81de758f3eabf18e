"""A corpus: texts, with a class each where there are classes, split text by text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.data.split import SPLIT_SEED
from edgekit.errors import DataError
from edgekit.specs import Array

# Shares of the texts, in the order in which they are cut off; the rest is for training.
_SHARES = {"test": 0.1, "validation": 0.05, "calibration": 0.05}
LEAST_TEXTS = 20


@dataclass(frozen=True)
class Corpus:
    """Texts.

    Attributes:
        name: Of the corpus or file, for messages.
        texts: Each is one document.
        labels: int64 (n,); None where there are no classes.
        classes: Their names, in the order of the labels.
        targets: A text to write for each; () where there are none.
    """

    name: str
    texts: tuple[str, ...]
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Array) -> Corpus:
        """The texts with these numbers."""
        labels = None if self.labels is None else self.labels[indices]
        targets = tuple(self.targets[i] for i in indices) if self.targets else ()
        return Corpus(self.name, tuple(self.texts[i] for i in indices), labels, self.classes, targets)


def split_corpus(corpus: Corpus) -> dict[str, Corpus]:
    """Cut a corpus into disjoint splits, the same on every machine: no text is in two of them.

    Texts that are there more than once are taken once, so that none of the test texts was seen in training; of several
    labels or targets for one text it is the first.

    Raises:
        DataError: for fewer different texts than four splits need.
    """
    single = _once_each(corpus)
    if len(single) < LEAST_TEXTS:
        raise DataError(
            f"data {corpus.name!r} holds {len(single)} different texts; at least {LEAST_TEXTS} are needed for four "
            "disjoint splits; add text, or set `separator` to what stands between two texts of a .txt"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(single))
    splits, start = {}, 0
    for name, share in _SHARES.items():
        stop = start + max(1, round(share * len(single)))
        splits[name] = single.take(order[start:stop])
        start = stop
    return {"train": single.take(order[start:]), **splits}


def _once_each(corpus: Corpus) -> Corpus:
    first = {text: index for index, text in reversed(list(enumerate(corpus.texts)))}
    return corpus.take(np.array(sorted(first.values()), dtype=np.int64))


def labelled(name: str, texts: list[str], kinds: list[str]) -> Corpus:
    """A corpus of texts with the name of its class each; classes are numbered by the alphabet.

    Raises:
        DataError: if there are fewer than two classes, or each text has one of its own.
    """
    classes = tuple(sorted(set(kinds)))
    if len(classes) == len(texts) >= LEAST_TEXTS:
        raise DataError(
            f"data {name!r} has {len(texts):,} texts and as many classes, such as {classes[0]!r}; name a column whose "
            "values are there more than once as `label`"
        )
    if len(classes) < 2:
        raise DataError(f"data {name!r} has one class only ({', '.join(classes) or 'none'}); at least two are needed")
    numbers = {kind: index for index, kind in enumerate(classes)}
    return Corpus(name, tuple(texts), np.array([numbers[k] for k in kinds], dtype=np.int64), classes)
