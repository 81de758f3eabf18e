"""Training one family from the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.data import for_model, resolve_source
from edgekit.errors import RecipeError, TrainingError, unknown
from edgekit.families import FAMILIES
from edgekit.files import locked
from edgekit.training.checkpoint import read_config
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit


def train_family(family: str, size: str, data: str, out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Train a family's model of a size on data.

    Args:
        family: Its name.
        size: Name of the size.
        data: Name of a data set, or path of an .npz with labels.
        out: Checkpoint directory to write; held for this process while it trains.
        options: Fields of TrainConfig that differ from their defaults.

    Returns:
        What the checkpoint's config.json says: card, training config, validation metric.

    Raises:
        RecipeError: for an unknown family or size.
        TrainingError: for options that TrainConfig refuses, or training that diverges.
    """
    if family not in FAMILIES:
        raise RecipeError(unknown("family", family, FAMILIES))
    if size not in FAMILIES[family].sizes:
        raise RecipeError(unknown(f"size of family {family!r}", size, FAMILIES[family].sizes))
    try:
        config = TrainConfig(**options)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise TrainingError("\n".join(lines)) from None
    source = resolve_source(data)
    fingerprint = source.fingerprint(None)
    with locked(out):
        loaded = source.load(None, source.task_for(FAMILIES[family].tasks))
        card = card_for(family, size, loaded)
        fit(card, lambda: for_model(loaded, card.model_inputs), config, out, fingerprint=fingerprint)
    return {"out": str(out), **read_config(out)}
