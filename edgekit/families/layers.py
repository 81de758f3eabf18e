"""Layers that torch does not have. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """ReLU of a body's output added to its input: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Args:
        body: What is learnt.
        shortcut: Brings the input to the shape of the body's output; the identity where it has it.

    Source: He et al. 2015, arXiv:1512.03385, figure 2.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = functional.relu(self.body(x) + self.shortcut(x))
        return out


class PreNorm(nn.Module):
    """x + body(norm(x)), of any shape (n, ..., width).

    Source: Wang et al. 2019, arXiv:1906.01787; equations 2 and 3 of arXiv:2010.11929.
    """

    def __init__(self, width: int, body: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = x + self.body(self.norm(x))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention in plain products, which every exporter and quantiser knows: (n, tokens, width) as is.

    Args:
        width: Of a token; a multiple of `heads`.
        heads: Number of heads.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(dim=-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, heads, tokens, width / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Tokens(nn.Module):
    """Patches as tokens behind a class token, with learnt positions: (n, c, h, w) -> (n, 1 + patches, width).

    Args:
        channels: Of the picture.
        patches: (down, across): how many.
        patch: Height and width of one, in pixels.
        width: Of a token.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1.
    """

    def __init__(self, channels: int, patches: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + patches[0] * patches[1], width).normal_(std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        patches = self.project(x).flatten(2).transpose(1, 2)
        first = self.class_token.expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches], dim=1) + self.positions


class ClassToken(nn.Module):
    """The first token: (n, tokens, width) -> (n, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x[:, 0]
