"""From text to the model's input: the one object that training, calibration, evaluation and generation use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.text.tokenizer import FILE, TextTokenizer
from edgekit.errors import DataError
from edgekit.specs import Array


@dataclass(frozen=True)
class TextPreprocessing:
    """How texts become ids.

    Attributes:
        tokenizer: Text to ids.
        length: Tokens of a sample, at most.
        truncate: Whether longer texts are cut.
    """

    tokenizer: TextTokenizer
    length: int
    truncate: bool

    def as_dict(self) -> dict[str, Any]:
        """As metadata and manifests hold it; the tokeniser itself is the file of that name beside the model."""
        return {
            "kind": "text",
            "tokenizer": FILE,
            "tokenizer_sha256": self.tokenizer.sha256,
            "vocabulary": self.tokenizer.vocabulary,
            "length": self.length,
            "truncate": self.truncate,
        }

    def companions(self) -> dict[str, str]:
        """Files that belong beside a model: name -> content."""
        return {FILE: self.tokenizer.content}

    def windows(self, texts: Sequence[str], name: str) -> dict[str, Array]:
        """Texts one after the other, an end token behind each, cut into full windows.

        A window begins with the last token of the one before it, so that every token but the first is predicted once.

        Args:
            texts: Of one split.
            name: Of the data, for messages.

        Returns:
            "ids": int64 (n, length).

        Raises:
            DataError: if the texts do not fill one window.
        """
        end = [] if self.tokenizer.end is None else [self.tokenizer.end]
        parts = [part for ids in self.tokenizer.encode(texts) for part in (ids, np.array(end, dtype=np.int64))]
        stream = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        count = (len(stream) - 1) // (self.length - 1) if len(stream) else 0
        if count < 1:
            raise DataError(
                f"data {name} has {len(stream)} tokens, and one sample needs {self.length}; add text, or set `length` "
                f"to at most {max(2, len(stream))}"
            )
        starts = np.arange(count)[:, None] * (self.length - 1)
        return {"ids": stream[starts + np.arange(self.length)[None, :]]}

    def padded(self, texts: Sequence[str], name: str) -> dict[str, Array]:
        """Each text as one row, filled up behind a mask to the longest of them.

        Args:
            texts: What to encode, with the tokens around that the model wants.
            name: Of the data, for messages.

        Returns:
            "ids" and "mask": int64 (n, longest); the mask is 1 where there is text.

        Raises:
            DataError: if a text has no tokens, or more than `length` where none may be cut.
        """
        rows = self.tokenizer.encode(texts, special=True)
        empty = next((i for i, row in enumerate(rows) if not len(row)), None)
        if empty is not None:
            raise DataError(f"data {name}: text {empty} is empty; remove it")
        ids, mask = self.fill(rows, name)
        return {"ids": ids, "mask": mask}

    def fill(self, rows: Sequence[Array], name: str) -> tuple[Array, Array]:
        """Rows of ids filled up to the longest of them.

        Args:
            rows: int64 (tokens,) each.
            name: Of the data, for messages.

        Returns:
            ids and mask: int64 (n, longest); the mask is 1 where there is text.

        Raises:
            DataError: if a text has more tokens than `length` where none may be cut.
        """
        lengths = np.array([len(row) for row in rows])
        self._refuse_longer(lengths, name)
        width = int(min(lengths.max(), self.length))
        ids = np.full((len(rows), width), self.tokenizer.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            kept = self._cut(row)
            ids[index, : len(kept)], mask[index, : len(kept)] = kept, 1
        return ids, mask

    def characters(self, ids: Array) -> Array:
        """How many characters the predicted tokens of each window stand for: int64 (n, length) -> int64 (n,)."""
        return np.asarray(self.tokenizer.characters[ids[:, 1:]].sum(axis=1))

    def _cut(self, row: Array) -> Array:
        """The first tokens; a token that ends the text stays its last."""
        if len(row) <= self.length or row[-1] != self.tokenizer.end:
            return row[: self.length]
        return np.concatenate([row[: self.length - 1], row[-1:]])

    def _refuse_longer(self, lengths: Array, name: str) -> None:
        longer = int((lengths > self.length).sum())
        if longer and not self.truncate:
            raise DataError(
                f"data {name}: {longer:,} of {len(lengths):,} texts have more than {self.length} tokens (the longest "
                f"{lengths.max():,}); set `truncate: true` to cut them, or a larger `length`"
            )
