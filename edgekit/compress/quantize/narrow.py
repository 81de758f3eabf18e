"""A graph rewritten to compute in 16-bit floats, but for the nodes that are told to stay in float32.

Values keep their names; where a node wants the other width, a Cast stands before it, one for each value and scope.
Bodies of If, Loop and Scan are rewritten too; what crosses their borders stays float32.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.element_types import (
    UNKNOWN,
    accepts,
    body_outputs,
    holds_containers,
    output_types,
    parameter_at,
    schema_of,
)
from edgekit.graph.clean import remove_dead
from edgekit.graph.scopes import Names, attribute, rename_node_output, subgraphs_of

PEAK = 65504.0  # the largest float16
# They draw numbers of a type of their own, or speak of quantised numbers: none gains from 16 bits.
_KEPT_OPS = frozenset(("Bernoulli", "DequantizeLinear", "DynamicQuantizeLinear", "EyeLike", "QuantizeLinear"))
_FLOAT = TensorProto.FLOAT


@dataclass
class _Scope:
    """What is visible in a graph: element types as the model had them, and as they are now.

    Attributes:
        types: By name, before.
        stored: By name, now.
        casts: (name, element type) -> the value that holds it so.
        homes: Initializers that cannot be overridden -> the graph that holds them.
    """

    types: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    homes: dict[str, onnx.GraphProto] = field(default_factory=dict)

    def inner(self) -> _Scope:
        return _Scope(dict(self.types), dict(self.stored), dict(self.casts), dict(self.homes))

    def define(self, name: str, element: int, stored: int | None = None) -> None:
        self.types[name] = element
        self.stored[name] = element if stored is None else stored
        for known in [k for k in self.casts if k[0] == name]:
            del self.casts[known]
        self.homes.pop(name, None)


def narrow(
    model: onnx.ModelProto, element: int, kept: Collection[str] = (), *, keep_io: bool = True
) -> onnx.ModelProto:
    """A copy of a model that computes in 16 bits.

    Args:
        model: As `graph.normalise` leaves it.
        element: TensorProto.FLOAT16 or BFLOAT16.
        kept: Names of nodes that stay in float32.
        keep_io: Whether inputs and outputs keep their types, with Casts at the border.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Narrower(result, element, frozenset(kept), keep_io).rewrite()
    remove_dead(result)
    return result


