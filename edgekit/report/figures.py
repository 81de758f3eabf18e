"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

NOT_KNOWN = "n/a"
_DIGITS = 4


def figure(value: float | None, digits: int = _DIGITS) -> str:
    """A number to so many significant digits, without an exponent; "n/a" for None.

    >>> [figure(v) for v in (0.0201349, 1.5, 1234.56, 98765.4, None)]
    ['0.02013', '1.500', '1235', '98765', 'n/a']
    """
    if value is None:
        return NOT_KNOWN
    whole = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, digits - 1 - whole)}f}"


def with_interval(value: float, interval: Sequence[float] | None, unit: str = "", digits: int = _DIGITS) -> str:
    """A value and its interval, with as many decimals each.

    >>> with_interval(1.5, (1.42, 1.61234), "x")
    '1.500x [1.420, 1.612]'
    """
    text = figure(value, digits)
    if interval is None:
        return f"{text}{unit} [{NOT_KNOWN}]"
    decimals = len(text.partition(".")[2])
    return f"{text}{unit} [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"


def percent_or_value(value: float, unit: str, *, signed: bool = False) -> str:
    """A share in percent, any other metric with its unit."""
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.2f} %" if unit == "" else f"{value:{sign}.4g} {unit}".strip()


def human_bytes(count: float) -> str:
    """Bytes for people.

    >>> human_bytes(123_456)
    '123.5 kB'
    """
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"


def human_count(count: float) -> str:
    """A number of parameters or multiply-accumulates for people.

    >>> human_count(1_234_567), human_count(950)
    ('1.23 M', '950')
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f}"


def short_names(models: Iterable[str]) -> dict[str, str]:
    """The shortest ends of paths that tell models apart.

    >>> short_names(["runs/a/m.onnx", "runs/b/m.onnx", "c.onnx"])
    {'runs/a/m.onnx': 'a/m.onnx', 'runs/b/m.onnx': 'b/m.onnx', 'c.onnx': 'c.onnx'}
    """
    distinct = list(dict.fromkeys(models))
    return {model: _shortest(model, [other for other in distinct if other != model]) for model in distinct}


def _shortest(model: str, others: Sequence[str]) -> str:
    parts = PurePath(model).parts
    for count in range(1, len(parts) + 1):
        end = parts[-count:]
        if all(PurePath(other).parts[-count:] != end for other in others):
            return str(PurePath(*end))
    return model


def ratio(value: float, interval: Sequence[float] | None) -> str:
    """How many times as fast, to three digits.

    >>> ratio(0.41, None)
    '0.410x [n/a]'
    """
    return with_interval(value, interval, "x", digits=3)


def machine_lines(machine: Mapping[str, object]) -> list[tuple[str, str]]:
    """Facts of a machine as (what, value), whatever facts there are; what is not known is left out."""
    lines = []
    for key, value in machine.items():
        text = human_bytes(float(str(value))) if key.endswith("_bytes") and value is not None else _plain(value)
        if text:
            lines.append((key.removesuffix("_bytes").replace("_", " "), text))
    return lines


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)
