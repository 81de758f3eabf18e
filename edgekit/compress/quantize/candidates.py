"""Which initializers of a normalised model are float weights, who reads them, and which better stay as they are."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgekit.graph.read import every_node
from edgekit.graph.scopes import defined_names, fixed_initializers, subgraphs_of
from edgekit.specs import Array

FLOATS = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE))
# Operators that multiply by their weight or look rows up in it; elsewhere a constant is data, not a weight.
_WEIGHTED = """
    Attention Conv ConvTranspose DeformConv Einsum EmbedLayerNormalization FusedConv FusedGemm FusedMatMul Gather
    GatherND Gemm GRU LSTM MatMul MultiHeadAttention QAttention RNN
"""
WEIGHTED_OPS = frozenset(_WEIGHTED.split())
_BIAS_INPUTS = {"Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,), "LSTM": (3, 5, 6, 7), "GRU": (3, 5), "RNN": (3, 5)}
_QUANTISED_SIGNS = ("quant", "qlinear", "nbits", "integer", "qgemm", "qmoe", "bnb4", "qattention")
_HUGE = 1e30  # masks, not weights
_HALF_FROM = 64  # elements; below, the Cast takes more bytes than the halves save
_LEAST_HALF, _MOST_HALF = 2.0**-10, 6.5e4  # of the largest: what is far below it is lost in float16


@dataclass(frozen=True)
class Use:
    """One place that reads a weight."""

    node: onnx.NodeProto
    index: int


@dataclass(frozen=True)
class Weight:
    """A float initializer with the graph that holds it and every node that reads it.

    Attributes:
        name: Its name in its graph.
        graph: The graph that holds it.
        tensor: Its values.
        uses: Its readers, those in subgraphs included.
    """

    name: str
    graph: onnx.GraphProto
    tensor: onnx.TensorProto
    uses: tuple[Use, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.tensor.dims)

    @property
    def values(self) -> Array:
        """float32 values, in the tensor's shape."""
        return np.asarray(numpy_helper.to_array(self.tensor), np.float32)

    @property
    def is_multiplied(self) -> bool:
        """Whether every reader multiplies by it or looks rows up in it."""
        return all(u.node.op_type in WEIGHTED_OPS for u in self.uses)


def find_weights(model: onnx.ModelProto) -> Iterator[Weight]:
    """Every float initializer of the main graph and of subgraphs that no caller can override and no graph returns."""
    yield from _weights_of(model.graph)


def _weights_of(graph: onnx.GraphProto) -> Iterator[Weight]:
    uses = _uses(graph)
    outputs = {o.name for o in graph.output}
    for name, tensor in fixed_initializers(graph).items():
        if tensor.data_type in FLOATS and name not in outputs and uses[name]:
            yield Weight(name, graph, tensor, tuple(uses[name]))
    for node in graph.node:
        for inner in subgraphs_of(node):
            yield from _weights_of(inner)


def _uses(graph: onnx.GraphProto) -> defaultdict[str, list[Use]]:
    found: defaultdict[str, list[Use]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            found[name].append(Use(node, index))
        for inner in subgraphs_of(node):
            own = defined_names(inner)
            for name, uses in _uses(inner).items():
                if name not in own:
                    found[name].extend(uses)
            for output in inner.output:
                if output.name not in own:
                    found[output.name].append(Use(node, -1))
    return found


def why_kept(
    weight: Weight, min_elements: int, excluded: Iterable[str] = (), producers: Producers | None = None
) -> str:
    """Why a weight stays in float; "" if it need not."""
    excluded = set(excluded)
    if any(u.node.name in excluded for u in weight.uses):
        return "a node that reads it is excluded"
    if len(weight.tensor.dims) < 2 or weight.size < min_elements:
        return "small"
    if any(u.index in _BIAS_INPUTS.get(u.node.op_type, ()) for u in weight.uses):
        return "a bias"
    if _belongs_to_integers(weight, producers):
        return "belongs to a part that is quantised already"
    if weight.tensor.data_type == TensorProto.FLOAT16 and all(u.node.op_type == "Cast" for u in weight.uses):
        return "stored in 16 bits already"
    values = weight.values
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > _HUGE:
        return "a mask"
    return ""


def is_spare_half(weight: Weight, kept: str, producers: Producers) -> bool:
    """Whether a weight that is no integer, being small or a bias, loses nothing in float16 and takes fewer bytes."""
    if kept not in ("small", "a bias") or weight.size < _HALF_FROM or weight.tensor.data_type == TensorProto.FLOAT16:
        return False
    largest = float(np.abs(weight.values).max(initial=0))
    return _LEAST_HALF <= largest <= _MOST_HALF and not _belongs_to_integers(weight, producers)


def _belongs_to_integers(weight: Weight, producers: Producers | None) -> bool:
    if any(_is_quantised(u.node) for u in weight.uses):
        return True
    return producers is not None and any(producers.scales_integers(u.node) for u in weight.uses)


def _is_quantised(node: onnx.NodeProto) -> bool:
    return any(sign in node.op_type.lower() for sign in _QUANTISED_SIGNS)


def out_of_reach(model: onnx.ModelProto) -> str:
    """What keeps a whole model from being quantised: that it is already, or that callers may override weights."""
    found = []
    if quantised := sorted({n.op_type for n in every_node(model) if _is_quantised(n)}):
        found.append(f"the model is quantised already ({', '.join(quantised)})")
    inputs = {i.name for i in model.graph.input}
    open_to_callers = [i.name for i in model.graph.initializer if i.data_type in FLOATS and i.name in inputs]
    if open_to_callers:
        found.append(
            f"{len(open_to_callers)} of its weights are inputs too, which callers may override "
            f"({', '.join(open_to_callers[:3])}{', …' if len(open_to_callers) > 3 else ''})"
        )
    return "; ".join(found)


class Producers:
    """Who makes a value of a graph; tells scales of stored integers from weights."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        integers = {i.name for i in graph.initializer if i.data_type not in FLOATS}
        self._casts = {n.output[0] for n in graph.node if n.op_type == "Cast" and n.input[0] in integers}

    def scales_integers(self, node: onnx.NodeProto) -> bool:
        """Whether a Mul (or Sub) works on integers that were just cast to float."""
        return node.op_type in ("Mul", "Sub") and any(i in self._casts for i in node.input)


def why_nothing(model: onnx.ModelProto, kept: Mapping[str, str]) -> str:
    """One sentence on a model in which no float weight could be stored in fewer bits.

    Args:
        model: The model.
        kept: Why each of its float weights stays, by name.
    """
    listed = ", ".join(f"{count} {why}" for why, count in Counter(kept.values()).most_common())
    none = (
        f"no float weight is worth storing in fewer bits ({listed})" if listed else "the model holds no float weights"
    )
    return "; ".join(filter(None, [none, out_of_reach(model)]))
