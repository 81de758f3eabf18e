"""Augmentation of whole batches of images, on the device that trains.

Every random number is drawn from torch's global generator, which training seeds anew for each step: so a resumed
training sees the pictures that an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.data import DataSet
from edgekit.errors import TrainingError
from edgekit.training.config import AugmentConfig

if TYPE_CHECKING:
    from torch import Tensor

_AREA, _ASPECT = (0.02, 0.33), (0.3, 1 / 0.3)  # of an erased box: share of the picture, height / width
_LABEL_MIXING = ("classification", "regression")


@dataclass(frozen=True)
class Mixture:
    """The labels of a batch; of two batches, where two were mixed.

    Attributes:
        labels: Of the batch; None where the task has none.
        others: Of what was mixed in; None where nothing was.
        share: Of the batch itself in the mixture.
    """

    labels: Tensor | None
    others: Tensor | None = None
    share: float = 1.0

    def loss(self, of: Callable[[Tensor | None], Tensor]) -> Tensor:
        """The loss of the mixture: that of both labels, by their shares."""
        if self.others is None:
            return of(self.labels)
        return self.share * of(self.labels) + (1 - self.share) * of(self.others)

    def head(self, count: int) -> Mixture:
        """That of the first samples."""
        first = [None if each is None else each[:count] for each in (self.labels, self.others)]
        return Mixture(first[0], first[1], self.share)


def check_augmentation(config: AugmentConfig, data: DataSet) -> None:
    """Refuse what makes no sense for the data.

    Raises:
        TrainingError: for data that is no image, a shift as large as the picture, or mixed labels where there are none.
    """
    wanted = sorted(config.model_dump(exclude_defaults=True))
    if not wanted:
        return
    shape = data.inputs[0].shape
    if len(shape) != 4:
        raise TrainingError(
            f"augment: {', '.join(wanted)} needs images (batch, channels, height, width), but {data.name!r} has "
            f"{data.inputs[0]}; leave `augment` out"
        )
    smallest = min(int(d) for d in shape[2:])
    if config.shift >= smallest:
        raise TrainingError(f"augment: shift must be below the picture's {smallest} pixels, got {config.shift}")
    lossy = [name for name in wanted if name in ("erase", "mixup", "cutmix")]
    if lossy and data.task not in _LABEL_MIXING:
        raise TrainingError(
            f"augment: {', '.join(lossy)} would change what {data.task} has to give back; use flip and shift only"
        )


def background_of(data: DataSet) -> Tensor:
    """What a stored pixel of 0 is to the model: float (channels, 1, 1); 0 where nothing is known of the pixels."""
    import torch

    p = data.of_pictures
    if p is None:
        return torch.zeros(1, 1, 1)
    black = p(np.zeros((1, p.height, p.width, p.channels)))
    return torch.from_numpy(black[0, :, :1, :1])


def augment(
    images: Tensor, labels: Tensor | None, config: AugmentConfig, background: float | Tensor = 0.0
) -> tuple[Tensor, Mixture]:
    """Change a batch at random.

    Args:
        images: float (n, channels, height, width).
        labels: (n, ...); None where the task has none.
        config: What to do, and how often or how much.
        background: What comes in from outside when a picture is shifted; a number or (channels, 1, 1).

    Returns:
        Images of the same shape, and the labels that belong to them.
    """
    import torch

    if config.flip:
        images = flip(images)
    if config.shift:
        images = shift(images, config.shift, background)
    if config.erase:
        images = erase(images, config.erase)
    mixers = [(m, alpha) for m, alpha in ((mixup, config.mixup), (cutmix, config.cutmix)) if alpha]
    if not mixers or labels is None:
        return images, Mixture(labels)
    mixer, alpha = mixers[int(torch.randint(len(mixers), ()))]
    images, order, share = mixer(images, alpha)
    return images, Mixture(labels, labels[order], share)


def flip(images: Tensor) -> Tensor:
    """Mirror every other picture, left to right: (n, c, h, w) -> the same shape."""
    import torch

    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(3), images)


def shift(images: Tensor, pixels: int, background: float | Tensor = 0.0) -> Tensor:
    """Move every picture by up to so many pixels each way: padded, then cut at random.

    Args:
        images: (n, c, h, w).
        pixels: The most it moves.
        background: What it is padded with; a number or (c, 1, 1).

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    import torch

    n, c, h, w = images.shape
    padded = images.new_empty(n, c, h + 2 * pixels, w + 2 * pixels)
    padded[:] = torch.as_tensor(background, dtype=images.dtype, device=images.device)
    padded[:, :, pixels : pixels + h, pixels : pixels + w] = images
    down, right = torch.randint(2 * pixels + 1, (2, n), device=images.device)
    every = torch.arange(n, device=images.device)
    return padded.unfold(2, h, 1).unfold(3, w, 1)[every, :, down, right]


