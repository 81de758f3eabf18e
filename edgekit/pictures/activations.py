"""What the first, a middle and the last convolution give, in a model and its compressed copy.

A layer is found again by the name of its result, which static quantisation keeps behind DequantizeLinear, else by the
name of its node. What is compared is what the next layer sees: after the activation function, and after rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgekit.graph.read import read_model
from edgekit.graph.scopes import Names
from edgekit.ort import Session
from edgekit.pictures.runs import noise_facts, run_rows
from edgekit.specs import Array

_CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "Gelu", "Elu", "Sigmoid", "Tanh", "PRelu")
_OUTPUT_SCALE = (6, 7)  # inputs of QLinearConv


@dataclass(frozen=True)
class Layer:
    """One convolution in both graphs: its name, and the tensors that hold what it gives."""

    name: str
    base: str
    variant: str


class _Graph:
    """A temporary copy of a model in which results of layers are looked up and made outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.maker = {o: n for n in model.graph.node for o in n.output if o}
        self.named = {n.name: n for n in model.graph.node if n.name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.results = {o.name for o in model.graph.output}

    def convolutions(self) -> Iterator[onnx.NodeProto]:
        return (n for n in self.model.graph.node if n.op_type in _CONVOLUTIONS)

    def result(self, node: onnx.NodeProto) -> str:
        """What the layer behind a convolution sees of it, as floats."""
        if node.op_type == "QLinearConv":
            return self._dequantised(node)
        return self.rounded(self._behind(node.output[0], _ACTIVATIONS))

    def rounded(self, name: str) -> str:
        """A tensor after QuantizeLinear and DequantizeLinear, where it goes through them."""
        quantised = self._behind(name, ("QuantizeLinear",))
        return self._behind(quantised, ("DequantizeLinear",)) if quantised != name else name

    def _behind(self, name: str, operators: tuple[str, ...]) -> str:
        """The result of the one node that reads a tensor, if it is one of these operators."""
        readers = self.readers.get(name, [])
        only = len(readers) == 1 and name not in self.results and readers[0].op_type in operators
        return str(readers[0].output[0]) if only else name

    def _dequantised(self, node: onnx.NodeProto) -> str:
        name = Names(self.model).fresh("seen")
        scale, zero = (node.input[i] for i in _OUTPUT_SCALE)
        self.model.graph.node.append(helper.make_node("DequantizeLinear", [node.output[0], scale, zero], [name]))
        return name

    def expose(self, names: list[str]) -> bytes:
        """The model with these tensors as further outputs."""
        new = [n for n in names if n not in self.results]
        self.model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in new)
        return self.model.SerializeToString()


def compare_activations(
    base: Path, variant: Path, arrays: Mapping[str, Array]
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Mean maps over the channels of up to three convolutions of both models.

    Args:
        base: The original.
        variant: Its compressed copy.
        arrays: A few rows for each input.

    Returns:
        (layers, maps): figures of each layer, with the signal over noise of all its channels in decibels (None where
        channels were removed, or nothing differs); and "I.base", "I.variant": float32 (n, height, width).
    """
    graphs = _Graph(read_model(base)), _Graph(read_model(variant))
    layers = _spread(_common_layers(*graphs))
    if not layers:
        return [], {}
    names = [la.base for la in layers], [la.variant for la in layers]
    before, after = (run_rows(Session(g.expose(n)), arrays, n) for g, n in zip(graphs, names, strict=True))
    facts: list[dict[str, Any]] = []
    maps: dict[str, Array] = {}
    for layer, a, b in zip(layers, before, after, strict=True):
        if a.ndim != 4 or a.shape[2:] != b.shape[2:]:
            continue
        maps |= {f"{len(facts)}.base": _mean(a), f"{len(facts)}.variant": _mean(b)}
        noise = noise_facts(a, b) if a.shape == b.shape else {"snr_db": None, "same": False}
        facts.append({"name": layer.name, "channels": [a.shape[1], b.shape[1]], "size": list(a.shape[2:]), **noise})
    return facts, maps


def _mean(value: Array) -> Array:
    return np.asarray(value.mean(axis=1), np.float32)


def _common_layers(base: _Graph, variant: _Graph) -> list[Layer]:
    found = []
    for node in base.convolutions():
        result = base.result(node)
        again = _found_again(node, result, base, variant)
        if again is not None:
            found.append(Layer(node.name or result, result, again))
    return found


def _found_again(node: onnx.NodeProto, result: str, base: _Graph, variant: _Graph) -> str | None:
    maker = variant.maker.get(result)
    if maker is not None and maker.op_type in ("DequantizeLinear", base.maker[result].op_type):
        return variant.rounded(result)
    same = variant.named.get(node.name)
    return variant.result(same) if same is not None and same.op_type in _CONVOLUTIONS else None


def _spread(layers: list[Layer]) -> list[Layer]:
    """The first, a middle and the last."""
    return [layers[i] for i in sorted({0, len(layers) // 2, len(layers) - 1})] if layers else []
