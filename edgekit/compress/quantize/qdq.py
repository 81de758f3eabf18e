"""Writing Q/DQ pairs: small files, in the shapes that ONNX Runtime fuses into int8 kernels.

Source: Jacob et al. 2018, arXiv:1712.05877 (integer arithmetic, int32 biases); Krishnamoorthi 2018, arXiv:1806.08342
(weights per output channel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compress.quantize.bias import mean_shift
from edgekit.compress.quantize.observers import Range
from edgekit.compress.quantize.on_data import round_for
from edgekit.compress.quantize.placement import WEIGHTED, Placement, Wiring, data_inputs, hard_sigmoid, shift_of
from edgekit.graph.scopes import Names, attribute
from edgekit.specs import Array

_INT32_ROOM = 2.0**30


@dataclass(frozen=True)
class Scheme:
    """How numbers are represented.

    Attributes:
        signed: int8 activations rather than uint8.
        symmetric: Activations have their zero in the middle.
        per_channel: One weight scale an output channel.
        weight_bits: 8, or 7 where sums of u8 x s8 products saturate.
        reduced: First outputs of the nodes whose weights get `weight_bits`, the others 8; None for all.
        integer_bias: Biases as int32; TensorRT wants them in float.
        pad_stem: Pad the 1 to 3 channels of an image to 4: ONNX Runtime's fast int8 convolution takes multiples of 4
            (a 7x7 stem on 224x224x3 ran three times faster).
    """

    signed: bool = False
    symmetric: bool = False
    per_channel: bool = True
    weight_bits: int = 8
    integer_bias: bool = True
    pad_stem: bool = False
    reduced: frozenset[str] | None = None

    @property
    def lowest(self) -> int:
        """The smallest quantised activation."""
        return -128 if self.signed else 0

    @property
    def weight_peak(self) -> int:
        """The largest magnitude of a quantised weight."""
        return int(2 ** (self.weight_bits - 1)) - 1

    def weight_peak_of(self, node: str) -> int:
        """The same for one node, by its first output."""
        return self.weight_peak if self.reduced is None or node in self.reduced else 127


def activation_scale(found: Range, scheme: Scheme) -> tuple[np.float32, int]:
    """(scale, zero point) of a range: value is about (q - zero_point) * scale."""
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if scheme.symmetric:
        scale = np.float32(max(-low, high) / 127) or np.float32(1)
        return scale, scheme.lowest + 128
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, scheme.lowest + int(np.clip(np.rint(-low / scale), 0, 255))


def quantize_weight(weight: Array, axis: int | None, peak: int, floor: Array | float = 0.0) -> tuple[Array, Array]:
    """Quantise a weight symmetrically to int8.

    Args:
        weight: float32.
        axis: The axis of output channels; None for one scale.
        peak: The largest magnitude of a quantised weight: 127, or 63 for 7 bits.
        floor: Scales are at least this, one number or (channels,).

    Returns:
        (q, scale): int8 of weight's shape, and float32 (channels,) or ().
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others) if weight.size else np.zeros(())
    scale = np.maximum(largest / peak, np.max(floor) if axis is None else floor)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    q = np.rint(weight / along_axis(scale, axis, weight.ndim))
    return np.clip(q, -peak, peak).astype(np.int8), scale


def dequantize_weight(q: Array, scale: Array, axis: int | None) -> Array:
    """What `quantize_weight` stands for, float32."""
    return np.asarray(q * along_axis(scale, axis, q.ndim), np.float32)


def along_axis(values: Array, axis: int | None, ndim: int) -> Array:
    """Values shaped so that they broadcast along one axis; as they are where axis is None."""
    if axis is None:
        return values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


