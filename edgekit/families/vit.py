"""Vision transformer: patches as tokens, a class token, learnt positions, pre-norm blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import RecipeError
from edgekit.families.family import Family
from edgekit.families.image import picture_of
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


def build_vit(
    inputs: tuple[TensorSpec, ...],
    outputs: int,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    widening: int = 4,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a ViT.

    Args:
        inputs: One picture (n, channels, height, width); height and width are multiples of `patch`.
        outputs: Number of outputs.
        patch: Height and width of a patch, in pixels.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        widening: Hidden units of each block's MLP for each of `width`.
        dropout: After each attention and each layer of an MLP.

    Returns:
        A module: float (n, channels, height, width) -> float (n, outputs).

    Raises:
        RecipeError: if the input is no picture, or cannot be cut into patches.
    """
    from torch import nn

    from edgekit.families.layers import ClassToken, Tokens

    picture = picture_of(inputs, "vit")
    if picture.height % patch or picture.width % patch:
        raise RecipeError(
            f"family 'vit' at this size cuts pictures into {patch}x{patch} patches, which {picture.height}x"
            f"{picture.width} pixels are no multiple of; choose another size of the family or resize the pictures"
        )
    patches = (picture.height // patch, picture.width // patch)
    blocks = [layer for _ in range(depth) for layer in _block(width, heads, widening * width, dropout)]
    tokens = Tokens(picture.channels, patches, patch, width)
    body = nn.Sequential(tokens, *blocks, nn.LayerNorm(width, eps=1e-6), ClassToken())
    return _initialised(body, nn.Linear(width, outputs))


def _block(width: int, heads: int, hidden: int, dropout: float) -> list[nn.Module]:
    """Attention, then an MLP, both behind a normalisation and added to what came in: (n, tokens, width) as is."""
    from torch import nn

    from edgekit.families.layers import PreNorm, SelfAttention

    attention = nn.Sequential(SelfAttention(width, heads), nn.Dropout(dropout))
    mlp = [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)]
    return [PreNorm(width, attention), PreNorm(width, nn.Sequential(*mlp))]


def _initialised(body: nn.Module, last: nn.Linear) -> nn.Module:
    """Linear layers from Glorot's uniform distribution, patches from N(0, 1 / inputs), the last layer from N(0, 0.02).

    Source: the paper's own code, github.com/google-research/vision_transformer, but for the last layer, which it sets
    to zero: an untrained model would answer nothing; that is from Touvron et al. 2020, arXiv:2012.12877.
    """
    from torch import nn

    module = nn.Sequential(body, last)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    nn.init.normal_(last.weight, std=0.02)
    return module


VIT = Family(
    name="vit",
    summary="vision transformer",
    paper="Dosovitskiy et al. 2020, arXiv:2010.11929",
    tasks=("classification",),
    sizes={
        "pico": {"patch": 4, "width": 32, "depth": 2, "heads": 2},
        "small": {"patch": 4, "width": 96, "depth": 4, "heads": 3, "widening": 2},
        "base": {"patch": 4, "width": 192, "depth": 9, "heads": 3, "dropout": 0.1},
    },
    build=build_vit,
)
