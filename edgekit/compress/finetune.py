"""What every technique of stage "torch" ends with: training the changed model on, and leaving a checkpoint."""

from __future__ import annotations

from pathlib import Path

from edgekit.compress.distill.lesson import taught_by_base
from edgekit.compress.technique import TorchStep
from edgekit.data.text.beside import keep_tokenizer
from edgekit.training.checkpoint import TrainedModel, save_checkpoint
from edgekit.training.config import FineTuneConfig
from edgekit.training.extras import NOTHING, Extras, holding_zeros
from edgekit.training.fit import fit


def fine_tune(
    step: TorchStep,
    model: TrainedModel,
    config: FineTuneConfig | None,
    *,
    extras: Extras = NOTHING,
    out: Path | None = None,
) -> TrainedModel:
    """Train a changed model on, or keep it as it is; either way it is left as a checkpoint.

    Args:
        step: That changed it.
        model: Changed, with its card; in evaluation mode.
        config: How to train; None for not at all.
        extras: What happens in the training beside that; zeros of a sparse model are held where nothing is said.
        out: Checkpoint directory; that of the step by default.

    Raises:
        TrainingError: as `training.fit` raises it.
    """
    place = out or step.out
    if config is None:
        return keep(step, model, place)
    settings = config.after(step.train)
    start, known = model, step.fingerprint
    if extras is NOTHING:
        extras = holding_zeros(model)
    if config.distill is not None:
        extras = taught_by_base(step, config.distill, extras)
    return fit(
        model.card, step.load_data, settings, place, fingerprint=known, start=start, metric=step.metric, extras=extras
    )


def keep(step: TorchStep, model: TrainedModel, place: Path) -> TrainedModel:
    """Leave a model as a checkpoint, without training it."""
    keep_tokenizer(step.load_data().preprocessing, place)
    validation = {"name": step.metric.name, "split": "validation", "value": step.validate(model)}
    save_checkpoint(model, place, {"train": None, "history": [], "validation": validation})
    return model