def float_values(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The float32 values that each node of the main graph reads or makes, by the node's name; constants left out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scope = _Narrower(copy, TensorProto.FLOAT16, None, True).rewrite()
    constants = {i.name for i in model.graph.initializer}
    return {
        node.name: [v for v in (*node.input, *node.output) if scope.types.get(v) == _FLOAT and v not in constants]
        for node in model.graph.node
    }


class _Narrower:
    def __init__(self, model: onnx.ModelProto, element: int, kept: frozenset[str] | None, keep_io: bool) -> None:
        self._model, self._element, self._kept, self._keep_io = model, element, kept, keep_io
        self._opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        self._names = Names(model)

    def rewrite(self) -> _Scope:
        graph, scope = self._model.graph, _Scope()
        if not self._keep_io:
            weights = {i.name for i in graph.initializer}
            made = {o for n in graph.node for o in n.output}
            ends = [o for o in graph.output if o.name in made]
            for value in (*(i for i in graph.input if i.name not in weights), *ends):
                if value.type.tensor_type.elem_type == _FLOAT:
                    value.type.tensor_type.elem_type = self._element
        self._graph(graph, scope)
        self._restore_outputs(graph, scope)
        return scope

    def _graph(self, graph: onnx.GraphProto, scope: _Scope) -> None:
        fed = set()
        for value in graph.input:
            fed.add(value.name)
            stored = value.type.tensor_type.elem_type
            scope.define(value.name, _FLOAT if self._was_narrowed(graph, value) else stored, stored)
        for tensor in graph.initializer:
            if tensor.name not in fed:
                scope.define(tensor.name, tensor.data_type)
                scope.homes[tensor.name] = graph
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            self._node(node, scope, nodes)
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:], graph.value_info[:]
        graph.node.extend(copies)

    def _was_narrowed(self, graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> bool:
        outermost = graph is self._model.graph and not self._keep_io
        return outermost and value.type.tensor_type.elem_type == self._element

    def _node(self, node: onnx.NodeProto, scope: _Scope, nodes: list[onnx.NodeProto]) -> None:
        bodies = list(subgraphs_of(node))
        if bodies:
            made = self._bodies(node, bodies, scope)
            narrowed, schema = False, None
        else:
            schema = schema_of(node, self._opsets)
            made = output_types(node, schema, [scope.types.get(i, UNKNOWN) for i in node.input])
            narrowed = schema is not None and self._is_narrow(node, schema)
        for i, name in enumerate(node.input):
            if scope.types.get(name) == _FLOAT:
                wide = not narrowed or not self._takes(schema, parameter_at(schema.inputs, i))  # type: ignore[union-attr]
                node.input[i] = self._read(name, _FLOAT if wide else self._element, scope, nodes)
        nodes.append(node)
        if narrowed:
            self._narrow_attributes(node)
        for i, name in enumerate(node.output):
            narrow_result = narrowed and made[i] == _FLOAT and self._makes(node, schema, i)
            scope.define(name, made[i], self._element if narrow_result else made[i])

    def _is_narrow(self, node: onnx.NodeProto, schema: Any) -> bool:
        if self._kept is None or node.name in self._kept or node.op_type in _KEPT_OPS:
            return False
        return not node.op_type.startswith("Random") and not holds_containers(schema)

    def _takes(self, schema: Any, parameter: Any) -> bool:
        return parameter is not None and accepts(schema, parameter, self._element)

    def _makes(self, node: onnx.NodeProto, schema: Any, index: int) -> bool:
        statistics = node.op_type == "LayerNormalization" and index > 0  # they have the type that it computes in
        return not statistics and self._takes(schema, parameter_at(schema.outputs, index))

    def _bodies(self, node: onnx.NodeProto, bodies: list[onnx.GraphProto], scope: _Scope) -> list[int]:
        made = [UNKNOWN] * len(node.output)
        for body in bodies:
            inner = scope.inner()
            fed = [scope.types.get(i, UNKNOWN) for i in node.input]
            for value, element in zip(body.input, fed if len(fed) == len(body.input) else [], strict=False):
                if value.type.tensor_type.elem_type == UNKNOWN and not value.type.HasField("sequence_type"):
                    value.type.tensor_type.elem_type = element
            self._graph(body, inner)
            made = [inner.types.get(o.name, UNKNOWN) for o in body_outputs(node)][: len(made)]
            self._widen_results(body, inner)
        return [*made, *[UNKNOWN] * (len(node.output) - len(made))]

    def _widen_results(self, body: onnx.GraphProto, scope: _Scope) -> None:
        for value in body.output:
            if scope.stored.get(value.name) != scope.types.get(value.name):
                added: list[onnx.NodeProto] = []
                value.name = self._read(value.name, _FLOAT, scope, added)
                body.node.extend(added)

    def _read(self, name: str, element: int, scope: _Scope, nodes: list[onnx.NodeProto]) -> str:
        """The name of the value in this type; a Cast, or for a weight a narrow twin, makes it where it is not there."""
        if scope.stored[name] == element:
            return name
        if (name, element) not in scope.casts:
            home = scope.homes.get(name)
            cast = self._names.fresh(f"{name}_{'wide' if element == _FLOAT else 'half'}")
            if home is not None:
                home.initializer.append(self._narrow_tensor(next(i for i in home.initializer if i.name == name), cast))
            else:
                nodes.append(helper.make_node("Cast", [name], [cast], self._names.fresh("Cast"), to=element))
            scope.casts[name, element] = cast
        return scope.casts[name, element]

    def _narrow_tensor(self, tensor: onnx.TensorProto, name: str = "") -> onnx.TensorProto:
        values = numpy_helper.to_array(tensor)
        if self._element == TensorProto.FLOAT16:
            finite = np.isfinite(values)
            half = np.where(finite, np.clip(values, -PEAK, PEAK), values).astype(np.float16)
            return numpy_helper.from_array(half, name)
        kind = helper.tensor_dtype_to_np_dtype(self._element)
        return numpy_helper.from_array(values.astype(kind), name)

    def _narrow_attributes(self, node: onnx.NodeProto) -> None:
        for item in node.attribute:
            if item.name in ("to", "dtype") and item.i == _FLOAT:
                item.i = self._element
            elif item.name == "value" and item.t.data_type == _FLOAT:
                item.t.CopyFrom(self._narrow_tensor(item.t))
        if node.op_type == "ConstantOfShape" and attribute(node, "value") is None:
            zero = numpy_helper.from_array(np.zeros(1, helper.tensor_dtype_to_np_dtype(self._element)))
            node.attribute.append(helper.make_attribute("value", zero))

    def _restore_outputs(self, graph: onnx.GraphProto, scope: _Scope) -> None:
        for value in graph.output:
            wanted = value.type.tensor_type.elem_type
            now = scope.stored.get(value.name, wanted)
            if now == wanted or {now, wanted} != {_FLOAT, self._element}:
                continue
            inner = self._names.fresh(f"{value.name}_inner")
            rename_node_output(graph, value.name, inner)
            graph.node.append(helper.make_node("Cast", [inner], [value.name], self._names.fresh("Cast"), to=wanted))
