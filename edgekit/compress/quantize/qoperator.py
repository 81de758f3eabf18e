"""From Q/DQ pairs to operators on integers, for runtimes that do not fuse pairs themselves.

Convolutions and products between two quantised tensors are ONNX operators; sums, pools and the rest are ONNX Runtime's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compress.quantize.placement import PASSING, Wiring, data_inputs
from edgekit.compress.quantize.qdq import drop_unused
from edgekit.graph.scopes import Names, set_opset

_MICROSOFT = "com.microsoft"
_UNARY = frozenset(("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"))


def to_qoperator(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node between pairs became one operator on integers.

    Args:
        model: As `write_qdq` made it.
    """
    return _Converter(model).convert()


class _Converter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.wiring = Wiring(self.model)
        self.zero = Names(self.model).fresh("zero")
        self.replaced: set[str] = set()  # outputs of QuantizeLinear that an operator makes itself now

    def convert(self) -> onnx.ModelProto:
        made = [self._convert(node) for node in self.wiring.nodes]
        kept = [n for n in made if n.op_type != "QuantizeLinear" or n.output[0] not in self.replaced]
        del self.model.graph.node[:]
        self.model.graph.node.extend(kept)
        self.model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.int8), self.zero))
        drop_unused(self.model)
        if any(n.domain == _MICROSOFT for n in kept):
            set_opset(self.model, 1, _MICROSOFT)
        return self.model

    def _convert(self, node: onnx.NodeProto) -> onnx.NodeProto:
        build = _BUILDERS.get(node.op_type)
        if build is None or node.domain or not all(self._parameters(i) for i in data_inputs(node)):
            return node
        quantiser = self.wiring.only_reader(node.output[0])
        ends = quantiser is not None and quantiser.op_type == "QuantizeLinear"
        if not ends and node.op_type not in ("Gemm", "MatMul"):
            return node
        result = list(quantiser.input[1:3]) if ends and quantiser is not None else []
        made = build(self, node, result)
        made.name = node.name
        made.output.append(quantiser.output[0] if ends and quantiser is not None else node.output[0])
        self.replaced.update(made.output if ends else ())
        return made

    def _parameters(self, tensor: str) -> list[str]:
        """Integers, scale and zero point behind a tensor; empty where no DequantizeLinear makes it."""
        source = self.wiring.producer.get(tensor)
        if source is None or source.op_type != "DequantizeLinear":
            return []
        return [*source.input, self.zero][:3]


def _conv(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    bias = at._parameters(node.input[2])[:1] if len(node.input) > 2 else []
    inputs = [*at._parameters(node.input[0]), *at._parameters(node.input[1]), *result, *bias]
    return _like(node, "QLinearConv", inputs, "")


def _matmul(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    a, b = (at._parameters(i) for i in node.input[:2])
    if result:
        return _like(node, "QLinearMatMul", [*a, *b, *result], "")
    return _like(node, "MatMulIntegerToFloat", [a[0], b[0], a[1], b[1], a[2], b[2]])


def _gemm(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    bias = at._parameters(node.input[2])[:1] if len(node.input) > 2 else [""]
    made = _like(node, "QGemm", [*at._parameters(node.input[0]), *at._parameters(node.input[1]), *bias, *result])
    kept = [a for a in made.attribute if a.name != "beta"]  # it is 1, and QGemm does not know it
    del made.attribute[:]
    made.attribute.extend(kept)
    return made


def _binary(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    inputs = [p for i in node.input for p in at._parameters(i)]
    return _like(node, f"QLinear{node.op_type}", [*inputs, *result])


def _unary(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    return _like(node, f"QLinear{node.op_type}", [*at._parameters(node.input[0]), *result])


def _concat(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    return _like(node, "QLinearConcat", [*result, *(p for i in node.input for p in at._parameters(i))])


def _passing(at: _Converter, node: onnx.NodeProto, result: list[str]) -> onnx.NodeProto:
    return _like(node, node.op_type, [at._parameters(node.input[0])[0], *node.input[1:]], "")


def _like(node: onnx.NodeProto, op_type: str, inputs: list[str], domain: str = _MICROSOFT) -> onnx.NodeProto:
    made = helper.make_node(op_type, inputs, [], domain=domain)
    made.attribute.extend(node.attribute)
    return made


_Builder = Callable[[_Converter, onnx.NodeProto, list[str]], onnx.NodeProto]
_BUILDERS: dict[str, _Builder] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _binary,
    "Mul": _binary,
    "Concat": _concat,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(PASSING, _passing),
}
