"""A statically quantised graph in the form in which it is trained: with the float weights that its integers came of."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compress.quantize.placement import WEIGHTED, Placement, Wiring
from edgekit.compress.quantize.qdq import Scheme, drop_unused, weight_axis
from edgekit.graph.fake import DOMAIN, fake_bias, fake_weight
from edgekit.specs import Array


def thaw(written: onnx.ModelProto, model: onnx.ModelProto, placement: Placement, scheme: Scheme) -> onnx.ModelProto:
    """Put float weights and biases back in the place of integers, to be rounded when they are read.

    Args:
        written: What `write_qdq` made of `model`.
        model: The float model.
        placement: What is quantised.
        scheme: How numbers are represented.

    Returns:
        A graph for `graph.trainable`; `graph.fake.freeze` turns it into one that runs.
    """
    result = onnx.ModelProto()
    result.CopyFrom(written)
    _Thawing(result, Wiring(model), placement, scheme).thaw()
    return result


class _Thawing:
    def __init__(self, result: onnx.ModelProto, before: Wiring, placement: Placement, scheme: Scheme) -> None:
        self.result, self.before, self.placement, self.scheme = result, before, placement, scheme
        self.wiring = Wiring(result)
        self.originals = {n.name: n for n in before.nodes if n.op_type in WEIGHTED and n.output[0] in placement.nodes}
        self.made: dict[str, onnx.NodeProto] = {}  # output of a DequantizeLinear -> what takes its place
        self.added: dict[str, onnx.TensorProto] = {}

    def thaw(self) -> None:
        for node in self.wiring.nodes:
            if node.name in self.originals and node.op_type in WEIGHTED:
                self._node(node, self.originals[node.name])
        graph = self.result.graph
        nodes = [self.made.get(n.output[0] if n.output else "", n) for n in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.added.values())
        self.result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        drop_unused(self.result)

    def _node(self, node: onnx.NodeProto, original: onnx.NodeProto) -> None:
        read, stored = self.wiring.producer[node.input[0]], self.wiring.producer[node.input[1]]
        weight = self._float(original.input[1], self.wiring.value(stored.input[0]).shape)
        zero = stored.input[2] if len(stored.input) > 2 else ""
        axis = weight_axis(original) if self.scheme.per_channel else 0
        peak = self.scheme.weight_peak_of(original.output[0])
        result = node.input[1]
        self.made[result] = fake_weight(weight, stored.input[1], zero, result, axis=axis, peak=peak)
        if self.scheme.integer_bias and len(node.input) > 2 and node.input[2]:
            bias = self._float(original.input[2], None)
            self.made[node.input[2]] = fake_bias(bias, read.input[1], stored.input[1], node.input[2])

    def _float(self, name: str, shape: tuple[int, ...] | None) -> str:
        """A float constant of the model, padded with zeros at the end of axes that were padded; its name here."""
        value = self.before.value(name)
        if shape is not None and value.shape != shape:
            value = np.pad(value, [(0, wanted - there) for wanted, there in zip(shape, value.shape, strict=True)])
        fresh = f"{name}.trained" + ("" if shape is None else "." + "x".join(map(str, shape)))
        self.added[fresh] = numpy_helper.from_array(_owned(value), fresh)
        return fresh


def _owned(value: Array) -> Array:
    return np.ascontiguousarray(value, np.float32)
