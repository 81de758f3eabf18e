"""What is wrong with arrays that a model does not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.specs import TensorSpec


def check_arrays(feeds: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> None:
    """Refuse arrays by their names, types and shapes.

    Args:
        feeds: Name -> array.
        inputs: What the model takes.

    Raises:
        InputError: for the first that is wrong.
    """
    specs = {spec.name: spec for spec in inputs}
    for names, reason in ((set(specs) - set(feeds), "is missing"), (set(feeds) - set(specs), "is none of the model")):
        if names:
            listed = "; ".join(map(str, inputs))
            raise InputError(f"input {sorted(names)[0]!r} {reason}; the model takes {listed}")
    sizes: dict[str, tuple[int, str]] = {}
    for name, spec in specs.items():
        check_array(feeds[name], spec)
        for dim, size in zip(spec.shape, feeds[name].shape, strict=True):
            known = sizes.setdefault(str(dim), (size, name)) if isinstance(dim, str) and dim else (size, name)
            if known[0] != size:
                raise InputError(f"input {name!r} has {size} as {dim}, and input {known[1]!r} has {known[0]}")


def check_array(value: Any, spec: TensorSpec) -> None:
    """Refuse an array for one input by its type and shape.

    Raises:
        InputError: says what it is and what the model takes.
    """
    if not isinstance(value, np.ndarray):
        raise InputError(f"input {spec.name!r} must be a numpy array, got {type(value).__name__}")
    if value.dtype.name != spec.dtype and spec.dtype != "object":
        raise InputError(
            f"input {spec.name!r} has dtype {value.dtype.name}, and the model takes {spec.dtype}; "
            f"convert it with .astype({spec.dtype!r})"
        )
    fits = len(value.shape) == spec.rank and all(
        size == dim or not isinstance(dim, int) for size, dim in zip(value.shape, spec.shape, strict=True)
    )
    if not fits or 0 in value.shape:
        got = "x".join(map(str, value.shape)) or "scalar"
        raise InputError(f"input {spec.name!r} has shape {got}{' and is empty' * (0 in value.shape)}; it takes {spec}")


def check_finite(value: np.ndarray[Any, Any], name: str) -> None:
    """Refuse NaN and infinity: no answer to them means anything.

    Raises:
        InputError: says how many there are.
    """
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        nan, infinite = int(np.isnan(value).sum()), int(np.isinf(value).sum())
        raise InputError(f"input {name!r} has {nan} NaN and {infinite} infinite values of {value.size}; mend the input")
