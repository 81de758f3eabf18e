"""Adversarial training of a generator: two networks, two optimizers, one of them kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from edgekit import interrupt
from edgekit.data import DataSet
from edgekit.errors import TrainingError
from edgekit.families import FAMILIES
from edgekit.tasks import Metric, TrainingBatch
from edgekit.training.augment import Mixture
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig
from edgekit.training.module import Batch, FitModule, channels_last
from edgekit.training.objective import LearningBatch, Objective

_BETAS = (0.0, 0.99)
_FASTER = 2.0  # the discriminator learns so many times as fast
_STEADY = 0.4  # share of the steps before the learning rate begins to fall
_JUDGED = 2048  # validation pictures an epoch


class AdversarialModule(FitModule):
    """Trains a generator against its discriminator, the generator's `validation` metric decides which epoch is kept.

    Both learn with Adam, the generator at `learning_rate` and the discriminator at twice that; it is steady for 40 % of
    the steps and then falls to nothing. The discriminator is in Lightning's checkpoints only, so that an interrupted
    training can go on.

    Source: Goodfellow et al. 2014, arXiv:1406.2661; hinge loss with spectral normalisation: Miyato et al. 2018,
    arXiv:1802.05957; two learning rates: Heusel et al. 2017, arXiv:1706.08500.
    """

    def __init__(
        self,
        model: TrainedModel,
        data: DataSet,
        config: TrainConfig,
        metric: Metric,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(model, data, config, metric, objective)
        self.automatic_optimization = False
        self.discriminator = channels_last(discriminator_of(model))

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:  # type: ignore[override]
        """One step of each network on the same generated pictures; a loss that is not finite moves neither."""
        if interrupt.requested():
            raise KeyboardInterrupt
        stored, real, samples = batch
        inputs = self._with_fresh_noise(stored)
        seen = self.objective.look(self.module, inputs)
        (made,) = seen.outputs
        for_generator, for_discriminator = self.optimizers()
        told = tell_apart(self.discriminator(_laid_out(real)), self.discriminator(made.detach()))
        self._learn(for_discriminator, told, "the discriminator's loss")
        self.toggle_optimizer(for_generator)
        named = self._named(inputs)
        doubt = partial(self._doubted, made, TrainingBatch(tuple(inputs), real))
        loss = self.objective(seen, LearningBatch(named, named, Mixture(real), samples, doubt))
        self._learn(for_generator, loss, "the generator's loss")
        self.untoggle_optimizer(for_generator)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.log_dict({"loss": loss, "discriminator": told}, prog_bar=True)
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> Any:
        """Adam for the generator, then for the discriminator.

        Raises:
            TrainingError: for more than one process, which would each go their own way.
        """
        if self.trainer.world_size > 1:
            raise TrainingError(
                f"family {self.card.family!r} is trained by one process, got {self.trainer.world_size}; "
                "leave `devices` and `strategy` out"
            )
        total = max(2, int(self.trainer.estimated_stepping_batches))
        rate = self.config.learning_rate
        generating = [*self.module.parameters(), *self.objective.parameters()]
        learners = ((generating, rate), (list(self.discriminator.parameters()), _FASTER * rate))
        optimizers = [torch.optim.Adam(parameters, r, betas=_BETAS) for parameters, r in learners]
        return optimizers, [LambdaLR(o, lambda step: share_of_rate(step / total)) for o in optimizers]

    def val_dataloader(self) -> DataLoader[Any]:
        """The first 2048 samples of the validation split: a distance between features needs no more to steer by."""
        return self._loader(self.data.splits["validation"].take(_JUDGED), shuffle=False)

    def _doubted(self, made: Tensor, batch: TrainingBatch) -> Tensor:
        """The task's loss of generated pictures: what the discriminator says against them."""
        return self.task.loss([self.discriminator(made)], batch)

    def _learn(self, optimizer: Any, loss: Tensor, what: str) -> None:
        if not torch.isfinite(loss):
            raise self._diverged(f"{what} is {float(loss)} at step {self.global_step // 2}")
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.config.clip_gradients is not None:
            self.clip_gradients(optimizer, self.config.clip_gradients)
        optimizer.step()


def discriminator_of(model: TrainedModel) -> nn.Module:
    """The untrained adversary of a generator.

    Raises:
        TrainingError: if its family has none.
    """
    card = model.card
    family = FAMILIES[card.family]
    if family.discriminator is None:
        raise TrainingError(f"family {family.name!r} has no discriminator to train against; choose another family")
    return family.discriminator(card.inputs, **family.sizes[card.size])


def _laid_out(pictures: Tensor) -> Tensor:
    return pictures.contiguous(memory_format=torch.channels_last)


def tell_apart(real: Tensor, made: Tensor) -> Tensor:
    """The discriminator's half of the hinge loss, from what it says of real and made pictures, (n, 1) each.

    >>> float(tell_apart(torch.tensor([[2.0]]), torch.tensor([[0.5]])))
    1.5
    """
    return functional.relu(1 - real.float()).mean() + functional.relu(1 + made.float()).mean()


def share_of_rate(done: float) -> float:
    """Share of the learning rate when this share of the steps is done.

    >>> share_of_rate(0.2), share_of_rate(0.7), share_of_rate(1.0)
    (1.0, 0.5, 0.02)
    """
    return round(max(0.02, min(1.0, (1.0 - done) / (1.0 - _STEADY))), 12)
