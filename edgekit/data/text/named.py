"""Text under the names that a model of Hugging Face has for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgekit.data.split import Split
from edgekit.errors import DataError
from edgekit.specs import TEXT_INPUTS, Array, Feeds, TensorSpec

_THEIRS = {"ids": "input_ids", "mask": "attention_mask"}
# What their tasks are called here; the longest name that begins theirs counts ("text-generation-with-past").
_TASKS = {"text-generation": "language-modelling", "text-classification": "classification"}


def our_task(name: str) -> str:
    """The name of a task of Hugging Face's as it is called here; any other as it is.

    >>> our_task("text-generation-with-past")
    'language-modelling'
    """
    return next((ours for theirs, ours in _TASKS.items() if name.startswith(theirs)), name)


def named_for(split: Split, inputs: Sequence[TensorSpec]) -> Split:
    """A split of text as a model wants it: renamed, with a mask, positions and segments where it takes them.

    Args:
        split: With "ids", and "mask" where samples are filled up.
        inputs: Of the model.
    """
    wanted = {spec.name for spec in inputs}
    arrays = {_name(name, wanted): array for name, array in split.arrays.items()}
    if "input_ids" not in arrays:
        return replace(split, arrays=arrays)
    made = {name: array for name, array in _made(arrays).items() if name in wanted and name not in arrays}
    return replace(split, arrays={**arrays, **made})


def _name(name: str, wanted: set[str]) -> str:
    theirs = _THEIRS.get(name, name)
    return theirs if name not in wanted and theirs in wanted else name


def _made(arrays: Feeds) -> Mapping[str, Array]:
    """What follows from the ids and the mask."""
    ids = arrays["input_ids"]
    mask = arrays.get("attention_mask", np.ones_like(ids))
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    return {"attention_mask": mask, "position_ids": positions, "token_type_ids": np.zeros_like(ids)}


def refuse_longer(split: Split, longest: int | None, model: str) -> Split:
    """A split of text, whose samples are not longer than a model takes.

    Args:
        split: With ids.
        longest: Tokens that the model takes, at most; None for any number.
        model: What it is called.

    Raises:
        DataError: if they are.
    """
    ids = next((split.arrays[name] for name in TEXT_INPUTS["ids"] if name in split.arrays), None)
    if longest is not None and ids is not None and ids.ndim == 2 and ids.shape[1] > longest:
        raise DataError(
            f"data {split.name!r} has texts of {ids.shape[1]:,} tokens, and {model} takes {longest:,} at most; set "
            f"`length: {longest}`, and `truncate: true` if texts to classify may be cut"
        )
    return split


def longest_told(metadata: Mapping[str, str]) -> int | None:
    """The longest text that a file says it takes; None where it says nothing."""
    said = metadata.get("edgekit.longest", "")
    return int(said) if said.isdigit() else None
