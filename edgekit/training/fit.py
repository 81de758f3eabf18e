"""Training by Lightning: resumable, deterministic under a seed, stopped by the validation metric."""

from __future__ import annotations

import logging
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import DataSet
from edgekit.errors import ModelError, TrainingError
from edgekit.files import digest, make_directory, output_errors, sha256_of
from edgekit.machine import package_versions
from edgekit.tasks import TASKS, find_metric
from edgekit.training.checkpoint import (
    CONFIG,
    WEIGHTS,
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
    from torch import nn


def card_for(family: str, size: str, data: DataSet) -> ModelCard:
    """The card of a family's model for a data set."""
    preprocessing = data.preprocessing.as_dict() if data.preprocessing else {}
    return ModelCard(family, size, data.task, data.name, data.classes, data.inputs, preprocessing, data.target_scale)


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
        TrainingError: if the loss is not finite, the family cannot take the data, or Lightning refuses the
            configuration.
    """
    require_training()
    key = training_key(card, config, fingerprint)
    done = _finished(out, key)
    if done is not None:
        return done
    import torch
    from lightning.pytorch import seed_everything

    work = make_directory(out / "work" / key[:12])
    with quiet_lightning(), output_errors(work):
        seed_everything(config.seed, workers=True, verbose=False)
        model = TrainedModel(_untrained(card), card)
        data = load_data()
        best = _run_trainer(model, data, config, work)
        state = torch.load(best, map_location="cpu", weights_only=True)
        model.module.load_state_dict({k.removeprefix("module."): v for k, v in state["state_dict"].items()})
    model.module.eval()
    metric = {"name": TASKS[card.task].metric, "split": "validation", "value": _best_score(state)}
    save_checkpoint(model, out, {"key": key, "train": config.model_dump(), "validation": metric})
    return model


def _finished(out: Path, key: str) -> TrainedModel | None:
    """The model that an earlier training with this key left, if its files are as it left them."""
    try:
        config = read_config(out) if (out / CONFIG).is_file() else {}
        intact = config.get("key") == key and config.get("sha256") == sha256_of(out / WEIGHTS)
        return load_checkpoint(out) if intact else None
    except (ModelError, FileNotFoundError) as error:
        progress.note(f"making the checkpoint again: {error}")
        return None


def _untrained(card: ModelCard) -> nn.Module:
    """The module, after it has shown on zeros that it takes the data."""
    import torch

    try:
        module = card.build()
        shapes = [[d if isinstance(d, int) else 2 for d in s.shape] for s in card.model_inputs]
        dtypes = [getattr(torch, s.dtype) for s in card.model_inputs]
        zeros = [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        with torch.inference_mode():
            module.eval()(*zeros)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise TrainingError(
            f"family {card.family!r} cannot take {', '.join(map(str, card.inputs))}: {_brief(error)}; choose another "
            "family (`edgekit list families`) or other data"
        ) from error
    return module.train()


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _run_trainer(model: TrainedModel, data: DataSet, config: TrainConfig, work: Path) -> Path:
    """Fit and give the path of the best checkpoint."""
    import lightning.pytorch as pl
    from lightning.fabric.utilities.exceptions import MisconfigurationException
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
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise TrainingError(f"Lightning refuses the training configuration: {_brief(error)}") from error
    module, last = FitModule(model, data, config), _last_checkpoint(work)
    try:
        trainer.fit(module, ckpt_path=last, weights_only=True)
    except SystemExit:  # Lightning turns Ctrl-C into an exit of its own
        raise KeyboardInterrupt from None
    return Path(keep.best_model_path)


def _last_checkpoint(work: Path) -> Path | None:
    """Where to go on from, if an interrupted training left it and it can be read."""
    import torch

    path = work / "last.ckpt"
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        progress.warn(f"{path} is damaged ({_brief(error)}); training starts anew")
        return None
    progress.note(f"resuming training from {path}")
    return path


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
