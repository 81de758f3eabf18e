"""Code of a user: what `--builder` names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """Image (n, 1, 8, 8) -> logits (n, outputs)."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, outputs)

    def forward(self, image: Tensor) -> Tensor:
        print("a user's print")
        return self.head(self.body(image))  # type: ignore[no-any-return]

    @classmethod
    def of(cls, outputs: int) -> Plain:
        return cls(outputs)


class Mapped(Plain):
    def forward(self, image: Tensor) -> Any:
        features = self.body(image)
        return {"classes": self.head(features), "features": features}


class Paired(nn.Module):
    """(ids int64 (n, 4), scale float (n, 2)) -> (n, 2) and (n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, ids: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return self.table(ids).mean(1) * scale, ids.float() * 2


class Frozen(Plain):
    """Works at one batch size only."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.reshape(2, 1, 8, 8))


class Odd(Plain):
    def forward(self, image: Tensor) -> Any:
        return [super().forward(image), "text"]


def plain() -> nn.Module:
    torch.manual_seed(0)
    return Plain()


def failing() -> nn.Module:
    raise RuntimeError("no such\nlayer")


def number() -> int:
    return 3


CONSTANT = 3
