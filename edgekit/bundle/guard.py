"""What a bundle's guard learns from calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.bundle.models import PackedModel
from edgekit.data import Split
from edgekit.ort import Session
from edgekit.runtime.guard import guard_statistics
from edgekit.specs import TEXT_INPUTS, Array

_MOST_SAMPLES = 1000
_BATCH = 64
_FILLED_UP = ("lengths", "mask", "attention_mask")


def learn_guard(model: PackedModel, seen: Split | None, postprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's guard: what inputs, and the answers of a variant to them, look like on calibration data.

    Args:
        model: The variant that is preferred.
        seen: The calibration split; None where there is none, which gives a guard that looks at nothing.
        postprocessing: The manifest's entry.
    """
    if seen is None or seen.whole_feeds:
        return {"inputs": {}, "score": None, "energy": None, "tokens": None}
    inputs = {k: np.asarray(v) for k, v in seen.take(_MOST_SAMPLES).arrays.items()}
    # a thousand texts take a large model minutes, and their tokens say enough
    text = any(name in inputs for name in TEXT_INPUTS["ids"])
    logits = str(postprocessing["output"]) if postprocessing["kind"] == "softmax" and not text else None
    outputs = None if logits is None else {logits: _answers(model, seen.take(_MOST_SAMPLES), logits)}
    found = guard_statistics(inputs, outputs, logits)
    # samples that are filled up here are not when an app asks about one: their moments are others
    return {**found, "score": None} if any(name in inputs for name in _FILLED_UP) else found


def _answers(model: PackedModel, seen: Split, output: str) -> Array:
    session = Session(model.candidate.path)
    batches = seen.batches(session.inputs, seen.affordable(_BATCH, 1 << 19))
    return np.concatenate([session.run(batch.feeds, [output])[0][: batch.n] for batch in batches])
