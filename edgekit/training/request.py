"""Training one family from the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgekit.data import for_model, resolve_source
from edgekit.errors import RecipeError, TrainingError, unknown
from edgekit.families import FAMILIES
from edgekit.tasks import Metric
from edgekit.training.checkpoint import read_config
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.processes import held


def train_family(
    family: str, size: str, data: str, out: Path, options: Mapping[str, Any], metric: Metric | None = None
) -> dict[str, Any]:
    """Train a family's model of a size on data.

    Args:
        family: Its name.
        size: Name of the size.
        data: Name of a data set, or path of an .npz with labels.
        out: Checkpoint directory to write; held for this process while it trains.
        options: Fields of TrainConfig that differ from their defaults.
        metric: Which decides; that of the family's task by default.

    Returns:
        What the checkpoint's config.json says: card, training config, validation metric.

    Raises:
        RecipeError: for an unknown family or size.
        TrainingError: for options that TrainConfig refuses, or training that diverges.
    """
    if family not in FAMILIES:
        raise RecipeError(unknown("family", family, FAMILIES) + _way_of_a_directory(family))
    if size not in FAMILIES[family].sizes:
        raise RecipeError(FAMILIES[family].no_size(size))
    try:
        config = TrainConfig(**options)
    except ValidationError as error:
        raise TrainingError("\n".join(map(_explain, error.errors()))) from None
    source = resolve_source(data)
    fingerprint = source.fingerprint(None)
    with held(out, config):
        loaded = source.load(None, source.task_for(FAMILIES[family].tasks))
        card = card_for(family, size, loaded)
        fit(card, lambda: for_model(loaded, card.model_inputs), config, out, fingerprint=fingerprint, metric=metric)
    return {"out": str(out), **read_config(out)}


def _explain(detail: ErrorDetails) -> str:
    """One mistake of the options, with the nearest name for an unknown one."""
    *groups, name = map(str, detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{'.'.join([*groups, name])}: {detail['msg']}, got {detail['input']!r}"
    model: Any = TrainConfig
    for group in groups:
        annotation = model.model_fields[group].annotation
        model = next(a for a in (annotation, *get_args(annotation)) if hasattr(a, "model_fields"))
    return unknown("key" if groups else "training option", name, model.model_fields, of=".".join(groups))


def _way_of_a_directory(given: str) -> str:
    """What to do with a model that is there already; "" for what is none."""
    if not Path(given).is_dir():
        return ""
    return f"; a recipe trains a model on that is there already: `model: {{hf: {given}}}`, and `train` beside it"
