"""Hard sigmoids and hard swishes that exporters spell out, as one node each.

Source: Howard et al. 2019, arXiv:1905.02244: h-swish(x) = x * relu6(x + 3) / 6.
"""

from __future__ import annotations

import math

import onnx
from onnx import helper, numpy_helper

from edgekit.graph.read import every_graph
from edgekit.graph.scopes import Names, attribute, count_uses, fixed_initializers, opset_of

_EXACT = 1e-6


def merge_hard_sigmoids(model: onnx.ModelProto) -> None:
    """Turn clip(x + c, 0, k) / k into HardSigmoid(x), and HardSwish(x) into x * HardSigmoid(x), in place.

    The division may also stand behind a product with the clipped value, as in (x * clip(x + 3, 0, 6)) / 6. Four
    passes over memory become two; ONNX Runtime has no kernel of its own for HardSwish.
    """
    names = Names(model)
    if opset_of(model) < 6:  # HardSigmoid had another form
        return
    for graph in every_graph(model):
        _split_hard_swishes(graph, names)
        _Merger(graph).merge()


def _split_hard_swishes(graph: onnx.GraphProto, names: Names) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "HardSwish" and not node.domain:
            gate = names.fresh(f"{node.output[0]}_gate")
            nodes.append(_hard_sigmoid(node.input[0], gate, 6.0, 3.0, names.fresh(f"{node.name}/gate")))
            nodes.append(helper.make_node("Mul", [node.input[0], gate], list(node.output), name=node.name))
        else:
            nodes.append(node)
    if len(nodes) != len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


def _hard_sigmoid(x: str, result: str, top: float, shift: float, name: str) -> onnx.NodeProto:
    return helper.make_node("HardSigmoid", [x], [result], name=name, alpha=1 / top, beta=shift / top)


class _Merger:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.fixed, self.uses = fixed_initializers(graph), count_uses(graph)
        self.makers = {o: n for n in graph.node for o in n.output}
        self.readers = {i: n for n in graph.node for i in n.input}

    def merge(self) -> None:
        gone: set[int] = set()
        for clip in self.graph.node:
            if clip.op_type == "Clip" and not clip.domain:
                gone |= self._merge(clip)
        for i in reversed(range(len(self.graph.node))):
            if id(self.graph.node[i]) in gone:
                del self.graph.node[i]

    def _merge(self, clip: onnx.NodeProto) -> set[int]:
        """Make the clip a HardSigmoid if it is part of one; the ids of the nodes that are not needed any more."""
        bottom, top = self._bounds(clip)
        add = self.makers.get(clip.input[0])
        shifted = self._operand(add, "Add") if add is not None and self.uses[clip.input[0]] == 1 else None
        if shifted is None or add is None or bottom != 0 or not 0 < top < math.inf:
            return set()
        division = self._division(clip, top)
        if division is None:
            return set()
        x, shift = shifted
        clip.CopyFrom(_hard_sigmoid(x, clip.output[0], top, shift, clip.name))
        scaled = division.input[0] if division.input[0] not in self.fixed else division.input[1]
        self.makers[scaled].output[0] = division.output[0]
        return {id(add), id(division)}

    def _division(self, clip: onnx.NodeProto, top: float) -> onnx.NodeProto | None:
        """The division by the clip's upper bound, right behind it or behind a product."""
        reader = self._only_reader(clip.output[0])
        if reader is not None and reader.op_type == "Mul" and not any(i in self.fixed for i in reader.input):
            reader = self._only_reader(reader.output[0])
        if reader is None:
            return None
        for op, divisor in (("Div", 1.0), ("Mul", -1.0)):
            found = self._operand(reader, op)
            if found is not None and found[1] > 0 and abs(found[1] ** divisor / top - 1) < _EXACT:
                return reader
        return None

    def _only_reader(self, name: str) -> onnx.NodeProto | None:
        reader = self.readers.get(name)
        return reader if reader is not None and self.uses[name] == 1 and not reader.domain else None

    def _operand(self, node: onnx.NodeProto, op_type: str) -> tuple[str, float] | None:
        """(what a node works on, the number it adds or multiplies); None where it does something else."""
        if node.op_type != op_type or node.domain:
            return None
        x, c = node.input
        if x in self.fixed and op_type != "Div":
            x, c = c, x
        number = self._number(c)
        return None if number is None or x in self.fixed else (x, number)

    def _number(self, name: str) -> float | None:
        tensor = self.fixed.get(name)
        if tensor is None or len(tensor.dims) > 1 or math.prod(tensor.dims) != 1:
            return None
        return float(numpy_helper.to_array(tensor).ravel()[0])

    def _bounds(self, clip: onnx.NodeProto) -> tuple[float, float]:
        """(bottom, top); NaN where a bound is computed."""
        bounds = [float(attribute(clip, "min", -math.inf)), float(attribute(clip, "max", math.inf))]
        for i, name in enumerate(clip.input[1:3]):
            if name:
                number = self._number(name)
                bounds[i] = math.nan if number is None else number
        return bounds[0], bounds[1]