def erase(images: Tensor, probability: float) -> Tensor:
    """Fill a box of some pictures with noise: of 2 to 33 % of the area and any aspect from 0.3 to 3.3.

    Args:
        images: (n, c, h, w), normalised to about zero mean and unit deviation, which is what the noise has.
        probability: Of a picture to get a box.

    Source: Zhong et al. 2017, arXiv:1708.04896; a box that is too long for the picture is cut to it, not drawn again.
    """
    import torch

    n, _, h, w = images.shape
    draw = torch.rand(3, n, device=images.device)
    area = (_AREA[0] + (_AREA[1] - _AREA[0]) * draw[0]) * h * w
    low, high = (torch.tensor(a, device=images.device).log() for a in _ASPECT)
    aspect = (low + (high - low) * draw[1]).exp()
    inside = _boxes((area * aspect).sqrt(), (area / aspect).sqrt(), h, w)
    chosen = (draw[2] < probability)[:, None, None] & inside
    return torch.where(chosen[:, None], torch.randn_like(images), images)


def mixup(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Blend each picture with another one of the batch.

    Args:
        images: (n, c, h, w).
        alpha: Of the Beta distribution that the share is drawn from.

    Returns:
        (images, order, share): share of each picture and 1 - share of `images[order]`.

    Source: Zhang et al. 2017, arXiv:1710.09412.
    """
    import torch

    share = _share(alpha)
    order = torch.randperm(len(images), device=images.device)
    return share * images + (1 - share) * images[order], order, share


def cutmix(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Put a box of another picture of the batch into each, the same box for all.

    Args:
        images: (n, c, h, w).
        alpha: Of the Beta distribution that the share of the area is drawn from.

    Returns:
        (images, order, share): share of the area that each picture kept; the box is of `images[order]`.

    Source: Yun et al. 2019, arXiv:1905.04899.
    """
    import torch

    _, _, h, w = images.shape
    side = (1 - _share(alpha)) ** 0.5
    height, width = (torch.tensor([side * length], device=images.device) for length in (h, w))
    inside = _boxes(height, width, h, w)
    order = torch.randperm(len(images), device=images.device)
    mixed = torch.where(inside[:, None], images[order], images)
    return mixed, order, 1 - float(inside.sum()) / (h * w)


def _share(alpha: float) -> float:
    from torch.distributions import Beta

    return float(Beta(alpha, alpha).sample())


def _boxes(heights: Tensor, widths: Tensor, h: int, w: int) -> Tensor:
    """Boxes at random places that lie inside the picture: sides float (n,) -> bool (n, h, w)."""
    vertical, horizontal = _span(heights, h), _span(widths, w)
    return vertical[:, :, None] & horizontal[:, None, :]


def _span(lengths: Tensor, limit: int) -> Tensor:
    import torch

    whole = lengths.round().clamp(max=limit)
    start = (torch.rand(len(whole), device=whole.device) * (limit - whole + 1)).floor()[:, None]
    place = torch.arange(limit, device=whole.device)[None]
    return (place >= start) & (place < start + whole[:, None])
