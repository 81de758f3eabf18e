"""Layers that torch does not have. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# What may not be looked at gets this; far below any score, and still a number that int8 can scale.
HIDDEN = -1e4


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
    """Multi-head attention in plain products, which every exporter and quantiser knows: (n, tokens, width) as is.

    Training with a mask uses torch's fused product.

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

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """See the class; the mask as in `attend`."""
        return self.attend(x, *self.keys_and_values(x), mask)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is looked at: (n, tokens, width) -> (n, heads, tokens, width / heads) twice."""
        return self._split(self.key(x)), self._split(self.value(x))

    def attend(
        self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Look at keys and values, which may come from elsewhere.

        Args:
            x: Who looks: (n, tokens, width).
            key: (n, heads, others, width / heads).
            value: Of the same shape.
            mask: Added to the scores, (..., tokens, others) or what spreads to that: 0 where a token may look, `HIDDEN`
                elsewhere.
            causal: Whether the mask is that of looking back only, over tokens that begin here.

        Returns:
            (n, tokens, width).
        """
        query = self._split(self.query(x))
        if self.training and mask is not None:
            how = {"is_causal": True} if causal else {"attn_mask": mask}
            mixed = functional.scaled_dot_product_attention(query, key, value, **how)
        else:
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
            mixed = (scores if mask is None else scores + mask).softmax(dim=-1) @ value
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
