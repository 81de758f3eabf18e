"""Text of the user: .txt, .csv, .tsv and .jsonl files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

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
    kinds = [_cell(row, config.label, "label", place) for place, row in rows]
    return labelled(str(path), [texts[i] for i in kept], [kinds[i] for i in kept])


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
        DataError: if it is not there, too large, or no UTF-8; the message tells the byte.
    """
    if not path.is_file():
        raise DataError(f"data {path} is not there; give a text file or the name of a data set (`edgekit list data`)")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"data {path} has {size:,} bytes; at most {MAX_BYTES:,} are read, give a part of it")
    return decode(path.read_bytes(), str(path)).removeprefix("\ufeff").replace("\r\n", "\n")


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
    reader = csv.DictReader(io.StringIO(whole, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; save it as comma-separated values with quotes") from error


def _json_lines(whole: str, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(whole.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: is no JSON ({error}); a .jsonl holds one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: got {type(row).__name__}; a .jsonl holds one object a line")
        yield f"{path}:{number}", row


def _cell(row: Mapping[str, object], column: str, key: str, place: str) -> str:
    """One value of a row; `key` is what the recipe calls the column."""
    if column not in row:
        named = [str(name) for name in row if name is not None]
        raise DataError(f"{place}: {unknown('column', column, named)}; name the right one as `{key}`")
    value = row[column]
    if not isinstance(value, (str, int, float, bool)):
        raise DataError(f"{place}: column {column!r} holds {value!r}; it must hold text")
    return str(value)


def _not_empty(found: list[T], path: Path) -> list[T]:
    if not found:
        raise DataError(f"data {path} holds no text; give a file with text in it")
    return found
