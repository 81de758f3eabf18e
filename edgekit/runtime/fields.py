"""JSON objects whose fields are what they have to be; what is wrong is named by its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from edgekit.errors import BundleError, brief

# What moves a terminal's cursor, turns the direction of writing, or is half a character.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
T = TypeVar("T")
_REQUIRED: Any = object()
_LONGEST_PLACE = 120
_MOST_WHOLE = (1 << 63) - 1
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

    def text(self, key: str, default: str = _REQUIRED, *, lines: bool = False) -> str:
        """A text, of one line unless it may have several."""
        found = str(self._get(key, str, default))
        if "\n" in found and not lines:
            raise self.wrong(key, f"must be one line, got {_shown(found)}")
        return found

    def whole(self, key: str, default: int = _REQUIRED, least: int = 0, most: int = _MOST_WHOLE) -> int:
        """A whole number, not below `least` nor above `most`."""
        found = int(self._get(key, int, default))
        if not least <= found <= most:
            allowed = f"{least} or more" if found < least else f"{most} or less"
            raise self.wrong(key, f"must be {allowed}, got {_shown(found)}")
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
        place = self._under(key)
        shown = place if len(place) <= _LONGEST_PLACE else f"{place[:_LONGEST_PLACE]}…"
        return BundleError(f"{self._file}: {shown} {reason}; the bundle is damaged, or of another program")

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
    """What a JSON file says, read strictly.

    It is UTF-8, has no key twice, no NaN or infinity, no nesting without end, and no text that a terminal would obey.

    Raises:
        BundleError: if it is anything else.
    """
    try:
        found = json.loads(
            content.decode("utf-8"), object_pairs_hook=_single, parse_constant=_no_constant, parse_float=_finite
        )
        _refuse_unseen(found)
    except (ValueError, RecursionError) as error:
        reason = brief(error, 160)
        raise BundleError(f"{file} is no JSON that edgekit writes ({reason}); the bundle is damaged") from error
    return found


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _refuse_unseen(value: Any) -> None:
    wrong = next((text for text in _texts_in(value) if _UNSEEN.search(text)), None)
    if wrong is not None:
        raise ValueError(f"{ascii(wrong)[:80]} holds a control character, or half a character")


def _texts_in(value: Any) -> Iterator[str]:
    """Every text and every key, however deep."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            left += [*found, *found.values()]
        elif isinstance(found, list):
            left += found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
