"""Numbers that look random, and are the same for a test whichever tests ran before it."""

from __future__ import annotations

from typing import Any

import numpy as np

_RNG = np.random.default_rng(0)
_FIRST = _RNG.bit_generator.state


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The next standard normal numbers of this test."""
    return _RNG.standard_normal(shape).astype(np.float32)


def restart() -> None:
    """Begin anew."""
    _RNG.bit_generator.state = _FIRST
