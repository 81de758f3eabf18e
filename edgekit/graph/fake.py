"""Graphs in the form in which quantised models are trained: weights and biases in float, rounded when they are read.

Such a graph holds two operators of a domain of its own in the places where a finished one dequantises constants:

    Weight(weight, scale[, zero]), axis, peak     integers clamp(round(weight / scale), -peak, peak)
    Bias(bias, input_scale, weight_scale)         int32 of the step input_scale * weight_scale

`freeze` puts the integers there. Everything else, QuantizeLinear and DequantizeLinear of activations too, is as in the
finished file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.clean import remove_dead
from edgekit.graph.constants import dedupe
from edgekit.graph.scopes import Names, attribute
from edgekit.specs import Array

DOMAIN = "edgekit.training"
WEIGHT, BIAS = "Weight", "Bias"
_BIAS_PEAK = 2.0**30


def is_fake(node: onnx.NodeProto) -> bool:
    """Whether a node stands for constants that are rounded when they are read."""
    return node.domain == DOMAIN


def fake_weight(weight: str, scale: str, zero: str, result: str, *, axis: int, peak: int) -> onnx.NodeProto:
    """A weight that is rounded when it is read; `zero` is "" where the finished node has none."""
    inputs = [weight, scale, *([zero] if zero else [])]
    return helper.make_node(WEIGHT, inputs, [result], domain=DOMAIN, axis=axis, peak=peak)


def fake_bias(bias: str, input_scale: str, weight_scale: str, result: str) -> onnx.NodeProto:
    """A bias that is rounded when it is read."""
    return helper.make_node(BIAS, [bias, input_scale, weight_scale], [result], domain=DOMAIN)


def freeze(model: onnx.ModelProto) -> onnx.ModelProto:
    """The finished graph: integers in the place of what was rounded when it was read.

    Raises:
        ModelError: if a value or a step is not finite, or a step is not positive.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Freezer(result).freeze()
    return result


class _Freezer:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names = Names(model)
        self.values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}

    def freeze(self) -> None:
        graph = self.model.graph
        nodes = [self._settled(node) if is_fake(node) else node for node in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        kept = [o for o in self.model.opset_import if o.domain != DOMAIN]
        del self.model.opset_import[:]
        self.model.opset_import.extend(kept)
        remove_dead(self.model)
        dedupe(self.model)

    def _settled(self, node: onnx.NodeProto) -> onnx.NodeProto:
        return self._weight(node) if node.op_type == WEIGHT else self._bias(node)

    def _weight(self, node: onnx.NodeProto) -> onnx.NodeProto:
        axis, peak = int(attribute(node, "axis", 0)), int(attribute(node, "peak", 127))
        weight, scale = self._finite(node.input[0]), self._step(node.input[1])
        step = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)]) if scale.ndim else scale
        q = np.clip(np.rint(weight / step), -peak, peak).astype(np.int8)
        zero = list(node.input[2:])
        return self._dequantised([self._constant(q), node.input[1], *zero], node.output[0], scale, axis)

    def _bias(self, node: onnx.NodeProto) -> onnx.NodeProto:
        bias = self._finite(node.input[0])
        scale = np.asarray(self._step(node.input[1]) * self._step(node.input[2]), np.float32)
        q = np.clip(np.rint(bias / scale), -_BIAS_PEAK, _BIAS_PEAK).astype(np.int32)
        return self._dequantised([self._constant(q), self._constant(scale)], node.output[0], scale, 0)

    def _dequantised(self, inputs: list[str], result: str, scale: Array, axis: int) -> onnx.NodeProto:
        made = helper.make_node("DequantizeLinear", inputs, [result])
        if scale.ndim:
            made.attribute.append(helper.make_attribute("axis", axis))
        return made

    def _constant(self, value: Array) -> str:
        name = self.names.fresh("c")
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _finite(self, name: str) -> Array:
        value = self.values[name]
        if not np.isfinite(value).all():
            raise ModelError(f"trained constant {name!r} is not finite; train again with a lower `learning_rate`")
        return value

    def _step(self, name: str) -> Array:
        value = self._finite(name)
        if (value <= 0).any():
            raise ModelError(
                f"step {name!r} of a quantised tensor is {float(value.min())}, and must be above 0; train again with "
                "a lower `learning_rate`"
            )
        return value
