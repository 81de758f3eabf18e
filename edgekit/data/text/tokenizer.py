"""Tokenisers of data: texts in batches, and the count of characters that each id stands for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.pretraining import SpecialTokens
from edgekit.errors import DataError, MissingPackageError, brief
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.specs import Array

FILE = "tokenizer.json"
END, BEGIN, PAD = "<end>", "<begin>", "<pad>"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BEGINS = (BEGIN, "<s>", "<bos>", "[CLS]")


class TextTokenizer(Tokenizer):
    """A tokeniser of a tokenizer.json.

    Args:
        content: What its tokenizer.json holds.
        name: Of the file, for messages.

    Raises:
        DataError: if it is no tokenizer.json.
        MissingPackageError: without tokenizers.
    """

    def __init__(self, content: str, name: str = FILE) -> None:
        self.content, library = content, tokenizers_library()
        try:
            super().__init__(library.Tokenizer.from_str(content))
        except Exception as error:  # the library raises its own bare Exception
            reason = brief(error, 200)
            raise DataError(f"{name} is no tokenizer.json of the tokenizers library: {reason}") from error

    @property
    def sha256(self) -> str:
        """Of the tokenizer.json."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    @cached_property
    def begin(self) -> int:
        """The id that a text to write begins behind; the one that ends a text where there is none."""
        found = self.first_id(_BEGINS)
        return found if found is not None else self.end or 0

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[Array]:
        """The ids of each text, int64; `special` adds what the model wants around a text, such as [CLS]."""
        encoded = self.raw.encode_batch_fast(list(texts), add_special_tokens=special)
        return [np.array(e.ids, dtype=np.int64) for e in encoded]

    @cached_property
    def characters(self) -> Array:
        """How many characters each id begins, int64 (vocabulary,).

        An id that holds the rest of a character alone counts 0, so that the sum over a text is the text's length. The
        end of a text counts as one character, as an empty line between two texts would.
        """
        counts = np.zeros(self.vocabulary, dtype=np.int64)
        special = {token.content for token in self.raw.get_added_tokens_decoder().values() if token.special}
        kind = json.dumps(json.loads(self.content).get("pre_tokenizer"))
        by_bytes, space = "ByteLevel" in kind, int("WhitespaceSplit" in kind)  # the space behind a word
        for token, number in self.raw.get_vocab(with_added_tokens=True).items():
            counts[number] = 0 if token in special else _begun(token) if by_bytes else _length(token) + space
        unknown = self.raw.token_to_id(getattr(self.raw.model, "unk_token", None) or "")
        for number in (self.end, unknown):
            if number is not None:
                counts[number] = 1
        return counts

    def special_tokens(self) -> SpecialTokens:
        """The tokens that pretraining by masks needs.

        Raises:
            DataError: if the tokeniser lacks one; WordPiece has them all.
        """
        names = {"first": "[CLS]", "separator": "[SEP]", "mask": "[MASK]", "pad": "[PAD]"}
        found = {key: self.raw.token_to_id(token) for key, token in names.items()}
        lacking = [names[key] for key, number in found.items() if number is None]
        if lacking:
            raise DataError(
                f"the tokeniser has no {', '.join(lacking)}, which masked-language modelling needs; set "
                "`tokenizer: wordpiece`"
            )
        return SpecialTokens(vocabulary=self.vocabulary, **found)


@dataclass(frozen=True)
class PairTokenizers:
    """Two tokenisers.

    Attributes:
        source: Of the texts that are read.
        target: Of those that are written.
    """

    source: TextTokenizer
    target: TextTokenizer

    @property
    def shared(self) -> bool:
        """Whether the two are one."""
        return self.source.content == self.target.content


def load_tokenizer(path: Path) -> TextTokenizer:
    """Read a tokenizer.json, or that of a directory.

    Raises:
        DataError: if it is not there or damaged.
    """
    place = path / FILE if path.is_dir() else path
    if not place.is_file():
        raise DataError(f"tokenizer {place} is not there; name a {FILE}, or the directory that holds it")
    try:
        return TextTokenizer(place.read_bytes().decode("utf-8"), str(place))
    except UnicodeDecodeError as error:
        raise DataError(f"tokenizer {place} is no UTF-8 text (byte {error.start}); get it again") from error


def _begun(token: str) -> int:
    """Characters that begin in a token of bytes; each of its letters stands for one byte (Radford et al. 2019)."""
    return sum(1 for letter in token if _byte_of(letter) & 0xC0 != 0x80)


def _byte_of(letter: str) -> int:
    """The byte that a letter of a byte-level vocabulary stands for; letters beyond U+00FF are moved bytes, in order."""
    code = ord(letter)
    if code < 0x100:
        return code
    return _MOVED[code - 0x100] if code - 0x100 < len(_MOVED) else 0


# Bytes that are no printable Latin-1 letter, in the order in which GPT-2's alphabet moves them up from U+0100 on.
_MOVED = [b for b in range(256) if not (0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF)]


def _length(token: str) -> int:
    """Characters of a token of text; of a byte such as <0xE4> whether a character begins with it."""
    byte = _BYTE.fullmatch(token)
    if byte:
        return int(int(byte[1], 16) & 0xC0 != 0x80)
    return len(token.removeprefix("##"))


def tokenizers_library() -> Any:
    """The tokenizers package.

    Raises:
        MissingPackageError: if it is not there.
    """
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise MissingPackageError("text needs tokenizers; install it: pip install 'edgekit[train]'") from None
    return tokenizers
