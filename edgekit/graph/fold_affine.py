"""Scales and shifts folded into the convolutions before and after them.

A BatchNormalization at inference, and Mul, Div, Add and Sub with constants, are y = s * x + t with one s and t for all
values or one a channel. Behind a convolution they go into its weight and bias; in front of one, a single factor goes
into its weight, and a single shift into its bias where nothing is padded.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.graph.read import every_graph
from edgekit.graph.scopes import Names, attribute, count_uses, fixed_initializers
from edgekit.specs import Array

_CONVS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class _Affine:
    """y = scale * x + shift, float64 of shape () or (1, channels, 1, ...)."""

    x: str
    scale: Array
    shift: Array


def fold_affine(model: onnx.ModelProto) -> None:
    """Fold scales and shifts into the convolutions beside them, in place.

    Weights shared with other nodes are copied, not changed. What would overflow stays.
    """
    names = Names(model)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen, and stays
        for graph in every_graph(model):
            _Folder(graph, names).fold()


class _Folder:
    def __init__(self, graph: onnx.GraphProto, names: Names) -> None:
        self.graph, self.names = graph, names
        self.made: set[str] = set()  # constants that only the one node they were made for reads
        self.fixed = fixed_initializers(graph)
        self.uses = count_uses(graph)
        self.makers = {o: n for n in graph.node for o in n.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def fold(self) -> None:
        """Every foldable node once, in the order of the graph: a chain of them ends in the same convolution."""
        gone = {id(n) for n in self.graph.node if self._fold_back(n) or self._fold_ahead(n) or self._fold_across(n)}
        for i in reversed(range(len(self.graph.node))):
            if id(self.graph.node[i]) in gone:
                del self.graph.node[i]

    def _fold_back(self, node: onnx.NodeProto) -> bool:
        """Into the convolution that makes what this node reads, if nothing else reads it."""
        found = self._affine(node)
        conv = None if found is None else self.makers.get(found.x)
        if found is None or conv is None or self.uses[found.x] != 1 or not self._is_plain(conv):
            return False
        weight = self._weight(conv)
        groups = int(attribute(conv, "group", 1))
        transposed = conv.op_type == "ConvTranspose"
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        scale, shift = (_by_channel(v, channels, weight.ndim) for v in (found.scale, found.shift))
        if scale is None or shift is None:
            return False
        scaled = scale_output_channels(weight, scale, groups if transposed else None)
        if not self._store(conv, scaled, self._bias(conv, channels) * scale + shift):
            return False
        self._rename_output(conv, node)
        return True

    def _fold_ahead(self, node: onnx.NodeProto) -> bool:
        """Into all that reads what this node makes, if those are convolutions."""
        found = self._single(node)
        if found is None:
            return False
        scale, shift = float(found.scale.ravel()[0]), float(found.shift.ravel()[0])
        convs = self._convs_behind(node, scale)
        if not convs or (shift != 0 and not all(map(_pads_nothing, convs))):
            return False
        for conv in convs:
            self._absorb(conv, scale, shift)
            conv.input[0] = found.x
        self._bypass(node, found.x, convs)
        return True

    def _fold_across(self, node: onnx.NodeProto) -> bool:
        """A factor in front of a shift that padding keeps: s x + t = s (x + t / s), and s goes into what follows."""
        found = self._single(node)
        behind = self.readers.get(node.output[0], []) if node.output else []
        if found is None or found.shift.any() or not found.scale.any() or self.uses[node.output[0]] != 1 or not behind:
            return False
        after = self._single(behind[0])
        scale = float(found.scale.ravel()[0])
        if after is None or after.x != node.output[0] or (after.scale != 1).any():
            return False
        convs = self._convs_behind(behind[0], scale)
        kind = numpy_helper.to_array(self.fixed[next(i for i in behind[0].input if i in self.fixed)]).dtype
        shift = (after.shift / scale).astype(kind)
        if not convs or not np.isfinite(shift).all():
            return False
        for conv in convs:
            self._absorb(conv, scale, 0.0)
        behind[0].op_type = "Add"
        behind[0].input[:] = [found.x, self._put(shift, "", f"{behind[0].output[0]}_shift")]
        self._bypass(node, found.x, [behind[0]])
        return True

    def _single(self, node: onnx.NodeProto) -> _Affine | None:
        """A scale and shift that are the same for all values."""
        found = self._affine(node)
        return found if found is not None and found.scale.size == found.shift.size == 1 else None

    def _convs_behind(self, node: onnx.NodeProto, scale: float) -> list[onnx.NodeProto]:
        """The convolutions that read a node's output and could take a factor; none where anything else reads it."""
        result = node.output[0]
        convs = self.readers.get(result, [])
        if self.uses[result] != len(convs) or not all(c.input[0] == result and self._is_plain(c) for c in convs):
            return []
        return convs if all(np.isfinite(self._weight(c) * scale).all() for c in convs) else []

    def _bypass(self, node: onnx.NodeProto, x: str, readers: list[onnx.NodeProto]) -> None:
        self.readers[x] = [r for r in self.readers[x] if r is not node] + readers
        self.uses[x] += len(readers) - 1

    def _absorb(self, conv: onnx.NodeProto, scale: float, shift: float) -> None:
        weight = self._weight(conv)
        if shift == 0 and len(conv.input) < 3:
            conv.input[1] = self._put((weight * scale).astype(weight.dtype), conv.input[1], f"{conv.input[1]}_folded")
            return
        groups = int(attribute(conv, "group", 1))
        channels = weight.shape[1] * groups if conv.op_type == "ConvTranspose" else weight.shape[0]
        bias = self._bias(conv, channels)
        if shift:
            bias = bias + shift * weight.astype(np.float64).sum(axis=tuple(range(1, weight.ndim)))
        self._store(conv, (weight * scale).astype(weight.dtype), bias)

    def _affine(self, node: onnx.NodeProto) -> _Affine | None:
        """What a node does to its one input that is no constant; None where it is no scale or shift."""
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "BatchNormalization":
            return self._batch_norm(node)
        if node.op_type not in ("Mul", "Div", "Add", "Sub"):
            return None
        x, c = node.input
        if node.op_type in ("Mul", "Add") and x in self.fixed:
            x, c = c, x
        if c not in self.fixed or x in self.fixed or not _is_float(self.fixed[c]):
            return None
        value = numpy_helper.to_array(self.fixed[c]).astype(np.float64)
        if node.op_type == "Div" and not np.all(value):
            return None
        if node.op_type in ("Mul", "Div"):
            return _Affine(x, value if node.op_type == "Mul" else 1 / value, np.zeros(()))
        return _Affine(x, np.ones(()), value if node.op_type == "Add" else -value)

    def _batch_norm(self, node: onnx.NodeProto) -> _Affine | None:
        training = attribute(node, "training_mode", 0) or any(self.uses.get(o) for o in node.output[1:])
        if training or not attribute(node, "spatial", 1) or not all(i in self.fixed for i in node.input[1:]):
            return None
        gamma, beta, mean, var = (numpy_helper.to_array(self.fixed[i]).astype(np.float64) for i in node.input[1:5])
        maker = self.makers.get(node.input[0])
        if maker is None or not self._is_plain(maker):
            return None
        scale = gamma / np.sqrt(var + float(attribute(node, "epsilon", 1e-5)))
        shape = (1, -1) + (1,) * (self._weight(maker).ndim - 2)
        return _Affine(node.input[0], scale.reshape(shape), (beta - mean * scale).reshape(shape))

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        is_conv = node.op_type in _CONVS and node.domain in ("", "ai.onnx")
        return is_conv and all(i in self.fixed and _is_float(self.fixed[i]) for i in node.input[1:] if i)

    def _weight(self, conv: onnx.NodeProto) -> Array:
        return numpy_helper.to_array(self.fixed[conv.input[1]])

    def _bias(self, conv: onnx.NodeProto, channels: int) -> Array:
        if len(conv.input) < 3 or not conv.input[2]:
            return np.zeros(channels)
        return numpy_helper.to_array(self.fixed[conv.input[2]]).astype(np.float64)

    def _store(self, conv: onnx.NodeProto, weight: Array, bias: Array) -> bool:
        bias = bias.astype(weight.dtype)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            return False
        name, old_bias = conv.input[1], conv.input[2] if len(conv.input) > 2 else ""
        new = [self._put(weight, name, f"{name}_folded"), self._put(bias, old_bias, f"{name}_bias")]
        del conv.input[1:]
        conv.input.extend(new)
        return True

    def _put(self, value: Array, old: str, wish: str) -> str:
        """Store a constant under a name of its own; in the place of `old`, if that is one of those."""
        name = old if old in self.made else self.names.fresh(wish)
        tensor = numpy_helper.from_array(value, name)
        if old in self.made:
            self.fixed[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.fixed[name] = self.graph.initializer[-1]
            self.made.add(name)
        return name

    def _rename_output(self, conv: onnx.NodeProto, node: onnx.NodeProto) -> None:
        conv.output[0] = node.output[0]
        self.makers[node.output[0]] = conv


def scale_output_channels(weight: Array, scale: Array, transposed_groups: int | None = None) -> Array:
    """Multiply a convolution's weight by one factor an output channel.

    Args:
        weight: Conv: (out, in / groups, ...); ConvTranspose: (in, out / groups, ...).
        scale: (out,).
        transposed_groups: The groups of a ConvTranspose; None for a Conv.

    Returns:
        The same shape and dtype as `weight`.
    """
    spatial = (1,) * (weight.ndim - 2)
    if transposed_groups is None:
        return (weight * scale.reshape(-1, 1, *spatial)).astype(weight.dtype)
    grouped = weight.reshape(transposed_groups, -1, *weight.shape[1:])
    factors = scale.reshape(transposed_groups, 1, -1, *spatial)
    return (grouped * factors).reshape(weight.shape).astype(weight.dtype)


def _by_channel(value: Array, channels: int, rank: int) -> Array | None:
    """(channels,) of a constant that broadcasts along axis 1 of a tensor of this rank, or everywhere."""
    if value.ndim > rank:
        return None
    if value.size == 1:
        return np.broadcast_to(value.ravel(), (channels,))
    shape = (1,) * (rank - value.ndim) + value.shape
    return value.ravel() if shape == (1, channels) + (1,) * (rank - 2) else None


def _pads_nothing(conv: onnx.NodeProto) -> bool:
    automatic = attribute(conv, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID", "NOTSET", "VALID")
    return conv.op_type == "Conv" and automatic and not any(attribute(conv, "pads", []))


def _is_float(tensor: onnx.TensorProto) -> bool:
    kinds = onnx.TensorProto
    return tensor.data_type in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE)
