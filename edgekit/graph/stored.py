"""What a model file stores: its tensors by element type, and how many parameters they stand for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from edgekit.graph.advice import tensor_bytes
from edgekit.graph.read import every_graph, every_node, every_weight
from edgekit.graph.scopes import attribute
from edgekit.graph.shapes import dims_of
from edgekit.specs import TensorSpec

_NAMES = {"float": "float32", "double": "float64"}
NO_PARAMETERS = frozenset(("int64", "bool", "string"))


@dataclass(frozen=True)
class WeightGroup:
    """All tensors of one element type that a file holds, Constant nodes and subgraphs included."""

    dtype: str
    tensors: int
    elements: int
    bytes: int


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, element type and shape of a graph's input or output; sequences and maps have a type and no shape."""
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return TensorSpec(value.name, kind.removesuffix("_type"), ())
    return TensorSpec(value.name, dtype_name(value.type.tensor_type.elem_type), dims_of(value))


def dtype_name(data_type: int) -> str:
    """NumPy's name of an ONNX element type.

    >>> dtype_name(onnx.TensorProto.FLOAT)
    'float32'
    """
    name = onnx.TensorProto.DataType.Name(data_type).lower()
    return _NAMES.get(name, name)


def weight_groups(model: onnx.ModelProto) -> tuple[WeightGroup, ...]:
    """All tensors of a model by element type, those with most bytes first."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tensor in _every_tensor(model):
        total = totals[dtype_name(tensor.data_type)]
        for i, more in enumerate((1, math.prod(tensor.dims), tensor_bytes(tensor))):
            total[i] += more
    groups = [WeightGroup(dtype, *total) for dtype, total in totals.items()]
    return tuple(sorted(groups, key=lambda g: (-g.bytes, g.dtype)))


def _every_tensor(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from every_weight(model)
    for graph in every_graph(model):
        yield from (s.values for s in graph.sparse_initializer)


def count_parameters(model: onnx.ModelProto, groups: tuple[WeightGroup, ...]) -> int:
    """Elements of weights; packed ones count as what they stand for."""
    held = {t.name: t for t in _every_tensor(model)}
    packed = 0
    for node in every_node(model):
        if node.op_type == "MatMulNBits" and len(node.input) > 1 and node.input[1] in held:
            stands_for = int(attribute(node, "K", 0)) * int(attribute(node, "N", 0))
            packed += stands_for - math.prod(held[node.input[1]].dims)
    return packed + sum(g.elements for g in groups if g.dtype not in NO_PARAMETERS)
