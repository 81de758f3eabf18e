"""What pictures are drawn from: figures, and arrays in a file beside them, so that a report is drawn without models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError
from edgekit.files import replacing
from edgekit.runtime.arrays import ARRAY_ERRORS, read_npz
from edgekit.specs import Array


@dataclass(frozen=True)
class Pictures:
    """What was gathered.

    Attributes:
        facts: Kind of picture -> figures, as results.json holds them; "against" holds such a table for each variant.
        arrays: "KIND.NAME" -> images and maps; "VARIANT/KIND.NAME" for those of a variant.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def add(self, kind: str, facts: Mapping[str, Any], **arrays: Array) -> None:
        """Put in what one kind of picture needs."""
        self.facts[kind] = dict(facts)
        self.arrays.update({f"{kind}.{name}": value for name, value in arrays.items()})

    def add_against(self, variant: str, found: Pictures) -> None:
        """Put in what compares the base with one variant."""
        self.facts.setdefault("against", {})[variant] = found.facts
        self.arrays.update({f"{variant}/{name}": value for name, value in found.arrays.items()})


def arrays_against(variant: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of one variant, without its name."""
    prefix = f"{variant}/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays as an .npz, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read them back.

    Raises:
        DataError: if the file is not there or damaged.
    """
    advice = "run the recipe again, which makes it anew"
    if not path.is_file():
        raise DataError(f"{path}, from which the pictures are drawn, is not there; {advice}")
    try:
        return read_npz(path)
    except ARRAY_ERRORS as error:
        raise DataError(f"{path}, from which the pictures are drawn, is damaged ({error}); {advice}") from error
