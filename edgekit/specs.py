"""What goes into a model and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Feeds: TypeAlias = Mapping[str, Array]

# What a model of text may take, and what it is called: here, and in published models.
TEXT_INPUTS = {
    "ids": ("ids", "input_ids"),
    "mask": ("mask", "attention_mask"),
    "positions": ("position_ids",),
    "segments": ("token_type_ids", "segments"),
}


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor.

    Attributes:
        name: The name in the graph.
        dtype: NumPy's name of the element type, such as "float32".
        shape: One entry a dimension: an int, or a str for a symbolic dimension ("" if it has no name).
        vocabulary: How many different ids there are, where it holds ids and that is known.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    vocabulary: int | None = None

    @property
    def is_sequence(self) -> bool:
        """Whether it is a sequence of tensors; a session does not tell their shape."""
        return self.dtype.startswith("seq(tensor")

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __str__(self) -> str:
        dims = "x".join(str(d) if d != "" else "?" for d in self.shape) or "scalar"
        return f"{self.name}: {self.dtype} {dims}"
