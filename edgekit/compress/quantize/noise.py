"""How much noise each node alone puts into the outputs when it runs in int8; a search ranks nodes by it.

One session serves all nodes: a fake-quantised copy of each node's inputs waits behind a switch, and one switch is on at
a time. So every figure is measured at the outputs and holds what the layers behind a node make of its error.

Source: Wu et al. 2020, arXiv:2004.09602, section 5.3 (partial quantisation by one-at-a-time sensitivity).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.calibration import open_session
from edgekit.compress.quantize.observers import Range
from edgekit.compress.quantize.placement import PASSING, WEIGHTED, Placement, Wiring, data_inputs, place
from edgekit.compress.quantize.qdq import (
    Scheme,
    activation_scale,
    dequantize_weight,
    quantize_weight,
    weight_axis,
)
from edgekit.compress.quantize.sensitivity import relative_noise
from edgekit.data.split import Split
from edgekit.graph.scopes import Names
from edgekit.progress import track
from edgekit.specs import Array

SAMPLES = 16
_MIN_SAMPLES = 4
_INPUT_VALUES = 1 << 18  # of all samples together: every node costs one run of them


def sensitivity(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    split: Split,
    *,
    scheme: Scheme | None = None,
    placement: Placement | None = None,
    samples: int = SAMPLES,
) -> list[tuple[str, float]]:
    """Nodes by the noise that each alone puts into the outputs, the noisiest first.

    Args:
        model: As `static.prepare` leaves it.
        ranges: One a tensor of `placement.observed`, from `calibrate`.
        split: Data to measure on; a few samples are enough.
        scheme: How numbers are represented.
        placement: What would run in int8; by default what `place` chooses.
        samples: How many samples are run at most; fewer where they are large.

    Returns:
        (node name, noise power over signal power): the worst output, 10 ** (-dB / 10).
    """
    chosen = placement or place(model)
    switched = _Switched(model, chosen, ranges, scheme or Scheme())
    session = open_session(switched.model)
    specs = tuple(s for s in session.inputs if s.name not in switched.switches)
    data = split.matched(specs)
    off = {name: np.array(False) for name in switched.switches}
    samples = min(samples, max(_MIN_SAMPLES, data.affordable(samples, _INPUT_VALUES)))
    feeds = [b.feeds for b in data.take(samples).batches(specs, samples)]
    references = [_floats(session.run({**f, **off})) for f in feeds]
    found = []
    for switch, name in track(list(switched.switches.items()), "measure each node"):
        on = {**off, switch: np.array(True)}
        noises = [relative_noise(r, _floats(session.run({**f, **on}))) for f, r in zip(feeds, references, strict=True)]
        found.append((name, float(np.mean(noises))))
    return sorted(found, key=lambda pair: -pair[1])


class _Switched:
    """A float model in which every node can be switched to quantised inputs.

    Attributes:
        model: The model, with one more bool input a node.
        switches: Input -> name of its node.
    """

    def __init__(
        self, model: onnx.ModelProto, placement: Placement, ranges: Mapping[str, Range], scheme: Scheme
    ) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.scheme, self.ranges, self.placement = scheme, ranges, placement
        self.wiring = Wiring(self.model)
        self.names = Names(self.model)
        self.switches: dict[str, str] = {}
        self.quantised: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        ends = {before: after for after, before in placement.clipped.items()}
        owners: dict[str, str] = {}  # tensor that no int8 node reads -> switch of the node whose error it is
        for node in self.wiring.nodes:
            result = node.output[0] if node.output else ""
            if result in placement.nodes and node.op_type not in PASSING:
                owners[ends.get(result, result)] = self._switch(node)
            self.nodes.append(node)
            if result in owners and result in placement.tensors and not self._is_read_in_int8(result):
                self._switch_output(node, owners[result])
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)

    def _is_read_in_int8(self, tensor: str) -> bool:
        return any(r.output[0] in self.placement.nodes for r in self.wiring.readers.get(tensor, ()))

    def _switch_output(self, node: onnx.NodeProto, switch: str) -> None:
        """Quantise what a node gives to nodes in float; between int8 nodes the reader's input stands for it."""
        name, node.output[0] = node.output[0], self.names.fresh("raw")
        rounded = self._fake_quantised(node.output[0], name)
        self.nodes.append(helper.make_node("Where", [switch, rounded, node.output[0]], [name]))

    def _switch(self, node: onnx.NodeProto) -> str:
        switch = self.names.fresh("on")
        self.switches[switch] = node.name
        self.model.graph.input.append(helper.make_tensor_value_info(switch, TensorProto.BOOL, []))
        data = data_inputs(node)
        for i, name in enumerate(node.input):
            if name in data:
                node.input[i] = self._either(switch, self._fake_quantised(name, name), name)
        if node.op_type in WEIGHTED:
            node.input[1] = self._either(switch, self._fake_weight(node), node.input[1])
        return switch

    def _either(self, switch: str, when_on: str, when_off: str) -> str:
        result = self.names.fresh("either")
        self.nodes.append(helper.make_node("Where", [switch, when_on, when_off], [result]))
        return result

    def _fake_quantised(self, tensor: str, like: str) -> str:
        """A tensor rounded on the scale of `like`."""
        if tensor not in self.quantised:
            scale, zero = activation_scale(self.ranges[self.placement.tensors[like]], self.scheme)
            kind = np.int8 if self.scheme.signed else np.uint8
            parameters = [self._constant(np.array(scale, np.float32)), self._constant(np.array(zero, kind))]
            middle, result = self.names.fresh("q"), self.names.fresh("dq")
            self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [middle]))
            self.nodes.append(helper.make_node("DequantizeLinear", [middle, *parameters], [result]))
            self.quantised[tensor] = result
        return self.quantised[tensor]

    def _fake_weight(self, node: onnx.NodeProto) -> str:
        axis = weight_axis(node) if self.scheme.per_channel else None
        q, scale = quantize_weight(self.wiring.value(node.input[1]), axis, self.scheme.weight_peak)
        return self._constant(dequantize_weight(q, scale, axis))

    def _constant(self, value: Array) -> str:
        name = self.names.fresh("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def _floats(outputs: list[Array]) -> list[Array]:
    return [o.astype(np.float64) for o in outputs if isinstance(o, np.ndarray) and o.dtype.kind == "f"]
