"""Who makes and who reads the values of a pruned graph; where a layer keeps its weight and bias."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.graph.scopes import Names, attribute, fixed_initializers
from edgekit.specs import Array

_PRODUCTS = ("Conv", "Gemm", "MatMul")


class Wires:
    """A look at a graph as it is now.

    Args:
        model: Changed by `store`; look anew afterwards.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = fixed_initializers(model.graph)
        self.producer = {o: n for n in model.graph.node for o in n.output if o}
        self.readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self._outputs = {o.name for o in model.graph.output}
        self._order = {n.output[0]: i for i, n in enumerate(model.graph.node)}

    def may_change(self, node: onnx.NodeProto) -> bool:
        """Whether a layer is a plain product with a constant weight."""
        if node.op_type == "Gemm":
            plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
            bias = self._bias_name(node)
            if not plain or attribute(node, "transA", 0) or (bias and len(self.constants[bias].dims) != 1):
                return False
        if node.op_type == "MatMul" and len(self.constants[node.input[1]].dims) != 2:
            return False
        given = all(not name or name in self.constants for name in node.input[1:])
        return node.op_type in _PRODUCTS and given and self._width(node) > 0

    def weight(self, node: onnx.NodeProto) -> Array:
        """Of a layer, float32."""
        return np.asarray(numpy_helper.to_array(self.constants[node.input[1]]), np.float32)

    def bias(self, node: onnx.NodeProto) -> Array:
        """Of a layer, float64; zeros where it has none."""
        name = self._bias_name(node)
        if not name:
            return np.zeros(self._width(node))
        values = np.asarray(numpy_helper.to_array(self.constants[name]), np.float64).ravel()
        return np.broadcast_to(values, (self._width(node),)).copy()

    def has_place_for_bias(self, node: onnx.NodeProto) -> bool:
        """Whether a layer has a bias, or may get one."""
        return node.op_type != "MatMul" or bool(self._bias_name(node))

    def behind_bias(self, node: onnx.NodeProto) -> str:
        """The value that a layer gives when its bias was added."""
        adds = self._bias_node(node)
        return node.output[0] if adds is None else adds.output[0]

    def joins(self, value: str) -> tuple[str, str] | None:
        """The sum that a value is one side of, and the other side; None where it goes anywhere else."""
        readers = self.readers[value]
        if len(readers) != 1 or readers[0].op_type != "Add" or value in self._outputs:
            return None
        sides = [i for i in readers[0].input if i != value]
        return (readers[0].output[0], sides[0]) if len(sides) == 1 and sides[0] not in self.constants else None

    def is_fitted_later(self, value: str, node: onnx.NodeProto) -> bool:
        """Whether a product that comes after a node makes a value, directly or through others."""
        own, left, seen = self._order[node.output[0]], [value], set[str]()
        while left:
            name = left.pop()
            source = self.producer.get(name)
            if source is None or name in seen:
                continue
            seen.add(name)
            if source.op_type in _PRODUCTS and self._order[source.output[0]] > own:
                return True
            left.extend(source.input)
        return False

    def store(self, node: onnx.NodeProto, weight: Array, bias: Array) -> None:
        """Give a layer another weight and bias, of its own."""
        names = Names(self.model)
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.constants[node.input[1]].data_type))
        if self.has_place_for_bias(node):
            self._store_bias(node, names, bias.astype(kind))
        node.input[1] = self._added(names.fresh(node.input[1]), weight.astype(kind))
        self._sweep()

    def _store_bias(self, node: onnx.NodeProto, names: Names, bias: Array) -> None:
        old, adds = self._bias_name(node), self._bias_node(node)
        shape = tuple(self.constants[old].dims) if old and adds is not None else bias.shape
        if int(np.prod(shape)) != bias.size:
            shape = bias.shape
        name = self._added(names.fresh(old or f"{node.input[1]}_bias"), bias.reshape(shape))
        if adds is not None:
            adds.input[list(adds.input).index(old)] = name
            return
        while len(node.input) < 3:
            node.input.append("")
        node.input[2] = name

    def _added(self, name: str, value: Array) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _sweep(self) -> None:
        from edgekit.graph.clean import remove_dead

        remove_dead(self.model)

    def _bias_name(self, node: onnx.NodeProto) -> str:
        if node.op_type != "MatMul":
            return node.input[2] if len(node.input) > 2 else ""
        adds = self._bias_node(node)
        return next((i for i in adds.input if i in self.constants), "") if adds is not None else ""

    def _bias_node(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Add of one number a channel right behind a matrix product."""
        readers = self.readers[node.output[0]]
        if node.op_type != "MatMul" or len(readers) != 1 or node.output[0] in self._outputs:
            return None
        adds = readers[0]
        constants = [self.constants[i] for i in adds.input if i in self.constants]
        width = self._width(node)
        fits = (
            len(constants) == 1
            and constants[0].dims
            and int(np.prod(constants[0].dims)) == constants[0].dims[-1] == width
        )
        return adds if adds.op_type == "Add" and fits else None

    def _width(self, node: onnx.NodeProto) -> int:
        """How many channels a layer gives."""
        if node.input[1] not in self.constants:
            return 0
        dims = self.constants[node.input[1]].dims
        if node.op_type == "MatMul":
            return int(dims[-1])
        return int(dims[0] if node.op_type == "Conv" or attribute(node, "transB", 0) else dims[1])
