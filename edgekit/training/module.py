"""The Lightning module: one for every family and task."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from edgekit import interrupt
from edgekit.data import DataSet, Split
from edgekit.errors import DivergenceError, TrainingError
from edgekit.tasks import TASKS, Metric, TrainingBatch
from edgekit.training.attacks import PixelRange, attack
from edgekit.training.augment import Mixture, augment, background_of
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import AugmentConfig, TrainConfig
from edgekit.training.objective import LearningBatch, Objective, outputs_of
from edgekit.training.trim import without_idle_columns

Batch = tuple[list[Tensor], Tensor, Tensor]  # inputs, labels, where the samples lie in their split


class SplitDataset(Dataset[Any]):
    """A split that hands out whole batches: the samples are in memory, so collating one by one would only cost time."""

    def __init__(self, split: Split, names: list[str]) -> None:
        self.names = names
        self.arrays = [torch.from_numpy(split.arrays[n]) for n in names]
        if split.labels is None:
            raise TrainingError(f"split {split.name!r} has no labels to train on")
        self.labels = torch.from_numpy(split.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> Batch:
        """One batch: the inputs in graph order, the labels, and where the samples lie."""
        arrays, labels = [_channels_last(a[indices]) for a in self.arrays], self.labels[indices]
        return (*without_idle_columns(self.names, arrays, labels), torch.tensor(indices))


def channels_last(module: nn.Module) -> nn.Module:
    """The module in the layout of memory that is a fifth faster on CPUs."""
    # torch's stubs do not know this argument
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _channels_last(batch: Tensor) -> Tensor:
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def _as_is(batch: Any) -> Any:
    return batch


class FitModule(pl.LightningModule):
    """Trains a model on a data set and logs `validation`, the task's metric on the validation split.

    Args:
        model: To train.
        data: To train on.
        config: How.
        metric: Which decides.
        objective: What is made smaller; by default the task's loss.
    """

    def __init__(
        self,
        model: TrainedModel,
        data: DataSet,
        config: TrainConfig,
        metric: Metric,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.module = channels_last(model.module)
        self.names = [s.name for s in model.inputs]
        self.data = data
        self.config = config
        self.card = model.card
        self.task = TASKS[model.card.task]
        self.metric = metric
        self.objective = objective or Objective()
        self.background = background_of(data)
        self.scores: list[Tensor] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch; stops at the first that is not finite, before it reaches the weights."""
        if interrupt.requested():  # what was raised inside a callback of C code went unheard
            raise KeyboardInterrupt
        stored, labels, samples = batch
        stored = self._with_fresh_noise(stored)
        inputs, mixed = self._augmented(stored, labels)
        inputs = self._attacked(inputs, mixed)
        seen = self.objective.look(self.module, inputs)
        task_loss = partial(self._loss, seen.outputs, inputs, mixed)
        told = LearningBatch(self._named(inputs), self._named(stored), mixed, samples, task_loss)
        loss: Tensor = self.objective(seen, told)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss is {float(loss)} at step {self.global_step}")
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """The task's metric, by the code that also judges ONNX files."""
        inputs, labels, _ = batch
        with torch.autocast(self.device.type, enabled=False):
            outputs = [o.float().cpu().numpy() for o in outputs_of(self.module(*inputs))]
        if not all(np.isfinite(o).all() for o in outputs):
            raise self._diverged(f"outputs on validation data are not finite after step {self.global_step}")
        feeds = {n: i.cpu().numpy() for n, i in self._named(inputs).items()}
        scores = self.metric.score(outputs, labels.cpu().numpy(), feeds)
        self.scores.append(torch.from_numpy(np.asarray(scores, np.float64)))

    def on_validation_epoch_end(self) -> None:
        """The metric over the whole split, whichever process saw which part of it."""
        scores, self.scores = torch.cat(self.scores), []
        if self.trainer.world_size > 1:
            # processes take turns at the samples, and the last turn may repeat some so that all get as many
            scores = self.all_gather(scores).transpose(0, 1).flatten(0, 1)[: len(self.data.splits["validation"])].cpu()
        self.log("validation", self.metric.value(scores.numpy()), prog_bar=True, sync_dist=self.trainer.world_size > 1)

    def _diverged(self, how: str) -> DivergenceError:
        return DivergenceError(
            f"training diverged: {how} (epoch {self.current_epoch + 1}); "
            f"lower `learning_rate` (now {self.config.learning_rate}) or set `clip_gradients`"
        )

    def _named(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.names, inputs, strict=True))

    def _with_fresh_noise(self, inputs: list[Tensor]) -> list[Tensor]:
        """What a model draws is drawn anew in every step."""
        return [torch.randn_like(x) if n in self.data.latents else x for n, x in zip(self.names, inputs, strict=True)]

    def _augmented(self, inputs: list[Tensor], labels: Tensor | None) -> tuple[list[Tensor], Mixture]:
        """The batch with its picture, the first input, changed at random."""
        if self.config.augment == AugmentConfig():
            return inputs, Mixture(labels)
        image, mixed = augment(inputs[0], labels, self.config.augment, self.background.to(inputs[0].device))
        return [_channels_last(image), *inputs[1:]], mixed

    def _attacked(self, inputs: list[Tensor], mixed: Mixture) -> list[Tensor]:
        """The batch with a share of its pictures changed against the model as it is."""
        config = self.config.adversarial
        if config is None:
            return inputs
        count = max(1, round(config.share * len(inputs[0])))
        first, labels = [i[:count] for i in inputs], mixed.head(count)
        pixels = PixelRange.of(self.card.preprocessing)
        image = attack(self.module, first[0], lambda answer: self._loss(answer, first, labels), config, pixels)
        return [_channels_last(torch.cat([image, inputs[0][count:]])), *inputs[1:]]

    def _loss(self, answer: Any, inputs: list[Tensor], mixed: Mixture) -> Tensor:
        """The task's loss of what the module gave for a batch."""
        outputs, smoothing = outputs_of(answer), self.config.label_smoothing
        return mixed.loss(lambda labels: self.task.loss(outputs, TrainingBatch(tuple(inputs), labels, smoothing)))

    def configure_optimizers(self) -> Any:
        """AdamW under the one-cycle schedule."""
        c = self.config
        parameters = (*self.module.parameters(), *self.objective.parameters())
        trained = [p for p in parameters if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=c.learning_rate, weight_decay=c.weight_decay)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        warmup = c.warmup if c.warmup * steps > 1 else 0.0  # torch divides by zero for a rise of one step
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, c.learning_rate, total_steps=steps, pct_start=warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled by seed and epoch, so that a resumed training sees what an uninterrupted one would have seen."""
        return self._loader(self.data.splits["train"], shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation split in order."""
        return self._loader(self.data.splits["validation"], shuffle=False)

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        samples = SplitDataset(split, self.names)
        sampler: DistributedSampler[Any] = DistributedSampler(
            samples,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            shuffle=shuffle,
            seed=self.config.seed,
        )
        size = self.config.batch_size
        drop_last = shuffle and len(samples) > size  # batch normalisation cannot work on one left-over sample
        return DataLoader(samples, size, sampler=sampler, collate_fn=_as_is, drop_last=drop_last)
