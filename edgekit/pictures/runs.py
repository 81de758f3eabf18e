"""Running a model on a few rows, whatever batch it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.data.split import Split
from edgekit.ort import Session
from edgekit.specs import Array

_BATCH = 128
_BATCH_VALUES = 1 << 22


def run_rows(session: Session, arrays: Mapping[str, Array], outputs: list[str] | None = None) -> list[Array]:
    """The outputs for all rows, concatenated.

    Args:
        session: Of the model.
        arrays: One a graph input; axis 0 counts the rows.
        outputs: Names; all outputs by default.
    """
    data = Split("rows", dict(arrays)).matched(session.inputs)
    parts = []
    for batch in data.batches(session.inputs, data.affordable(_BATCH, _BATCH_VALUES)):
        parts.append([o[: batch.n] for o in session.run(batch.feeds, outputs)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def snr_db(reference: Array, other: Array) -> float | None:
    """Signal over noise of what should be the same, in decibels.

    None where nothing differs, where there is no signal, and for values that are not finite; `noise_facts` tells which.
    """
    signal = float(np.square(reference.astype(np.float64)).sum())
    noise = float(np.square(reference.astype(np.float64) - other.astype(np.float64)).sum())
    known = np.isfinite(signal + noise) and signal > 0 and noise > 0
    return 10 * float(np.log10(signal / noise)) if known else None


def noise_facts(reference: Array, other: Array) -> dict[str, Any]:
    """The signal over noise of two arrays, and whether they are the same."""
    return {"snr_db": snr_db(reference, other), "same": bool(np.array_equal(reference, other))}
