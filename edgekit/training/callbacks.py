"""What happens at the edges of steps and epochs: fresh seeds, the average of the weights, and the history."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from edgekit.training.start import frozen_modules

_AVERAGE = "average"


class Progress(pl.callbacks.RichProgressBar):
    """Lightning's bar, with epochs counted from one, and without the version of its log, which is no figure."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Loss and validation metric."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        told = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return told.ljust(len(self.validation_description))  # of one width, or the bars flicker


class SeedEachStep(pl.Callback):
    """Dropout, augmentation and noise depend on seed, epoch, batch and process, not on what was drawn before.

    That is what makes a resumed training equal to an uninterrupted one, and processes of one training unequal.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch on every device."""
        entropy = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


class HoldFrozen(pl.Callback):
    """Frozen layers stay as they are in evaluation: a frozen batch normalisation keeps its statistics."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch them back; Lightning puts the whole model into training mode."""
        for module in frozen_modules(pl_module.module):
            module.eval()


class MovingAverage(pl.Callback):
    """An exponential moving average of the model's weights: what is validated and saved.

    Args:
        decay: What a step leaves of the average. It begins lower, at (1 + steps) / (10 + steps), so that the random
            weights of the start are soon forgotten.

    Source: Polyak and Juditsky 1992, doi:10.1137/0330046; the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: AveragedModel | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin with a copy."""
        self.average = AveragedModel(pl_module.module, multi_avg_fn=self._mix, use_buffers=True)
        self.step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow the model to its device."""
        self._there.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Take the weights in, once for each step of the optimizer."""
        if trainer.global_step > self.step:
            self._there.update_parameters(pl_module.module)
            self.step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the average."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the weights themselves."""
        self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the average beside the weights."""
        checkpoint[_AVERAGE] = {**self._there.state_dict(), "step": torch.tensor(self.step)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the average."""
        state = dict(checkpoint[_AVERAGE])
        self.step = int(state.pop("step"))
        self._there.load_state_dict(state)

    @property
    def _there(self) -> AveragedModel:
        if self.average is None:
            raise RuntimeError("the average exists from `setup` on")
        return self.average

    def _mix(self, averages: Any, current: Any, count: Any) -> None:
        """One step for tensors of one type; what is no float, such as a count of batches, is copied."""
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, current)
            return
        steps = int(count)
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, current, 1 - decay)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        ours, theirs = self._there.module.state_dict(), pl_module.module.state_dict()
        for name, value in ours.items():
            kept = value.clone()
            value.copy_(theirs[name])
            theirs[name].copy_(kept)


def trained_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to use of one of Lightning's checkpoints: the average where one was kept."""
    source = checkpoint.get(_AVERAGE, checkpoint["state_dict"])
    return {k.removeprefix("module."): v for k, v in source.items() if k.startswith("module.")}


class History(pl.Callback):
    """What each epoch came to; a resumed training goes on with the rows that are there.

    Attributes:
        rows: A mapping an epoch: `epoch` from 1 on, mean `loss`, the `validation` metric, the `learning_rate` at its
            end and its `seconds`.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a row."""
        self.started = time.perf_counter()
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        """Take the loss in; it is not looked at before the epoch's end, which would make a GPU wait."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self.losses.append(loss.detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the row; validation is over by now."""
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        if self.losses:
            row["loss"] = float(trainer.strategy.reduce(torch.stack(self.losses).mean(), reduce_op="mean"))
        if "validation" in trainer.callback_metrics:
            row["validation"] = float(trainer.callback_metrics["validation"])
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        self.rows.append(row)

    def state_dict(self) -> dict[str, Any]:
        """The rows, for Lightning's checkpoints."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with these rows."""
        self.rows = list(state_dict["rows"])
