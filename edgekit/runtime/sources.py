"""What a person names on a command line -> inputs of a model, and the answers to them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError, brief
from edgekit.runtime.answers import Prediction
from edgekit.runtime.arrays import ARRAY_ERRORS, members_of
from edgekit.runtime.batches import MOST_ROWS
from edgekit.runtime.manifest import Manifest
from edgekit.runtime.model import Model
from edgekit.runtime.texts import MOST_CHARACTERS
from edgekit.specs import Array

STDIN = "-"
MOST_ARRAY_BYTES, MOST_TEXT_BYTES = 4 << 30, 4 * MOST_CHARACTERS
_SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff", ".avif"),
    "text": (".txt",),
    "series": (".wav",),
    "": (".wav",),
}
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Answered:
    """What became of one input.

    Attributes:
        name: What the person called it.
        prediction: The answer, or None.
        error: Why there is none.
    """

    name: str
    prediction: Prediction | None
    error: str = ""


def answer_words(
    model: Model, words: Sequence[str], *, top: int = 5, writing: Mapping[str, Any] | None = None
) -> Iterator[Answered]:
    """Answer what a person names, in batches; an input that is wrong leaves the others alone.

    Args:
        model: Loaded.
        words: Files, folders, "-" for standard input, and for a model of text texts.
        top: Classes to name, at most.
        writing: Arguments of `generate`, for a language model, which goes on from each text.
    """

    def answer(given: Any) -> Any:
        if isinstance(given, InputError):
            raise given
        if model.writes and isinstance(given, str):
            return Prediction(text=model.generate(given, **(writing or {})).text)
        return model.predict(given, top=top)

    found = inputs_named(words, model.manifest)
    while chunk := list(islice(found, 1 if model.writes else MOST_ROWS)):
        try:
            wrong = next((given for _, given in chunk if isinstance(given, InputError)), None)
            answers = [answer(chunk[0][1])] if len(chunk) == 1 else answer(wrong or [given for _, given in chunk])
        except InputError:
            yield from (_answered(answer, name, given) for name, given in chunk)
        else:
            yield from (Answered(name, one) for (name, _), one in zip(chunk, answers, strict=True))


def _answered(answer: Callable[[Any], Prediction], name: str, given: Any) -> Answered:
    try:
        return Answered(name, answer(given))
    except InputError as error:
        return Answered(name, None, str(error))


def inputs_named(words: Sequence[str], manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """(name, what `predict` takes) of each input; in the place of one that cannot be read, the InputError.

    Raises:
        InputError: if a folder holds nothing for the model.
    """
    for word in words:
        path = Path(word)
        if word == STDIN:
            yield from _or_error("stdin", _of_bytes("stdin", sys.stdin.buffer.read(), manifest))
        elif word and _is_there(path) and path.is_dir():
            for file in _files_in(path, manifest):
                yield from _or_error(str(file), _of_file(file, manifest, str(file)))
        else:
            yield from _or_error(word, _of_file(path, manifest, word))


def _or_error(name: str, found: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What one file holds, and why there is no more of it: others are not to suffer from that."""
    try:
        yield from found
    except InputError as error:
        yield name, error


def _kind_of(manifest: Manifest) -> str:
    return str((manifest.preprocessing or {}).get("kind", ""))


def _is_there(path: Path) -> bool:
    """Whether there is such a file; a long text is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _files_in(folder: Path, manifest: Manifest) -> list[Path]:
    suffixes = (*_SUFFIXES.get(_kind_of(manifest), ()), *_ARRAYS)
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror})") from error
    if not found:
        raise InputError(f"{folder} holds no file for this model; it takes {', '.join(suffixes)}")
    return found


def _of_file(path: Path, manifest: Manifest, name: str) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() in _ARRAYS and _is_there(path):
        if os.path.getsize(path) > MOST_ARRAY_BYTES:
            raise InputError(f"{name} has more than {MOST_ARRAY_BYTES:,} bytes; split it")
        yield from _rows_of_arrays(name, path, manifest)
    elif _kind_of(manifest) == "text":
        yield name, _text_named(name, path)
    else:
        yield name, path


def _of_bytes(name: str, content: bytes, manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """What came on standard input: told apart by its first bytes."""
    if content.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        yield from _rows_of_arrays(name, io.BytesIO(content), manifest)
    else:
        yield name, _text_of(name, content) if _kind_of(manifest) == "text" else content


def _text_named(name: str, path: Path) -> str:
    """What a text file holds, or the text that it is itself."""
    if not name or not _is_there(path):
        if path.suffix.lower() in _SUFFIXES["text"] and len(name.split()) == 1:
            raise InputError(f"{name} is not there; name a text file, or give a text")
        return name
    try:
        if os.path.getsize(path) > MOST_TEXT_BYTES:
            raise InputError(f"{name} has more than {MOST_TEXT_BYTES:,} bytes; split it")
        return _text_of(name, path.read_bytes())
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror})") from error


def _text_of(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no UTF-8 text (byte {error.start}); convert it") from error


def _rows_of_arrays(name: str, source: Any, manifest: Manifest) -> Iterator[tuple[str, Any]]:
    found = _loaded(name, source)
    rows = _rows_of(name, found) if isinstance(found, Mapping) else _samples(found, manifest)
    if not rows:
        raise InputError(f"{name} holds no rows")
    for index, row in enumerate(rows):
        yield (f"{name}[{index}]" if len(rows) > 1 else name), row


def _rows_of(title: str, arrays: Mapping[str, Array]) -> Sequence[Mapping[str, Array]]:
    """The rows of all arrays, each with a batch axis of 1."""
    counts = {name: len(a) if a.ndim else 0 for name, a in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{title} holds arrays of different numbers of rows ({listed}); give each the same")
    count = next(iter(counts.values()), 0)
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]


def _loaded(name: str, source: Any) -> Array | Mapping[str, Array]:
    """The array of an .npy, or those of an .npz but for its labels; nothing in it is run."""
    try:
        with source.open("rb") if isinstance(source, Path) else source as file:
            return _read_arrays(name, np.load(file, allow_pickle=False))
    except ARRAY_ERRORS as error:
        raise InputError(f"{name} holds no arrays that can be read ({brief(error, 160)})") from error


def _read_arrays(name: str, found: Any) -> Array | Mapping[str, Array]:
    if isinstance(found, np.ndarray):
        return found
    if sum(member.file_size for member in found.zip.infolist()) > MOST_ARRAY_BYTES:
        raise InputError(f"{name} unpacks to more than {MOST_ARRAY_BYTES:,} bytes; split it")
    return members_of(found, left_out=("labels",))


def _samples(array: Array, manifest: Manifest) -> Sequence[Any]:
    """The samples of one array: what preprocessing starts from, or a batch of prepared ones."""
    kind, main = _kind_of(manifest), manifest.inputs[0]
    if kind == "image":
        if array.dtype.kind == "f" and array.ndim == main.rank and array.shape[1:] == main.shape[1:]:
            return [{main.name: row} for row in array]
        one = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
        return [array] if one else list(array)
    if kind == "series":
        return [array] if array.ndim < 3 else list(array)
    return [{main.name: row} for row in array] if array.ndim == main.rank and array.ndim else [{main.name: array}]
