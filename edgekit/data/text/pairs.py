"""Pairs of texts: one to read, one to write, each in the ids of its own tokeniser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.split import Split
from edgekit.data.text.corpus import Corpus
from edgekit.data.text.preprocessing import TextPreprocessing
from edgekit.data.text.tokenizer import FILE, PairTokenizers, TextTokenizer
from edgekit.errors import DataError
from edgekit.specs import Array, TensorSpec

TARGET_FILE = "target-tokenizer.json"
NOTHING = -1  # what fills labels up; as tasks.sequences has it


@dataclass(frozen=True)
class PairPreprocessing:
    """How pairs of texts become ids.

    Attributes:
        tokenizers: Text to ids, on either side.
        length: Tokens of either text, at most, with the one that ends it.
        truncate: Whether longer texts are cut.
    """

    tokenizers: PairTokenizers
    length: int
    truncate: bool

    def as_dict(self) -> dict[str, Any]:
        """As metadata and manifests hold it; the tokenisers themselves are the files of those names beside the model.

        `begin` and `end` are the ids around what is written; `end` of the source's own tokeniser is behind what is
        read, too.
        """
        source, target = self.tokenizers.source, self.tokenizers.target
        return {
            "kind": "pairs",
            "tokenizer": FILE,
            "tokenizer_sha256": source.sha256,
            "vocabulary": source.vocabulary,
            "target_tokenizer": self._target_file,
            "target_tokenizer_sha256": target.sha256,
            "target_vocabulary": target.vocabulary,
            "source_end": _end(source),
            "begin": target.begin,
            "end": _end(target),
            "length": self.length,
            "truncate": self.truncate,
        }

    def companions(self) -> dict[str, str]:
        """Files that belong beside a model: name -> content."""
        return {FILE: self.tokenizers.source.content, self._target_file: self.tokenizers.target.content}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a model gets."""
        source, target = self.tokenizers.source.vocabulary, self.tokenizers.target.vocabulary
        return (
            TensorSpec("source", "int64", ("batch", "length"), source),
            TensorSpec("mask", "int64", ("batch", "length")),
            TensorSpec("target", "int64", ("batch", "target_length"), target),
        )

    def read(self, texts: Sequence[str], name: str) -> dict[str, Array]:
        """Texts to read, an end behind each, filled up to the longest of them.

        Returns:
            "source" and "mask": int64 (n, longest); the mask is 1 where there is text.

        Raises:
            DataError: if a text has no tokens, or more than `length` where none may be cut.
        """
        known = self.tokenizers.source
        rows = [np.append(ids, _end(known)) for ids in _encoded(known, texts, name)]
        source, mask = self._side(known).fill(rows, name)
        return {"source": source, "mask": mask}

    def write(self, texts: Sequence[str], name: str) -> tuple[Array, Array]:
        """Texts to write: what the model gets, behind the id that begins one, and what it has to say.

        Returns:
            "target" and labels: int64 (n, longest) each; labels end with the id that ends a text, then -1.

        Raises:
            DataError: as `read`.
        """
        known = self.tokenizers.target
        rows = [np.append(ids, _end(known)) for ids in _encoded(known, texts, name)]
        ids, mask = self._side(known).fill(rows, name)
        begins = np.full((len(ids), 1), known.begin, dtype=np.int64)
        target = np.concatenate([begins, np.where(mask[:, 1:] == 1, ids[:, :-1], known.pad)], axis=1)
        return target, np.where(mask == 1, ids, NOTHING)

    def split(self, part: Corpus, name: str) -> Split:
        """One split of a corpus of pairs."""
        where = f"{part.name!r}, split {name}"
        target, labels = self.write(part.targets, f"{where}, target")
        return Split(name, {**self.read(part.texts, f"{where}, source"), "target": target}, labels)

    @property
    def _target_file(self) -> str:
        return FILE if self.tokenizers.shared else TARGET_FILE

    def _side(self, tokenizer: TextTokenizer) -> TextPreprocessing:
        return TextPreprocessing(tokenizer, self.length, self.truncate)


def _encoded(tokenizer: TextTokenizer, texts: Sequence[str], name: str) -> list[Array]:
    found = tokenizer.encode(texts)
    empty = next((i for i, ids in enumerate(found) if not len(ids)), None)
    if empty is not None:
        raise DataError(f"data {name}: text {empty} is empty; remove the pair or fill it in")
    return found


def _end(tokenizer: TextTokenizer) -> int:
    if tokenizer.end is None:
        raise DataError(
            "the tokeniser has no token that ends a text, such as <end> or </s>, which pairs of texts need; let one be "
            "learnt, or take another tokenizer.json"
        )
    return tokenizer.end
