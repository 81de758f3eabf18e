"""Holding weights at zero while a model trains. Imports Lightning, so it is imported only by what trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgekit.training.callbacks import MovingAverage

Masks = Mapping[str, Tensor]


class HoldMasks(pl.Callback):
    """Multiplies weights by their masks after every step; a schedule may set more of them to zero as it goes.

    The masks are in Lightning's checkpoints, so that an interrupted training goes on with them. Until the schedule ends
    no epoch counts as the best one: the model that is kept has all its zeros.

    Args:
        masks: Parameter -> bool, True where the weight stays.
        choose: (module, share of the schedule that is over) -> masks; None where they stay as they are.
        epochs: That the schedule takes.
        every: Steps between two changes of the masks.
    """

    def __init__(
        self,
        masks: Masks,
        choose: Callable[[nn.Module, float], Masks] | None = None,
        epochs: float = 0.0,
        every: int = 1,
    ) -> None:
        self.masks = dict(masks)
        self.choose = choose
        self.epochs = epochs
        self.every = every
        self.done = choose is None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The weights as the masks want them, on their device."""
        self.masks = {name: mask.to(pl_module.device) for name, mask in self.masks.items()}
        self._apply(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Back to zero; and on the way of the schedule, more zeros."""
        if self.choose is not None and not self.done:
            total = max(1.0, self.epochs * _steps_an_epoch(trainer))
            over = min(1.0, _step(trainer) / total)
            if over >= 1 or _step(trainer) % self.every == 0:
                self.masks = dict(self.choose(pl_module.module, over))
            if over >= 1:
                self.done = True
                _forget_best(trainer)
        self._apply(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoints."""
        return {"masks": {name: mask.cpu() for name, mask in self.masks.items()}, "done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.masks, self.done = dict(state_dict["masks"]), bool(state_dict["done"])

    def _apply(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with torch.no_grad():
            for module in _modules(trainer, pl_module):
                for name, mask in self.masks.items():
                    module.get_parameter(name).mul_(mask)


def _modules(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[nn.Module]:
    """What is trained, and the average of it where one is kept."""
    yield pl_module.module
    for callback in trainer.callbacks:
        if isinstance(callback, MovingAverage) and isinstance(callback.average, AveragedModel):
            yield callback.average.module


def _step(trainer: pl.Trainer) -> int:
    """Batches so far."""
    return int(
        trainer.current_epoch * _steps_an_epoch(trainer) + trainer.fit_loop.epoch_loop.batch_progress.current.ready
    )


def _steps_an_epoch(trainer: pl.Trainer) -> float:
    return max(1.0, float(trainer.num_training_batches))


def _forget_best(trainer: pl.Trainer) -> None:
    """Epochs before the last mask was set had more weights, and may not win."""
    keep = trainer.checkpoint_callback
    if keep is not None:
        keep.best_k_models, keep.best_model_path, keep.kth_best_model_path = {}, "", ""
        keep.best_model_score = keep.kth_value = keep.current_score = None
    for callback in trainer.callbacks:
        if isinstance(callback, pl.callbacks.EarlyStopping):
            callback.wait_count = 0
            callback.best_score = torch.tensor(torch.inf if callback.monitor_op == torch.lt else -torch.inf)
