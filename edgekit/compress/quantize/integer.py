"""Matrix products and embedding look-ups on int8 weights, in standard operators that ONNX Runtime fuses when it loads.

DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul becomes one DynamicQuantizeMatMul, or one MatMulIntegerToFloat
for each of several products that read one quantised value (query, key and value of an attention).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.candidates import Use, Weight
from edgekit.compress.quantize.rounding import half_is_smaller
from edgekit.graph.scopes import Names, attribute, defined_names, drop_initializers, rename_uses, subgraphs_of
from edgekit.specs import Array

Role = Literal["product", "lookup"]


def role_of(weight: Weight) -> Role | None:
    """What all readers of a weight do with it, where they do the same and int8 kernels can."""
    if weight.tensor.data_type != TensorProto.FLOAT or len(weight.tensor.dims) != 2:
        return None
    if all(_is_product(u) for u in weight.uses) and len({_is_transposed(u.node) for u in weight.uses}) == 1:
        return "product"
    lookup = all(u.node.op_type == "Gather" and u.index == 0 and not attribute(u.node, "axis", 0) for u in weight.uses)
    return "lookup" if lookup else None


def _is_product(use: Use) -> bool:
    if use.index != 1 or use.node.domain:
        return False
    if use.node.op_type == "MatMul":
        return True
    gemm = use.node.op_type == "Gemm" and not attribute(use.node, "transA", 0)
    return gemm and attribute(use.node, "alpha", 1.0) == attribute(use.node, "beta", 1.0) == 1.0


def _is_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and bool(attribute(node, "transB", 0))


def channel_axes(weight: Weight, role: Role) -> tuple[int, ...]:
    """The axes that get a scale for each index: output channels of a product, rows of a table."""
    return (1,) if role == "product" and not _is_transposed(weight.uses[0].node) else (0,)


@dataclass(frozen=True)
class _Stored:
    q: str
    scale: str
    role: Role
    per_row: bool


class IntegerWriter:
    """Rewrites the readers of weights for int8.

    Args:
        model: Changed in place; call `finish` once at the end.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._names = Names(model)
        self._stored: dict[str, _Stored] = {}
        self._front: list[onnx.NodeProto] = []
        self.products = 0
        self.lookups = 0

    def replace(self, weight: Weight, role: Role, q: Array, scale: Array) -> None:
        """Note that all readers of a weight shall work on q * scale.

        Args:
            weight: What is replaced.
            role: As `role_of` said.
            q: int8, the weight's shape.
            scale: float32, (rows, 1), (1, columns) or (1, 1).
        """
        drop_initializers(weight.graph, {weight.name})
        key = weight.name
        if weight.graph is not self._model.graph:
            key = self._names.fresh("w")
            rename_uses(weight.graph, {weight.name: key})
        transposed = role == "product" and _is_transposed(weight.uses[0].node)
        q, scale = (q.T, scale.T) if transposed else (q, scale)
        per_row = role == "lookup" and scale.shape[0] > 1
        name = self._add("s", scale.astype(np.float16)) if per_row else self._column_scale(scale.reshape(-1))
        self._stored[key] = _Stored(self._add("q", q), name, role, per_row)

    def finish(self) -> None:
        """Rewrite every graph."""
        if not self._stored:
            return
        self._rewrite(self._model.graph, self._stored)
        for node in reversed(self._front):
            self._model.graph.node.insert(0, node)

    def _column_scale(self, scale: Array) -> str:
        if not half_is_smaller(scale):
            return self._add("s", scale.astype(np.float32))
        half, name = self._add("s", scale.astype(np.float16)), self._fresh("f")
        self._front.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        return name

    @property
    def initializers(self) -> set[str]:
        """Names of the initializers that were made."""
        return {name for s in self._stored.values() for name in (s.q, s.scale)}

    def _rewrite(self, graph: onnx.GraphProto, stored: Mapping[str, _Stored]) -> None:
        nodes: list[onnx.NodeProto] = []
        quantised: dict[str, tuple[str, str, str]] = {}
        for node in graph.node:
            for inner in subgraphs_of(node):
                own = defined_names(inner)
                self._rewrite(inner, {k: v for k, v in stored.items() if k not in own})
            if len(node.input) > 1 and node.op_type in ("MatMul", "Gemm") and node.input[1] in stored:
                nodes += self._product(node, stored[node.input[1]], quantised)
            elif node.op_type == "Gather" and node.input[0] in stored:
                nodes += self._lookup(node, stored[node.input[0]])
            else:
                nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        del graph.node[:]
        graph.node.extend(nodes)

    def _product(
        self, node: onnx.NodeProto, weight: _Stored, quantised: dict[str, tuple[str, str, str]]
    ) -> Iterator[onnx.NodeProto]:
        source = node.input[0]
        if source not in quantised:
            quantised[source] = (self._fresh("a"), self._fresh("b"), self._fresh("z"))
            yield helper.make_node("DynamicQuantizeLinear", [source], quantised[source])
        values, scale, zero_point = quantised[source]
        sums, floats, factor = self._fresh("i"), self._fresh("f"), self._fresh("m")
        bias = node.input[2] if len(node.input) > 2 else ""
        result = self._fresh("y") if bias else node.output[0]
        yield helper.make_node("MatMulInteger", [values, weight.q, zero_point], [sums], name=node.name)
        yield helper.make_node("Cast", [sums], [floats], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [scale, weight.scale], [factor])
        yield helper.make_node("Mul", [floats, factor], [result])
        if bias:
            yield helper.make_node("Add", [result, bias], [node.output[0]])
        self.products += 1

    def _lookup(self, node: onnx.NodeProto, table: _Stored) -> Iterator[onnx.NodeProto]:
        rows, floats, scale = self._fresh("r"), self._fresh("f"), table.scale
        yield helper.make_node("Gather", [table.q, node.input[1]], [rows], name=node.name)
        yield helper.make_node("Cast", [rows], [floats], to=TensorProto.FLOAT)
        if table.per_row:
            half, scale = self._fresh("h"), self._fresh("s")
            yield helper.make_node("Gather", [table.scale, node.input[1]], [half])
            yield helper.make_node("Cast", [half], [scale], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [floats, scale], [node.output[0]])
        self.lookups += 1

    def _fresh(self, wish: str) -> str:
        return self._names.fresh(wish)

    def _add(self, wish: str, values: Array) -> str:
        name = self._fresh(wish)
        self._model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