def weight_axis(node: onnx.NodeProto) -> int:
    """The axis of a node's weight that counts its output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1


def write_qdq(
    model: onnx.ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    scheme: Scheme,
    means: Mapping[str, Array] | None = None,
    moments: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """A copy of a model with Q/DQ pairs and int8 weights where the placement says so.

    Args:
        model: A float model of opset 13 or newer.
        placement: What to quantise.
        ranges: One a tensor of `placement.observed`.
        scheme: How numbers are represented.
        means: (channels,) means of tensors along axis 1; biases of the nodes that read them are corrected.
        moments: (groups, columns, columns) second moments of what multiplies a weight, by the first output of its
            node: those weights are rounded on data.
    """
    return _Writer(model, placement, ranges, scheme, means or {}, moments or {}).write()


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        placement: Placement,
        ranges: Mapping[str, Range],
        scheme: Scheme,
        means: Mapping[str, Array],
        moments: Mapping[str, Array],
    ) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.wiring = Wiring(self.model)
        self.placement, self.scheme, self.means, self.moments = placement, scheme, means, moments
        self.scales = {t: activation_scale(ranges[of], scheme) for t, of in placement.tensors.items()}
        self._fit_gates()
        self.shifts = {a: self._fit_shift(a, ranges) for a in placement.shifted if a in self.scales}
        self.dropped = {a: placement.shifted[a] for a in self.shifts}
        self.dropped |= {a: b for a, b in placement.clipped.items() if a in self.scales and self._saturates(a, ranges)}
        self.nodes: list[onnx.NodeProto] = []
        self.names = Names(self.model)
        self.stored: dict[bytes, str] = {}
        self.read_as: dict[str, str] = {}  # float tensor -> what int8 nodes read instead
        self.integers: dict[str, str] = {}  # quantised tensor -> its integers, between Q and DQ

    def write(self) -> onnx.ModelProto:
        graph = self.model.graph
        for given in graph.input:
            if given.name in self.scales:
                self._after_float(given.name)
        raw = {before: self.names.fresh("f") for after, before in self.dropped.items()}
        for node in self.wiring.nodes:
            result = node.output[0] if node.output else ""
            if result in self.dropped:
                self._pair(raw[self.dropped[result]], result, self._unshifted(result))
            else:
                self._emit(node, raw)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        drop_unused(self.model)
        return self.model

    def _emit(self, node: onnx.NodeProto, raw: Mapping[str, str]) -> None:
        runs_int8 = bool(node.output) and node.output[0] in self.placement.nodes
        if runs_int8 and node.op_type == "HardSigmoid":
            self._gate(node)
            return
        if runs_int8:
            self._quantise_inputs(node)
        self.nodes.append(node)
        clips_int8 = bool(node.output) and node.output[0] in self.placement.clipped
        for i, name in enumerate(node.output):
            if name in raw:
                node.output[i] = raw[name]
            elif name in self.scales and (runs_int8 or clips_int8):
                node.output[i] = self.names.fresh("f")
                self._pair(node.output[i], name)
            elif name in self.scales:
                self._after_float(name)

    def _unshifted(self, tensor: str) -> tuple[np.float32, int] | None:
        """What the integers of a tensor are before a shift that only their zero point knows."""
        if tensor not in self.shifts:
            return None
        scale, zero = self.scales[tensor]
        return scale, min(max(zero + self.shifts[tensor], self.scheme.lowest), self.scheme.lowest + 255)

    def _quantise_inputs(self, node: onnx.NodeProto) -> None:
        data = data_inputs(node)
        for i, name in enumerate(node.input):
            if name in data:
                node.input[i] = self.read_as.get(name, name)
        if node.op_type in WEIGHTED:
            padding = self._stem_padding(node)
            if padding:
                node.input[0] = self._padded(data[0], padding, len(self.wiring.constants[node.input[1]].dims))
            self._quantise_weights(node, data[0], padding)

    def _stem_padding(self, node: onnx.NodeProto) -> int:
        """How many channels to add to the input of a convolution."""
        if not self.scheme.pad_stem or node.op_type != "Conv" or attribute(node, "group", 1) != 1:
            return 0
        return max(0, 4 - int(self.wiring.constants[node.input[1]].dims[1]))

    def _padded(self, tensor: str, padding: int, rank: int) -> str:
        scale, zero = self._parameters(self.scales[tensor])
        pads = np.zeros(2 * rank, np.int64)
        pads[rank + 1] = padding
        integers, result = self.names.fresh("q"), self.names.fresh("d")
        inputs = [self.integers[tensor], self._constant(pads), zero]
        self.nodes.append(helper.make_node("Pad", inputs, [integers]))
        self.nodes.append(helper.make_node("DequantizeLinear", [integers, scale, zero], [result]))
        return result

    def _quantise_weights(self, node: onnx.NodeProto, tensor: str, padding: int) -> None:
        axis = weight_axis(node) if self.scheme.per_channel else None
        weight, bias = self.wiring.value(node.input[1]), self._bias(node)
        input_scale = float(self.scales[tensor][0])
        floor = 0.0 if bias is None else np.abs(bias) / (input_scale * _INT32_ROOM)
        peak = self.scheme.weight_peak_of(node.output[0])
        q, scale = quantize_weight(weight, axis, peak, floor)
        if node.output[0] in self.moments:
            step = along_axis(scale, axis, weight.ndim)
            q = round_for(node, weight, step, self.moments[node.output[0]], (2 * peak + 1).bit_length())
        if bias is not None and tensor in self.means:
            bias = bias - self._shift(node, dequantize_weight(q, scale, axis) - weight, self.means[tensor])
        if padding:
            q = np.pad(q, [(0, 0), (0, padding)] + [(0, 0)] * (q.ndim - 2))
        # ONNX Runtime fuses matrix products only with the zero points that it adds to convolutions by itself
        node.input[1] = self._dequantised(q, scale, axis or 0, zero=node.op_type != "Conv")
        if bias is not None:
            node.input[2] = self._stored_bias(bias, np.float32(input_scale) * scale)

    def _bias(self, node: onnx.NodeProto) -> Array | None:
        return self.wiring.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None

    def _shift(self, node: onnx.NodeProto, error: Array, mean: Array) -> Array | float:
        by_output = error if weight_axis(node) == 0 else error.T
        groups = int(attribute(node, "group", 1))
        return mean_shift(by_output, mean, groups) if len(mean) == groups * by_output.shape[1] else 0.0

    def _stored_bias(self, bias: Array, scale: Array) -> str:
        if not self.scheme.integer_bias:
            return self._constant(bias.astype(np.float32))
        return self._dequantised(np.rint(bias / scale.astype(np.float64)).astype(np.int32), scale, 0)

    def _dequantised(self, q: Array, scale: Array, axis: int, zero: bool = False) -> str:
        result = self.names.fresh("w")
        inputs = [self._constant(q), self._constant(scale)]
        if zero:
            inputs.append(self._constant(np.zeros(scale.shape, q.dtype)))
        node = helper.make_node("DequantizeLinear", inputs, [result])
        if scale.ndim:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
        return result

    def _after_float(self, name: str) -> None:
        self.read_as[name] = self.names.fresh("d")
        self._pair(name, self.read_as[name])

    def _gate(self, node: onnx.NodeProto) -> None:
        """clip(alpha x + beta, 0, 1) = alpha (x + beta / alpha) where the integers end, so an Add computes it.

        Its result is written with one scale and read with that times alpha: integers do not change.
        """
        (alpha, beta), name = hard_sigmoid(node), node.output[0]
        most = np.array(self.scheme.lowest + 255, np.int8 if self.scheme.signed else np.uint8)
        shift = self._dequantised(most, np.array(beta / alpha / float(most), np.float32), 0, zero=True)
        x, raw = self.read_as.get(node.input[0], node.input[0]), self.names.fresh("f")
        self.nodes.append(helper.make_node("Add", [x, shift], [raw], name=node.name))
        scale, zero = self.scales[name]
        self._pair(raw, name, (np.float32(scale / alpha), zero))

    def _fit_gates(self) -> None:
        """Scales of hard sigmoids: from 0 to at most 1, where the integers end as they do."""
        for name in self.placement.nodes & self.scales.keys():
            if self.wiring.producer[name].op_type == "HardSigmoid":
                self.scales[name] = min(self.scales[name][0], np.float32(1 / 255)), self.scheme.lowest

    def _fit_shift(self, tensor: str, ranges: Mapping[str, Range]) -> int:
        """How many steps of a tensor its shift is; the scale becomes one of which it is a multiple."""
        shift = shift_of(self.wiring, self.wiring.producer[tensor])
        found = ranges[self.placement.tensors[tensor]]
        low, high = min(found.low, shift or 0.0, 0.0), max(found.high, shift or 0.0, 0.0)
        scale, zero = activation_scale(Range(low, high), self.scheme)
        steps = int(abs(shift or 0.0) / scale)
        if steps:
            scale = np.float32(abs(shift or 0.0) / steps)
            zero = self.scheme.lowest + round(-low / float(scale))
        self.scales[tensor] = scale, zero
        return round((shift or 0.0) / float(scale))

    def _pair(self, source: str, result: str, written: tuple[np.float32, int] | None = None) -> None:
        """A pair; `written` is the scale and zero point of the integers where they are read with others."""
        tensor = result if result in self.scales else source
        self.integers[tensor] = middle = self.names.fresh("q")
        read = self._parameters(self.scales[tensor])
        first = read if written is None else self._parameters(written)
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *first], [middle]))
        self.nodes.append(helper.make_node("DequantizeLinear", [middle, *read], [result]))

    def _parameters(self, scale_and_zero: tuple[np.float32, int]) -> tuple[str, str]:
        scale, zero = scale_and_zero
        kind = np.int8 if self.scheme.signed else np.uint8
        return self._constant(np.array(scale, np.float32)), self._constant(np.array(zero, kind))

    def _saturates(self, clip: str, ranges: Mapping[str, Range]) -> bool:
        """Whether the quantised type ends exactly where a Relu or Clip does, so that the node is not needed."""
        scale, zero = self.scales[clip]
        bottom, top = clip_bounds(self.wiring, self.wiring.producer[clip])
        highest = (255 + self.scheme.lowest - zero) * float(scale)
        return bottom == 0 and zero == self.scheme.lowest and highest <= top * (1 + 1e-6)

    def _constant(self, value: Array) -> str:
        key = sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).digest()
        if key not in self.stored:
            self.stored[key] = self.names.fresh("c")
            self.model.graph.initializer.append(numpy_helper.from_array(value, self.stored[key]))
        return self.stored[key]


def clip_bounds(wiring: Wiring, node: onnx.NodeProto) -> tuple[float, float]:
    """(bottom, top) of a Relu or Clip; NaN where a bound is computed."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    bounds = [-float("inf"), float("inf")]
    for i in (1, 2):
        if len(node.input) > i and node.input[i]:
            value = wiring.array(node.input[i])
            bounds[i - 1] = float("nan") if value is None else float(value.reshape(-1)[0])
    return bounds[0], bounds[1]


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove DequantizeLinear nodes that nobody reads, then initializers that nobody reads."""
    wiring = Wiring(model)
    read = set(wiring.readers) | wiring.outside
    nodes = [n for n in model.graph.node if n.op_type != "DequantizeLinear" or n.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = set(Wiring(model).readers) | wiring.outside | {i.name for i in model.graph.input}
    kept = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
