"""Training by Lightning: resumable, deterministic under a seed, stopped by the validation metric."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import DataSet
from edgekit.errors import TrainingError
from edgekit.files import digest, make_directory, output_errors
from edgekit.machine import package_versions
from edgekit.tasks import TASKS, find_metric
from edgekit.training.checkpoint import (
    CONFIG,
    ModelCard,
    TrainedModel,
    load_checkpoint,
    read_config,
    require_training,
    save_checkpoint,
)
from edgekit.training.config import TrainConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl


def card_for(family: str, size: str, data: DataSet) -> ModelCard:
    """The card of a family's model for a data set."""
    preprocessing = data.preprocessing.as_dict() if data.preprocessing else {}
    return ModelCard(family, size, data.task, data.name, data.classes, data.inputs, preprocessing)


def training_key(card: ModelCard, config: TrainConfig, fingerprint: str) -> str:
    """Changes with everything that changes the trained weights."""
    versions = {k: v for k, v in package_versions().items() if k in ("torch", "lightning")}
    return digest([card, config.model_dump(), fingerprint, versions])


def fit(
    card: ModelCard,
    load_data: Callable[[], DataSet],
    config: TrainConfig,
    out: Path,
    *,
    fingerprint: str,
) -> TrainedModel:
    """Train a model, or go on where an interrupted training stopped.

    Args:
        card: What to build.
        load_data: Gives the data; called only when there is something to train.
        config: How to train.
        out: Checkpoint directory to write; `out/work` holds what a resumed training needs, and TensorBoard's log.
        fingerprint: Of the data.

    Returns:
        The model at its best validation metric.

    Raises:
        TrainingError: if the loss is not finite, or Lightning refuses the configuration.
    """
    require_training()
    key = training_key(card, config, fingerprint)
    if (out / CONFIG).is_file() and read_config(out).get("key") == key:
        return load_checkpoint(out)
    import torch
    from lightning.pytorch import seed_everything

    work = make_directory(out / "work" / key[:12])
    with quiet_lightning(), output_errors(work):
        seed_everything(config.seed, workers=True, verbose=False)
        model = TrainedModel(card.build(), card)
        data = load_data()
        best = _run_trainer(model, data, config, work)
        state = torch.load(best, map_location="cpu", weights_only=True)
        model.module.load_state_dict({k.removeprefix("module."): v for k, v in state["state_dict"].items()})
    model.module.eval()
    metric = {"name": TASKS[card.task].metric, "split": "validation", "value": _best_score(state)}
    save_checkpoint(model, out, {"key": key, "train": config.model_dump(), "validation": metric})
    return model


def _run_trainer(model: TrainedModel, data: DataSet, config: TrainConfig, work: Path) -> Path:
    """Fit and give the path of the best checkpoint."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger

    from edgekit.training.module import FitModule

    metric = find_metric(TASKS[model.card.task].metric)
    mode = "max" if metric.higher_is_better else "min"
    keep = ModelCheckpoint(
        work, filename="best", monitor="validation", mode=mode, save_last=True, enable_version_counter=False
    )
    try:
        trainer = pl.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=config.devices,
            strategy=config.strategy,
            precision=config.precision,
            callbacks=[keep, *_callbacks(config, mode)],
            logger=TensorBoardLogger(work, name="", version="tensorboard"),
            enable_progress_bar=not progress.is_quiet(),
            enable_model_summary=False,
            deterministic=True,
            use_distributed_sampler=False,
            log_every_n_steps=10,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"Lightning refuses the training configuration: {' '.join(str(error).split())[:300]}"
        ) from error
    module = FitModule(model, data, config)
    last = work / "last.ckpt"
    if last.exists():
        progress.note(f"resuming training from {last}")
    try:
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit:  # Lightning turns Ctrl-C into an exit of its own
        raise KeyboardInterrupt from None
    return Path(keep.best_model_path)


def _callbacks(config: TrainConfig, mode: str) -> Iterator[pl.Callback]:
    from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar

    if config.patience is not None:
        yield EarlyStopping("validation", mode=mode, patience=config.patience)
    if not progress.is_quiet():
        yield RichProgressBar(leave=False, console_kwargs={"stderr": True})


def _best_score(state: dict[str, Any]) -> float:
    saved = next(v for k, v in state["callbacks"].items() if k.startswith("ModelCheckpoint"))
    score = float(saved["best_model_score"])
    if not math.isfinite(score):
        raise TrainingError("training ended with a validation metric that is not finite; lower `learning_rate`")
    return score


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints to itself: they speak of data loaders and loggers that we chose on purpose."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
