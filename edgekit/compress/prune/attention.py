"""Where the heads of an attention lie in its tensors, for ours and those of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.prune.slots import Group, Slot

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Layout:
    """What an attention's parts are called, relative to the module that has queries, keys and values.

    Attributes:
        heads: Attribute with the number of heads.
        inputs: The three layers.
        output: The layer behind the heads; ".." goes to the module around.
        width: Attribute with the width of all heads together, where there is one.
    """

    heads: str
    inputs: tuple[str, str, str]
    output: str
    width: str = ""


LAYOUTS = (
    Layout("heads", ("query", "key", "value"), "out"),
    Layout("num_attention_heads", ("query", "key", "value"), "..output.dense", "all_head_size"),  # BERT, ViT
    Layout("n_heads", ("q_lin", "k_lin", "v_lin"), "out_lin", "dim"),  # DistilBERT
)


@dataclass(frozen=True)
class Attention:
    """One attention of a module.

    Attributes:
        name: Of the module with queries, keys and values.
        layout: What its parts are called.
        heads: How many.
        width: Of one head.
        output: Name of the layer behind the heads.
    """

    name: str
    layout: Layout
    heads: int
    width: int
    output: str

    def group(self) -> Group:
        """Its heads as what can be removed."""
        places = np.arange(self.heads * self.width).reshape(self.heads, self.width)
        layers = [f"{self.name}.{part}" for part in self.layout.inputs]
        slots = [Slot(layer, tensor, 0, places) for layer in layers for tensor in ("weight", "bias")]
        return Group(self.name, self.heads, (*slots, Slot(self.output, "weight", 1, places)))


def find_attentions(module: nn.Module) -> list[Attention]:
    """Every attention of a known layout, in the order of the module."""
    return [found for name, layer in module.named_modules() for found in _read(module, name, layer)]


def _read(module: nn.Module, name: str, layer: Any) -> Iterator[Attention]:
    from torch import nn

    for layout in LAYOUTS:
        heads, parts = getattr(layer, layout.heads, None), [getattr(layer, n, None) for n in layout.inputs]
        if type(heads) is not int or not all(isinstance(p, nn.Linear) and p.bias is not None for p in parts):
            continue
        first: Any = parts[0]
        output = _beside(name, layout.output)
        if len({getattr(p, "out_features", 0) for p in parts}) == 1 and _is_linear(module, output, first.out_features):
            yield Attention(name, layout, heads, first.out_features // heads, output)


def _beside(name: str, part: str) -> str:
    """The path of a part; ".." stands for the module around."""
    if not part.startswith(".."):
        return f"{name}.{part}" if name else part
    around = name.rpartition(".")[0]
    return f"{around}.{part[2:]}" if around else part[2:]


def _is_linear(module: nn.Module, name: str, inputs: int) -> bool:
    from torch import nn

    try:
        layer = module.get_submodule(name)
    except AttributeError:
        return False
    return isinstance(layer, nn.Linear) and layer.in_features == inputs


def count_heads(module: nn.Module, attention: Attention) -> None:
    """Let an attention's numbers say what its tensors are, after heads went."""
    layer: Any = module.get_submodule(attention.name)
    width = layer.get_submodule(attention.layout.inputs[0]).out_features
    setattr(layer, attention.layout.heads, width // attention.width)
    if attention.layout.width:
        setattr(layer, attention.layout.width, width)
