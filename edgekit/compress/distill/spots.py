"""Where to look inside a module: feature maps of each size, what enters the last layer, attentions and their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import CompressError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.training.seen import Spot

# Names of the projections to queries and keys, in our families and in those of Hugging Face.
_QUERIES_KEYS = (("query", "key"), ("q_lin", "k_lin"), ("q_proj", "k_proj"))
_HEADS = ("heads", "num_attention_heads", "n_heads", "num_heads")


@dataclass(frozen=True)
class Passed:
    """What left a layer of a module when samples went through it.

    Attributes:
        layer: Its name.
        shape: Of its (first) output.
        linear: Whether it is a matrix.
    """

    layer: str
    shape: tuple[int, ...]
    linear: bool


def passed_by(module: nn.Module, inputs: Sequence[Tensor]) -> list[Passed]:
    """What leaves every layer, in the order in which it does; the module itself comes last, as ""."""
    import torch
    from torch import Tensor, nn

    from edgekit.training.objective import outputs_of

    found: list[Passed] = []

    def note(name: str, layer: nn.Module, answer: Any) -> None:
        first = outputs_of(answer)[0]
        if isinstance(first, Tensor):
            found.append(Passed(name, tuple(first.shape), isinstance(layer, nn.Linear)))

    handles = [
        layer.register_forward_hook(lambda layer, _, answer, name=name: note(name, layer, answer))
        for name, layer in module.named_modules()
    ]
    modes = [(each, each.training) for each in module.modules()]
    try:
        with torch.inference_mode():
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for each, mode in modes:
            each.training = mode
    return found


def penultimate(module: nn.Module, inputs: Sequence[Tensor], who: str) -> Spot:
    """What enters the last matrix of a module.

    Raises:
        CompressError: if it has none.
    """
    from edgekit.training.seen import Spot

    matrices = [p.layer for p in passed_by(module, inputs) if p.linear]
    if not matrices:
        raise CompressError(f"{who} has no linear layer before its outputs to look at; use `distill: logits`")
    return Spot(matrices[-1], entering=True)


def feature_maps(module: nn.Module, inputs: Sequence[Tensor]) -> dict[tuple[int, ...], str]:
    """The last layer that gives maps of each size: (height, width) -> its name, larger ones first."""
    maps = [p for p in passed_by(module, inputs) if p.layer and len(p.shape) == 4 and min(p.shape[2:]) > 1]
    found = {p.shape[2:]: p.layer for p in maps}
    return dict(sorted(found.items(), reverse=True))


def last_tokens(module: nn.Module, inputs: Sequence[Tensor]) -> str | None:
    """The last layer inside a module that gives a vector for each step or token; None if there is none."""
    passed = passed_by(module, inputs)
    logits = next((p.shape for p in passed if not p.layer), ())
    tokens = [p.layer for p in passed if p.layer and len(p.shape) == 3 and p.shape != logits]
    return tokens[-1] if tokens else None


def columns_of(module: nn.Module, layer: str) -> int:
    """How many numbers a matrix inside a module takes."""
    return int(module.get_parameter(f"{layer}.weight").shape[1])


def require_layer(module: nn.Module, name: str, who: str) -> str:
    """The name of a layer that somebody typed.

    Raises:
        CompressError: if there is none; the message holds the nearest.
    """
    names = [n for n, _ in module.named_modules() if n]
    if name not in names:
        said = unknown("layer", name, names, of=who)
        raise CompressError(said if len(said) < 400 else f"{said[:400]}…")
    return name


@dataclass(frozen=True)
class Attention:
    """Self-attention in a module.

    Attributes:
        query: Name of the layer that makes queries, (n, tokens, width).
        key: Name of the layer that makes keys.
        heads: How many.
    """

    query: str
    key: str
    heads: int


@dataclass(frozen=True)
class Blocks:
    """The blocks of a transformer: children of one container that hold an attention each.

    Attributes:
        container: Name of the `nn.ModuleList` or `nn.Sequential`.
        children: For each block, the indices of its children in the container.
        attentions: One a block.
    """

    container: str
    children: tuple[tuple[int, ...], ...]
    attentions: tuple[Attention, ...]

    def __len__(self) -> int:
        return len(self.children)

    def name(self, child: int) -> str:
        """The name of a child of the container."""
        return f"{self.container}.{child}".lstrip(".")

    @property
    def entry(self) -> str:
        """The first layer of the first block."""
        return self.name(self.children[0][0])

    @property
    def ends(self) -> tuple[str, ...]:
        """The last layer of each block."""
        return tuple(self.name(each[-1]) for each in self.children)


def blocks_of(module: nn.Module) -> Blocks | None:
    """The blocks of a transformer; None for what is none."""
    found = list(_attentions(module))
    for container in _containers(module):
        if not found:
            break
        places = [_child_of(container, attention.query) for attention in found]
        if None not in places and len(set(places)) == len(places):
            first = [int(p) for p in places if p is not None]
            count = len(list(module.get_submodule(container).children()))
            return Blocks(container, tuple(_spans(first, count)), tuple(found))
    return None


def _attentions(module: nn.Module) -> list[Attention]:
    from torch import nn

    found = []
    for name, layer in module.named_modules():
        for query, key in _QUERIES_KEYS:
            if isinstance(getattr(layer, query, None), nn.Linear) and isinstance(getattr(layer, key, None), nn.Linear):
                heads = next((getattr(layer, n) for n in _HEADS if isinstance(getattr(layer, n, None), int)), 1)
                found.append(Attention(f"{name}.{query}".lstrip("."), f"{name}.{key}".lstrip("."), heads))
    return found


def _containers(module: nn.Module) -> list[str]:
    """Names of lists of layers, `nn.ModuleList`s first, then those with the most layers."""
    from torch import nn

    lists = [(n, m) for n, m in module.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential))]
    return [n for n, m in sorted(lists, key=lambda each: (isinstance(each[1], nn.Sequential), -len(each[1])))]


def _child_of(container: str, layer: str) -> str | None:
    """The child of a container that holds a layer; None if it is elsewhere."""
    inside = f"{container}." if container else ""
    return layer.removeprefix(inside).partition(".")[0] if layer.startswith(inside) else None


def _spans(first: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """The children of each block, from where its attention is to the next one's; the last is as long as those before.

    >>> _spans([1, 3], 7)
    [(1, 2), (3, 4)]
    """
    length = first[1] - first[0] if len(first) > 1 else 1
    ends = [*first[1:], min(first[-1] + length, count)]
    return [tuple(range(start, end)) for start, end in zip(first, ends, strict=True)]
