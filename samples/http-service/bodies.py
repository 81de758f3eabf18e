"""The body of a request -> what the model's `predict` takes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import numpy as np
from fastapi import Request
from starlette.exceptions import HTTPException

from edgekit.errors import InputError
from edgekit.runtime import Manifest

_BYTES = ("image/", "audio/", "application/octet-stream")
_WANTED = {
    "image": "a picture: send it as image/*, or a form with a file",
    "series": "a series: send a sound as audio/*, or arrays as application/json",
    "text": 'a text: send it as text/plain, or {"text": "..."} as application/json',
}


class Unreadable(Exception):  # noqa: N818 - the client's, not ours
    """A body that cannot be read.

    Args:
        code: HTTP status.
        reason: For the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


async def read_input(request: Request, manifest: Manifest) -> Any:
    """One input.

    Raises:
        Unreadable: if the body is not what its Content-Type says, or that is unknown.
        InputError: if it is not what the model takes.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return _of_json(await request.body(), manifest)
    if kind == "multipart/form-data":
        return _file(await _of_form(request), manifest)
    if kind == "text/plain":
        return _text(_decoded(await request.body()), manifest)
    if kind.startswith(_BYTES):
        return _file(await request.body(), manifest)
    raise Unreadable(
        415,
        f"Content-Type {kind or 'is missing'}; send a picture as image/*, a form with a file as multipart/form-data, "
        "arrays or text as application/json, or text/plain",
    )


async def _of_form(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise Unreadable(400, "the form has no file; name its field 'file'")
            return await file.read()
    except HTTPException as error:  # Starlette's word for a form that it cannot take apart
        raise Unreadable(400, f"the form cannot be read ({error.detail})") from error


def _file(content: bytes, manifest: Manifest) -> bytes:
    if _kind_of(manifest) == "text":
        raise InputError(f"the model takes {_WANTED['text']}")
    return content


def _text(given: Any, manifest: Manifest) -> str:
    """A text for a model of text; to any other a text is the path of a file, and those here are not the client's."""
    if _kind_of(manifest) != "text":
        arrays = f'arrays as application/json, {{"inputs": {{name: array}}}}: {_names(manifest)}'
        raise InputError(f"the model takes no text but {_WANTED.get(_kind_of(manifest), arrays)}")
    if not isinstance(given, str):
        raise InputError(f'"text" must be a text, got {type(given).__name__}')
    if any(0xD800 <= ord(character) < 0xE000 for character in given):
        raise InputError("the text holds half a character (a lone surrogate); send whole ones")
    return given


def _kind_of(manifest: Manifest) -> str:
    return str((manifest.preprocessing or {}).get("kind", ""))


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(400, f"the text is no UTF-8 (byte {error.start})") from error


def _of_json(body: bytes, manifest: Manifest) -> Any:
    try:
        told = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        reason = (
            "too deep" if isinstance(error, RecursionError) else " ".join(str(error).partition(";")[0].split())[:160]
        )
        raise Unreadable(400, f"the body is no JSON ({reason})") from error
    if not isinstance(told, dict) or len(told) != 1 or not told.keys() & {"inputs", "text"}:
        raise InputError('the JSON must be {"inputs": {name: array}} or {"text": "..."}')
    if "text" in told:
        return _text(told["text"], manifest)
    if not isinstance(told["inputs"], dict):
        raise InputError(f'"inputs" must be {{name: array}}; the model takes {_names(manifest)}')
    return {name: _array(name, value, manifest) for name, value in told["inputs"].items()}


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _array(name: str, value: Any, manifest: Manifest) -> Any:
    spec = next((spec for spec in manifest.inputs if spec.name == name), None)
    if spec is None:
        raise InputError(f"the model has no input {name!r}; it takes {_names(manifest)}")
    try:
        found = np.asarray(value)
    except ValueError:
        raise InputError(f"inputs.{name} is no array: its rows differ in length, or it is too deep") from None
    if found.dtype.kind not in "iufb" or (found.dtype.kind == "f" and np.dtype(spec.dtype).kind in "iu"):
        raise InputError(f"inputs.{name} must hold numbers for {spec.dtype}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with the other infinities
        array = found.astype(spec.dtype)
    if array.dtype.kind in "iu" and (array != found).any():
        raise InputError(f"inputs.{name} holds numbers that {spec.dtype} does not reach")
    return array


def _names(manifest: Manifest) -> str:
    return ", ".join(f"{s.name} {s.dtype}[{', '.join(map(str, s.shape))}]" for s in manifest.inputs)
