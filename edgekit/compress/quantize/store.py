"""How weights lie in the file: integers or half floats, turned back by nodes that fold away when a session loads.

A plain DequantizeLinear in front of an operator that stays in float is not folded by ONNX Runtime and is computed at
every run. Cast and Mul of constants are: the session then runs exactly the float graph, from a quarter of the bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.compress.quantize.additions import Additions
from edgekit.compress.quantize.candidates import Weight
from edgekit.compress.quantize.packing import pack_adjacent
from edgekit.compress.quantize.rounding import half_is_smaller
from edgekit.graph.scopes import drop_initializers, rename_uses
from edgekit.specs import Array


class Store(Additions):
    """Puts weights into a model's main graph, in the place of those that they were."""

    def integers(self, weight: Weight, q: Array, scale: Array, *, bits: int = 8) -> None:
        """Store a weight as q * scale.

        Args:
            weight: What is replaced.
            q: int8 or int16, the weight's shape.
            scale: float32, broadcastable to it.
            bits: 4 to put two in a byte.
        """
        stored = self._add_int4(q) if bits == 4 else self.add("q", q)
        values = self._cast(stored, TensorProto.FLOAT)
        self._replace(weight, helper.make_node("Mul", [values, self._scales(scale)], [""]))

    def halves(self, weight: Weight) -> None:
        """Store a weight as float16."""
        name = self.add("h", weight.values.astype(np.float16))
        self._replace(weight, helper.make_node("Cast", [name], [""], to=weight.tensor.data_type), cast=False)

    def _scales(self, scale: Array) -> str:
        squeezed = _drop_leading_ones(scale)
        if not half_is_smaller(squeezed):
            return self.add("s", squeezed.astype(np.float32))
        return self._cast(self.add("s", squeezed.astype(np.float16)), TensorProto.FLOAT)

    def _replace(self, weight: Weight, node: onnx.NodeProto, cast: bool = True) -> None:
        inside = weight.graph is not self._model.graph
        name = self._names.fresh("w") if inside else weight.name
        drop_initializers(weight.graph, {weight.name})
        if inside:
            rename_uses(weight.graph, {weight.name: name})
        node.output[0] = name
        if cast and weight.tensor.data_type != TensorProto.FLOAT:
            node.output[0] = self._names.fresh("f")
            self._nodes += [node, helper.make_node("Cast", [node.output[0]], [name], to=weight.tensor.data_type)]
        else:
            self._nodes.append(node)

    def _add_int4(self, q: Array) -> str:
        """Two's complement in four bits, two neighbours in a byte."""
        data = pack_adjacent(q.astype(np.uint8).reshape(1, -1) & 0xF, 4).tobytes()
        return self.add_raw("q", TensorProto.INT4, q.shape, data)

    def _cast(self, source: str, to: int) -> str:
        name = self._names.fresh("f")
        self._nodes.append(helper.make_node("Cast", [source], [name], to=to))
        return name


def _drop_leading_ones(scale: Array) -> Array:
    """A shape that broadcasts alike and takes fewer bytes; one dimension stays."""
    shape = list(scale.shape)
    while len(shape) > 1 and shape[0] == 1:
        shape.pop(0)
    return scale.reshape(shape or 1)
