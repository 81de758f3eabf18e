"""Adversarial examples: pictures changed by at most epsilon a pixel so that a model gets them wrong.

Everything is in units of stored pixels between 0 and 1; what the model sees is normalised, so epsilon is divided by the
standard deviation that the preprocessing divides by, and pixels never leave the range that real ones have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data import Split
from edgekit.errors import TrainingError
from edgekit.progress import track
from edgekit.training.checkpoint import ModelCard, TrainedModel
from edgekit.training.config import AttackConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 128


@dataclass(frozen=True)
class PixelRange:
    """The pixels that a model can see, in its own units; float (channels, 1, 1) each.

    Attributes:
        low: Of a stored pixel of 0.
        high: Of a stored pixel of 1.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> PixelRange:
        """The range of pixels after a preprocessing, as a model's card holds it.

        Raises:
            TrainingError: if it is not that of images.
        """
        import torch

        if preprocessing.get("kind") != "image":
            raise TrainingError(
                "an attack needs to know what the pixels 0 and 1 are to the model, and this data does not say how its "
                "pictures were normalised; use a named image data set (`edgekit list data`)"
            )
        mean, std = (torch.tensor(preprocessing[k], dtype=torch.float32).reshape(-1, 1, 1) for k in ("mean", "std"))
        return cls((0 - mean) / std, (1 - mean) / std)

    def to(self, images: Tensor) -> PixelRange:
        """On the device of some pictures."""
        return PixelRange(self.low.to(images.device), self.high.to(images.device))


def check_adversarial(config: AttackConfig | None, card: ModelCard) -> None:
    """Refuse to train against attacks where there are no pictures of known range to classify.

    Raises:
        TrainingError: for another task or unknown preprocessing.
    """
    if config is None:
        return
    if card.task != "classification":
        raise TrainingError(f"adversarial training is for classification, and this is {card.task}; leave it out")
    PixelRange.of(card.preprocessing)


def attack(
    module: nn.Module, images: Tensor, loss: Callable[[Any], Tensor], config: AttackConfig, pixels: PixelRange
) -> Tensor:
    """Change pictures so that a model's loss grows.

    One step from a random start is the fast gradient sign method, several are projected gradient descent. The model is
    in evaluation mode meanwhile, and its parameters get no gradients.

    Args:
        module: float (n, c, h, w) -> whatever `loss` takes.
        images: float (n, c, h, w), as the model gets them.
        loss: What the module gives for those pictures -> scalar loss to raise.
        config: How.
        pixels: What is allowed.

    Returns:
        Pictures of the same shape, none further than epsilon from where it was.

    Source: Goodfellow et al. 2014, arXiv:1412.6572; random start: Wong et al. 2020, arXiv:2001.03994; several steps:
    Madry et al. 2017, arXiv:1706.06083.
    """
    import torch

    pixels = pixels.to(images)
    unit = pixels.high - pixels.low
    reach, step = config.epsilon * unit, config.step * unit
    low, high = torch.maximum(images - reach, pixels.low), torch.minimum(images + reach, pixels.high)
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.enable_grad():
            found = images.detach() + reach * (2 * torch.rand_like(images) - 1)
            for _ in range(config.rounds):
                found = torch.clamp(found, low, high).requires_grad_()
                (slope,) = torch.autograd.grad(loss(module(found)), found)
                found = found.detach() + step * slope.sign()
    finally:
        for each, mode in modes:
            each.training = mode
    return torch.clamp(found, low, high).contiguous(memory_format=torch.channels_last)


def attacked(model: TrainedModel, split: Split, config: AttackConfig, *, seed: int = 0) -> Split:
    """A split with its pictures changed against a classifier that is fully known (white box).

    Args:
        model: The classifier; its card says how pictures were normalised.
        split: Images float32 (n, c, h, w) and labels (n,).
        config: How.
        seed: Of the random start.

    Raises:
        TrainingError: if the model is no classifier of images.
        DataError: if the split does not fit it.
    """
    import torch
    from torch.nn.functional import cross_entropy

    if model.card.task != "classification" or split.labels is None:
        raise TrainingError(f"an attack needs a classifier and labels, got a model for {model.card.task}")
    pixels, data = PixelRange.of(model.card.preprocessing), split.matched(model.inputs)
    (name,) = data.arrays
    count, found = -(-len(data) // _BATCH), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in track(data.batches(model.inputs, _BATCH), f"attack {split.name}", total=count):
            images, labels = torch.from_numpy(part.feeds[name]), torch.from_numpy(part.labels)

            def loss(outputs: Tensor, labels: Tensor = labels) -> Tensor:
                return cross_entropy(outputs, labels, reduction="sum")

            found.append(attack(model.module, images, loss, config, pixels).contiguous().numpy())
    return replace(data, arrays={name: np.concatenate(found)})
