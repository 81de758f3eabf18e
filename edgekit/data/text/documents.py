"""Text of the user: .txt, .csv, .tsv and .jsonl files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgekit.data.text.config import TextConfig
from edgekit.data.text.corpus import Corpus, labelled
from edgekit.errors import DataError, unknown

T = TypeVar("T")
MAX_BYTES = 1 << 30
_LONGEST_FIELD = 1 << 24


def read_documents(path: Path, config: TextConfig) -> Corpus:
    """The texts of a file.

    Args:
        path: A .txt, whose texts the separator parts, a .csv or .tsv with a line of names, or a .jsonl.
        config: Names of the columns, or what parts the texts.

    Raises:
        DataError: if it is not there, too large, empty, no UTF-8, or lacks the columns.
    """
    whole = read_text(path)
    if path.suffix == ".txt":
        texts = [part.strip("\r\n") for part in whole.split(config.separator)]
        return Corpus(str(path), tuple(_not_empty([t for t in texts if t.strip()], path)))
    rows = list(_json_lines(whole, path) if path.suffix == ".jsonl" else _table(whole, path))
    if config.target is not None:
        return _pairs(rows, config.source, config.target, path)
    texts = [_cell(row, config.text, "text", place) for place, row in rows]
    kept = [index for index, text in enumerate(texts) if text.strip()]
    _not_empty(kept, path)
    if config.label is None:
        return Corpus(str(path), tuple(texts[i] for i in kept))
    kinds = [_kind(rows[i][1], config.label, rows[i][0]) for i in kept]
    return labelled(str(path), [texts[i] for i in kept], kinds)


def _pairs(rows: Sequence[tuple[str, Mapping[str, object]]], source: str, target: str, path: Path) -> Corpus:
    """Pairs of texts; unlike a text without a pair, an empty one is no gap between others but a mistake."""
    _not_empty(list(rows), path)
    sides = []
    for column, key in ((source, "source"), (target, "target")):
        texts = [_cell(row, column, key, place).strip() for place, row in rows]
        empty = next((place for text, (place, _) in zip(texts, rows, strict=True) if not text), None)
        if empty:
            raise DataError(f"{empty}: column {column!r} is empty; remove the pair or fill it in")
        sides.append(tuple(texts))
    return Corpus(str(path), sides[0], targets=sides[1])


def read_text(path: Path) -> str:
    """A text file as it is, a byte order mark taken off.

    Raises:
        DataError: if it is not there, too large, or no UTF-8 text; the message tells the byte.
    """
    if not path.is_file():
        raise DataError(f"data {path} is not there; give a text file or the name of a data set (`edgekit list data`)")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"data {path} has {size:,} bytes; at most {MAX_BYTES:,} are read, give a part of it")
    content = path.read_bytes()
    zero = content.find(b"\0")
    if zero >= 0:  # of bytes that are no UTF-16, it would end up in a token and nobody would know
        raise DataError(
            f"data {path} is no UTF-8 text: byte {zero} is 0x00, as in UTF-16 and in files of programs; save it as "
            "UTF-8, for example with: iconv -f UTF-16 -t UTF-8"
        )
    return decode(content, str(path)).removeprefix("\ufeff").replace("\r\n", "\n")


def decode(content: bytes, name: str) -> str:
    """UTF-8 to text.

    Raises:
        DataError: for other bytes, with the place of the first.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = content[error.start]
        raise DataError(
            f"data {name} is no UTF-8 text: byte {error.start} is 0x{wrong:02x} ({error.reason}); "
            "save it as UTF-8, for example with: iconv -f LATIN1 -t UTF-8"
        ) from error


def _table(whole: str, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row, with the line it stands on."""
    csv.field_size_limit(_LONGEST_FIELD)
    # quotes of a .tsv are often part of the text
    how: dict[str, Any] = {"delimiter": "\t"} if path.suffix == ".tsv" else {"strict": True}
    reader = csv.reader(io.StringIO(whole, newline=""), **how)
    try:
        names = _names(next(reader, []), path)
        for row in filter(None, reader):
            place = f"{path}:{reader.line_num}"
            if len(row) != len(names):
                raise DataError(
                    f"{place}: the row has {len(row)} fields, and the first line names {len(names)}; put a text with "
                    "commas, quotes or line ends in it between quotes"
                )
            yield place, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; save it as comma-separated values with quotes") from error


def _names(first: list[str], path: Path) -> list[str]:
    """The names of the columns.

    Raises:
        DataError: if two are the same.
    """
    twice = next((name for name in first if first.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}:1: column {twice!r} is there {first.count(twice)} times; give each a name of its own")
    return first


def _json_lines(whole: str, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(whole.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: is no JSON ({error}); a .jsonl holds one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: got {type(row).__name__}; a .jsonl holds one object a line")
        yield f"{path}:{number}", row


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no value of it")


def _cell(row: Mapping[str, object], column: str, key: str, place: str) -> str:
    """One value of a row; `key` is what the recipe calls the column."""
    if column not in row:
        named = [str(name) for name in row]
        parted = "; a .csv parts columns by commas, a .tsv by tabs" if _looks_parted(named) else ""
        raise DataError(f"{place}: {unknown('column', column, named)}; name the right one as `{key}`{parted}")
    value = row[column]
    if not isinstance(value, (str, int, float, bool)):
        raise DataError(f"{place}: column {column!r} holds {value!r}; it must hold text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise DataError(f"{place}: column {column!r} holds half a character ({half!a}); write it out again") from None
    return text


def _looks_parted(names: Sequence[str]) -> bool:
    """Whether the one name of a table is really several."""
    return len(names) == 1 and any(sign in names[0] for sign in ";,|\t")


def _kind(row: Mapping[str, object], column: str, place: str) -> str:
    """The class of a text."""
    kind = _cell(row, column, "label", place)
    if not kind.strip():
        raise DataError(f"{place}: column {column!r} is empty; fill the class in or remove the row")
    return kind


def _not_empty(found: list[T], path: Path) -> list[T]:
    if not found:
        raise DataError(f"data {path} holds no text; give a file with text in it")
    return found
