"""Element types of the values of a graph, from operators' schemas: also behind contrib operators and in subgraphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto

from edgekit.graph.scopes import attribute, subgraphs_of

UNKNOWN: int = TensorProto.UNDEFINED
_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
    TensorProto.DOUBLE: "tensor(double)",
    TensorProto.STRING: "tensor(string)",
    TensorProto.BOOL: "tensor(bool)",
    TensorProto.INT64: "tensor(int64)",
    TensorProto.INT32: "tensor(int32)",
    TensorProto.INT8: "tensor(int8)",
    TensorProto.UINT8: "tensor(uint8)",
}
_ELEMENTS = {name: element for element, name in _NAMES.items()}
_BY_ATTRIBUTE = ("to", "dtype", "output_dtype")


def schema_of(node: onnx.NodeProto, opsets: Mapping[str, int]) -> Any | None:
    """The schema of a node's operator, ONNX's own or ONNX Runtime's; None for an operator that neither has."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain == "":
        try:
            return onnx.defs.get_schema(node.op_type, opsets.get("", 1), domain)
        except onnx.defs.SchemaError:
            return None
    return _contrib_schemas().get((domain, node.op_type))


@cache
def _contrib_schemas() -> dict[tuple[str, str], Any]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return {(s.domain, s.name): s for s in state.get_all_operator_schema() if s.domain == "com.microsoft"}


def type_name(parameter: Any) -> str:
    """A formal parameter's type, or the name of the constraint that says which it may have."""
    return str(parameter.type_str if hasattr(parameter, "type_str") else parameter.typeStr)


def accepts(schema: Any, parameter: Any, element: int) -> bool:
    """Whether an input or output of an operator may have this element type."""
    return _NAMES[element] in _allowed(schema, type_name(parameter))


def holds_containers(schema: Any) -> bool:
    """Whether an operator works on sequences, maps or optionals and on nothing else in that place."""
    kinds = (_allowed(schema, type_name(p)) for p in [*schema.inputs, *schema.outputs])
    return any(allowed and all(not name.startswith("tensor(") for name in allowed) for allowed in kinds)


def parameter_at(parameters: Sequence[Any], index: int) -> Any | None:
    """The formal parameter of an input or output; the last one repeats."""
    return parameters[min(index, len(parameters) - 1)] if parameters else None


def output_types(node: onnx.NodeProto, schema: Any | None, inputs: Sequence[int]) -> list[int]:
    """Element types of a node's outputs.

    Args:
        node: A node without subgraphs.
        schema: Its operator's.
        inputs: Element types of its inputs; `UNKNOWN` where there is none.
    """
    if schema is None:
        return [UNKNOWN] * len(node.output)
    bound: dict[str, int] = {}
    for i, element in enumerate(inputs):
        parameter = parameter_at(schema.inputs, i)
        if parameter is not None and element != UNKNOWN:
            bound.setdefault(type_name(parameter), element)
    return [_output_type(node, schema, i, bound) for i in range(len(node.output))]


def _output_type(node: onnx.NodeProto, schema: Any, index: int, bound: Mapping[str, int]) -> int:
    parameter = parameter_at(schema.outputs, index)
    if parameter is None:
        return UNKNOWN
    allowed = _allowed(schema, type_name(parameter))
    if type_name(parameter) in bound:
        return bound[type_name(parameter)]
    if len(allowed) == 1:
        return _ELEMENTS.get(allowed[0], UNKNOWN)
    chosen = next((attribute(node, name) for name in _BY_ATTRIBUTE if attribute(node, name)), None)
    if chosen is not None:
        return int(chosen)
    value = attribute(node, "value")
    if isinstance(value, onnx.TensorProto):
        return value.data_type
    return TensorProto.FLOAT if "tensor(float)" in allowed else UNKNOWN


def _allowed(schema: Any, type_text: str) -> list[str]:
    for constraint in schema.type_constraints:
        if constraint.type_param_str == type_text:
            return list(constraint.allowed_type_strs)
    return [type_text]


def body_outputs(node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
    """What of a body becomes the outputs of the If, Loop or Scan that holds it."""
    body = next(iter(subgraphs_of(node)))
    return list(body.output)[1 if node.op_type == "Loop" else 0 :]
