"""Colours that those with colour-blind eyes tell apart, and that mean the same in every picture of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.specs import Array

BASE, BEST = "#6b7280", "#059669"
# Told apart by shape too, for those who do not see the colours; of lengths that share no divisor, so that 42 differ.
COLOURS = ("#2563eb", "#d97706", "#7c3aed", "#db2777", "#0891b2", "#4d7c0f")
SYMBOLS = ("circle", "square", "triangle-up", "x", "star", "pentagon", "diamond")

# Anchors of viridis (van der Walt and Smith 2015, CC0) and of ColorBrewer's RdBu, reversed.
_VIRIDIS = ("#440154", "#472c7a", "#3b518b", "#2c718e", "#21908d", "#27ad81", "#5cc863", "#aadc32", "#fde725")
_DIVERGING = ("#2166ac", "#67a9cf", "#d1e5f0", "#ffffff", "#fddbc7", "#ef8a62", "#b2182b")
_BLUES = ("#ffffff", "#d6e6f4", "#abd0e6", "#6aaed6", "#3787c0", "#105ba4", "#08306b")


def style_of(report: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Colour and symbol of a model of a report: the base is grey, the best green, others have their own."""
    index = [model["name"] for model in report["models"]].index(name)
    own = BEST if name == report["best"] else BASE if index == 0 else COLOURS[index % len(COLOURS)]
    return own, SYMBOLS[index % len(SYMBOLS)]


def sequential(values: Array, low: float, high: float) -> Array:
    """Viridis from `low` to `high`: (...) -> uint8 (..., 3)."""
    return _mapped(values, low, high, _VIRIDIS)


def diverging(values: Array, peak: float) -> Array:
    """Blue below zero, white at it, red above, ending at -peak and peak: (...) -> uint8 (..., 3)."""
    return _mapped(values, -peak, peak, _DIVERGING)


def grey(values: Array) -> Array:
    """Values of 0..1 from black to white: (...) -> uint8 (..., 3)."""
    return _mapped(values, 0.0, 1.0, ("#000000", "#ffffff"))


def shade(share: float) -> str:
    """White to dark blue for 0..1."""
    return _hex(_mapped(np.array(share), 0.0, 1.0, _BLUES))


def signed_shade(share: float) -> str:
    """Blue, white, red for -1..1."""
    return _hex(_mapped(np.array(share), -1.0, 1.0, _DIVERGING))


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "#111827" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "#ffffff"


def _mapped(values: Array, low: float, high: float, anchors: Sequence[str]) -> Array:
    table = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors], np.float64)
    place = np.clip((np.asarray(values, np.float64) - low) / ((high - low) or 1.0), 0, 1) * (len(anchors) - 1)
    channels = [np.interp(place, np.arange(len(anchors)), table[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _hex(colour: Array) -> str:
    return "#" + "".join(f"{int(c):02x}" for c in colour)
