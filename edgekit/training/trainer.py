"""What Lightning's trainer is given: callbacks, the point to go on from, and silence."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import progress
from edgekit.errors import brief
from edgekit.training.config import TrainConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl


def last_checkpoint(work: Path) -> Path | None:
    """Where to go on from, if an interrupted training left it and it can be read."""
    import torch

    path = work / "last.ckpt"
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        progress.warn(f"{path} is damaged ({brief(error)}); training starts anew")
        return None
    progress.note(f"resuming training from {path}")
    return path


def callbacks_for(config: TrainConfig, mode: str) -> Iterator[pl.Callback]:
    """What happens at the edges of steps and epochs; `mode` is "max" where more of the metric is better."""
    from lightning.pytorch.callbacks import EarlyStopping

    from edgekit.training.callbacks import HoldFrozen, MovingAverage, Progress, SeedEachStep

    yield SeedEachStep(config.seed)
    if config.freeze:
        yield HoldFrozen()
    if config.ema is not None:
        yield MovingAverage(config.ema)
    if config.patience is not None:
        yield EarlyStopping("validation", mode=mode, patience=config.patience)
    if not progress.is_quiet():
        yield Progress(leave=False, console_kwargs={"stderr": True})


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
