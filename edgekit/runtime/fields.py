"""JSON objects whose fields are what they have to be; what is wrong is named by its place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from edgekit.errors import BundleError, brief

T = TypeVar("T")
_REQUIRED: Any = object()
_KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
}


class Fields:
    """A JSON object.

    Args:
        value: What json.loads gave.
        file: Its file, for messages.
        place: Where in the file, such as "variants[0]"; "" for all of it.

    Raises:
        BundleError: if it is no object.
    """

    def __init__(self, value: Any, file: str, place: str = "") -> None:
        self._file, self._place = file, place
        self.raw: dict[str, Any] = self._typed(value, dict, "")

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A text."""
        return str(self._get(key, str, default))

    def whole(self, key: str, default: int = _REQUIRED, least: int = 0) -> int:
        """A whole number, not below `least`."""
        found = int(self._get(key, int, default))
        if found < least:
            raise self.wrong(key, f"must be {least} or more, got {found}")
        return found

    def number(self, key: str, default: float = _REQUIRED) -> float:
        """A finite number."""
        return float(self._get(key, float, default))

    def truth(self, key: str, default: bool = _REQUIRED) -> bool:
        """True or false."""
        return bool(self._get(key, bool, default))

    def texts(self, key: str, default: Sequence[str] = _REQUIRED) -> tuple[str, ...]:
        """A list of texts."""
        return self.items(key, lambda value, place: str(self._typed(value, str, place)), default)

    def numbers(self, key: str, default: Sequence[float] = _REQUIRED) -> tuple[float, ...]:
        """A list of finite numbers."""
        return self.items(key, lambda value, place: float(self._typed(value, float, place)), default)

    def table(self, key: str, default: dict[str, Any] = _REQUIRED) -> dict[str, Any]:
        """An object as it is."""
        return dict(self._get(key, dict, default))

    def child(self, key: str) -> Fields | None:
        """An object, or None where there is null or nothing."""
        return None if self.raw.get(key) is None else Fields(self.raw[key], self._file, self._under(key))

    def children(self, key: str) -> list[Fields]:
        """A list of objects that has at least one."""
        found = self.items(key, lambda value, place: Fields(value, self._file, self._under(place)))
        if not found:
            raise self.wrong(key, "is empty")
        return list(found)

    def items(self, key: str, read: Callable[[Any, str], T], default: Sequence[T] = _REQUIRED) -> tuple[T, ...]:
        """A list, each item of which is read with its place."""
        if key not in self.raw and default is not _REQUIRED:
            return tuple(default)
        found = self.raw.get(key)
        if not isinstance(found, list):
            raise self.wrong(key, "is missing" if key not in self.raw else f"must be a list, got {_shown(found)}")
        return tuple(read(value, f"{key}[{index}]") for index, value in enumerate(found))

    def one_of(self, key: str, allowed: Sequence[str], default: str = _REQUIRED) -> str:
        """A text that is one of these."""
        found = self.text(key, default)
        if found not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}, got {found!r}")
        return found

    def wrong(self, key: str, reason: str) -> BundleError:
        """An error that names a field."""
        return BundleError(f"{self._file}: {self._under(key)} {reason}; the bundle is damaged, or of another program")

    def _get(self, key: str, kind: type, default: Any) -> Any:
        if key not in self.raw:
            if default is _REQUIRED:
                raise self.wrong(key, "is missing")
            return default
        return self._typed(self.raw[key], kind, key)

    def _typed(self, value: Any, kind: type, place: str) -> Any:
        allowed = (int, float) if kind is float else kind
        right = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
        if not right or (isinstance(value, float) and not math.isfinite(value)):
            raise self.wrong(place, f"must be {_KINDS[kind]}, got {_shown(value)}")
        return value

    def _under(self, key: str) -> str:
        return ".".join(part for part in (self._place, key) if part) or "its content"


def read_json(content: bytes, file: str) -> Any:
    """What a JSON file says, read strictly: UTF-8, no key twice, no NaN, and not nested without end.

    Raises:
        BundleError: if it is anything else.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_single, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = brief(error, 160)
        raise BundleError(f"{file} is no JSON that edgekit writes ({reason}); the bundle is damaged") from error


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
