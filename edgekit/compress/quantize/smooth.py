"""Outlier channels of activations moved into the weights, before products are quantised.

x @ W = (x / s) @ (s * W): with s large where a channel of x is, the range of the quantised activation shrinks and the
weights, which have a scale a column, hardly notice.

Source: Xiao et al. 2023, arXiv:2211.10438 (SmoothQuant); here the strength is chosen for each product by the noise that
it predicts, and products that gain little are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.candidates import Weight
from edgekit.compress.quantize.moments import Observed, as_matrices, from_matrices, multiplier_of
from edgekit.graph.scopes import Names, count_uses, fixed_initializers
from edgekit.specs import Array

_STRENGTHS = (0.25, 0.5, 0.75, 0.9)
_NOISY_DB = 30.0  # products with less noise than this gain nothing that a user would notice
_GAIN_DB = 3.0  # the multiplication must be worth its time
_TINY = 1e-5
_NORMS = frozenset(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"))


@dataclass(frozen=True)
class _Group:
    value: str
    weights: list[Weight]
    seen: Observed

    @property
    def joined(self) -> Array:
        """All weights that read the value, side by side: (columns of x, outputs)."""
        return np.concatenate([as_matrices(w.uses[0].node, w.values)[0].T for w in self.weights], axis=1).astype(
            np.float64
        )


def smooth_products(
    model: onnx.ModelProto, weights: list[Weight], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Smooth the products that are noisy; the model and the weights are changed in place.

    Args:
        model: A normalised model; it computes the same afterwards.
        weights: Weights of products that will be quantised.
        observed: What multiplies them on calibration data.

    Returns:
        What was observed, as it would be on the smoothed model, by the names of its values.
    """
    result, names = dict(observed), Names(model)
    for group in _groups(weights, observed):
        factor = _choose_factor(group)
        if factor is None:
            continue
        value = divide_value(model, group.value, {w.uses[0].node.name for w in group.weights}, factor, names)
        for weight in group.weights:
            node = weight.uses[0].node
            node.input[0] = value
            scaled = from_matrices(node, as_matrices(node, weight.values) * factor, weight.values.shape)
            weight.tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), weight.name))
        result[value] = group.seen.divided(factor)
    return result


def _groups(weights: list[Weight], observed: Mapping[str, Observed]) -> list[_Group]:
    readers: dict[str, list[Weight]] = {}
    for weight in weights:
        seen = multiplier_of(weight)
        if seen is not None and not seen.recurrent and seen.value in observed:
            readers.setdefault(seen.value, []).append(weight)
    return [_Group(value, found, observed[value]) for value, found in readers.items()]


def _choose_factor(group: _Group) -> Array | None:
    """Channel factors s, float64 (columns,), of geometric mean 1; None where smoothing is not worth it."""
    weight, seen = group.joined, group.seen
    signal = float(np.vdot(weight, seen.second[0] @ weight))
    plain = predicted_noise(weight, seen)
    if signal <= 0 or plain <= 0 or 10 * np.log10(signal / plain) > _NOISY_DB:
        return None
    largest = np.maximum(np.maximum(seen.high[0], -seen.low[0]), _TINY)
    heaviest = np.maximum(np.abs(weight).max(axis=1), _TINY)
    tried = [_centred(largest**a / heaviest ** (1 - a)) for a in _STRENGTHS]
    noise = [predicted_noise(weight * s[:, None], seen.divided(s)) for s in tried]
    best = int(np.argmin(noise))
    return tried[best] if 10 * np.log10(plain / noise[best]) >= _GAIN_DB else None


def _centred(factor: Array) -> Array:
    return np.asarray(factor / np.exp(np.log(factor).mean()))


def predicted_noise(weight: Array, seen: Observed) -> float:
    """Expected noise power of a product whose activation and weight are rounded to 8 bits.

    Args:
        weight: (columns of x, outputs).
        seen: What x is.
    """
    span = max(float(seen.high.max()), 0.0) - min(float(seen.low.min()), 0.0)
    from_activation = (span / 255) ** 2 / 12 * float(np.square(weight).sum())
    steps = np.abs(weight).max(axis=0) / 127
    return from_activation + float(np.square(steps).sum() / 12 * np.trace(seen.second[0]))


def divide_value(model: onnx.ModelProto, value: str, readers: Collection[str], factor: Array, names: Names) -> str:
    """Divide what some nodes read by a factor a column: in what makes it, if nobody else reads it, else by a new Mul.

    Args:
        model: Changed in place.
        value: A value of the main graph, columns along its last axis.
        readers: Names of the nodes that shall read x / factor, each once.
        factor: (columns,).
        names: For the Mul.

    Returns:
        The name of x / factor, which the readers have to be told.
    """
    constants = _foldable(_Makers(model.graph), value, len(readers), len(factor))
    if constants:
        for name, tensor in constants.items():
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((values / factor).astype(values.dtype), name))
        return value
    scale, divided = names.fresh("d"), names.fresh("x")
    model.graph.initializer.append(numpy_helper.from_array((1 / factor).astype(np.float32), scale))
    first = next(i for i, n in enumerate(model.graph.node) if n.name in readers)
    model.graph.node.insert(first, helper.make_node("Mul", [value, scale], [divided], name=names.fresh("Smooth")))
    return divided


class _Makers:
    """Who makes each value of a graph, and the constants that one node alone reads."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.uses = count_uses(graph)
        self.node = {o: n for n in graph.node for o in n.output if o}
        self.constants = {k: t for k, t in fixed_initializers(graph).items() if self.uses[k] == 1}

    def row(self, name: str, columns: int) -> onnx.TensorProto | None:
        """A constant of one number a column, or of whole rows of them, in float32."""
        tensor = self.constants.get(name)
        fits = tensor is not None and list(tensor.dims)[-1:] == [columns] and tensor.data_type == TensorProto.FLOAT
        return tensor if fits else None


def _foldable(makers: _Makers, value: str, readers: int, columns: int) -> dict[str, onnx.TensorProto]:
    """The constants that have to be divided so that a value is; {} where that cannot be."""
    node = makers.node.get(value)
    if node is None or makers.uses[value] != readers or node.output[0] != value:
        return {}
    if node.op_type in _NORMS:
        found = {name: makers.row(name, columns) for name in node.input[1:] if name}
    elif node.op_type == "Relu":
        return _foldable(makers, node.input[0], 1, columns)
    elif node.op_type in ("Add", "Mul") and len(set(node.input)) == 2:
        return _foldable_row(makers, node, columns)
    elif node.op_type == "MatMul" and len(getattr(makers.constants.get(node.input[1]), "dims", ())) == 2:
        found = {node.input[1]: makers.row(node.input[1], columns)}
    else:
        return {}
    return _all_there(found)


def _foldable_row(makers: _Makers, node: onnx.NodeProto, columns: int) -> dict[str, onnx.TensorProto]:
    """For a scale or a bias a column; what a bias is added to has to be divided as well."""
    constant = next((i for i in node.input if makers.row(i, columns) is not None), "")
    if not constant:
        return {}
    found = _all_there({constant: makers.row(constant, columns)})
    if node.op_type == "Mul":
        return found
    before = _foldable(makers, next(i for i in node.input if i != constant), 1, columns)
    return {**before, **found} if before else {}


def _all_there(found: Mapping[str, onnx.TensorProto | None]) -> dict[str, onnx.TensorProto]:
    there = {name: tensor for name, tensor in found.items() if tensor is not None}
    return there if len(there) == len(found) else {}
