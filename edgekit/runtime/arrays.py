"""Arrays out of .npy and .npz files that nobody vouches for; nothing in them is run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from edgekit.runtime.zips import ZIP_ERRORS
from edgekit.specs import Array

# What NumPy raises for damaged files, as tried on cut, flipped and made-up ones; it reads odd headers as Python tokens.
ARRAY_ERRORS = (
    *(*ZIP_ERRORS, TypeError, KeyError, AttributeError, OverflowError, MemoryError),
    *(TokenError, SyntaxError),
)


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz, by name.

    Raises:
        Exception: one of ARRAY_ERRORS, if it is none.
    """
    with path.open("rb") as file:  # NumPy leaves a file open whose archive is damaged
        return members_of(np.load(file, allow_pickle=False))


def members_of(archive: Any, left_out: Collection[str] = ()) -> dict[str, Array]:
    """The arrays of what np.load gave, but for some that are not looked at.

    Raises:
        Exception: one of ARRAY_ERRORS, which says what is wrong with it.
    """
    if isinstance(archive, np.ndarray):
        raise TypeError("it is one array without a name (.npy); save it with np.savez(path, name=array)")
    arrays = {name: archive[name] for name in archive.files if name not in left_out}
    foreign = next((name for name, value in arrays.items() if not isinstance(value, np.ndarray)), None)
    if foreign is not None:
        raise TypeError(f"its member {foreign!r} is no array")
    return arrays
