"""How matrices in blocks lie in the file, and the nodes that read them.

Three forms:
- expanded: bits in planes; plain operators, folded when a session loads, bring every code into the upper bits of a byte
  for ONNX Runtime's 8-bit MatMulNBits. That kernel is faster on prompts than the 4-bit one, and the lower bits of the
  byte are room for a fraction of the zero point.
- packed: MatMulNBits of the width itself, with whole zero points; the least memory and the fastest single token.
- standard: DequantizeLinear with blocks, for runtimes that know ONNX's own operators only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.blockwise import Blocks, Grid, half_scales
from edgekit.compress.quantize.matrices import Matrix
from edgekit.compress.quantize.packing import Plane, pack_adjacent, pack_planes
from edgekit.graph.scopes import Names, attribute, drop_initializers, drop_producers, rename_uses, set_opset
from edgekit.specs import Array

Form = Literal["expanded", "packed", "standard"]
_CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Held:
    """A matrix as initializers.

    Attributes:
        codes: uint8 (rows, blocks, bytes).
        scale: (rows, blocks), of the model's float type.
        zero: uint8 (rows, bytes), or "" for the middle.
        bits: Width of the codes that the kernel sees.
    """

    codes: str
    scale: str
    zero: str
    bits: int


def drop_matrix(matrix: Matrix) -> None:
    """Remove a matrix that nobody reads any more, with its transposes."""
    drop_initializers(matrix.weight.graph, {matrix.name})
    drop_producers(matrix.weight.graph, set(matrix.turned))


class BlockStore:
    """Puts matrices into a model's main graph, from where its subgraphs read them too, and rewrites their readers.

    Args:
        model: Changed in place; call `finish` once at the end.
        form: "expanded" or "packed".
        accuracy_level: What MatMulNBits may compute in: 0 and 1 float32, 4 int8.
    """

    def __init__(self, model: onnx.ModelProto, form: Form, accuracy_level: int) -> None:
        self._model = model
        self._form = form
        self._level = accuracy_level
        self._names = Names(model)
        self._nodes: list[onnx.NodeProto] = []
        self._held: dict[str, Held] = {}
        self._shared: dict[tuple[str, bytes], str] = {}

    def put(self, matrix: Matrix, blocks: Blocks, grid: Grid) -> None:
        """Store a matrix, unless its twin is there already, and make its readers read the blocks."""
        element = matrix.weight.tensor.data_type
        held = self._held.get(matrix.same_as) or self._hold(blocks, grid, element)
        self._held[matrix.name] = held
        for node in matrix.products:
            self._multiply(node, held, matrix, grid)
        for node in matrix.lookups:
            self._look_up(node, held, grid)
        drop_matrix(matrix)

    def finish(self) -> None:
        """Put the unpacking nodes in front of all others and declare the operators' domain."""
        rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in self._model.graph.node]
        del self._model.graph.node[:]
        self._model.graph.node.extend([*self._nodes, *rest])
        set_opset(self._model, 1, _CONTRIB)

    def _hold(self, blocks: Blocks, grid: Grid, element: int) -> Held:
        if self._form == "packed":
            codes = self._add("codes", pack_adjacent(blocks.codes, grid.bits))
            zero = pack_adjacent(np.rint(blocks.zero).astype(np.uint8), grid.bits)
            bits, shift = grid.bits, 0
        else:
            bits, shift = 8, 8 - grid.bits
            codes = self._unpack(pack_planes(blocks.codes, grid.bits))
            zero = np.rint(blocks.zero * (1 << shift)).astype(np.uint8)
        middle = not (blocks.zero != grid.middle).any()
        return Held(codes, self._scales(blocks, shift, element), "" if middle else self._add("zero", zero), bits)

    def _unpack(self, planes: list[Plane]) -> str:
        """Bytes with every code in the upper bits.

        Each node's result stays in memory until the session has loaded, so there are as few as can be.
        """
        whole = [self._unpack_plane(p) for p in planes]
        if len(whole) == 1:
            return whole[0]
        one, none = self._constant("one", np.float32(1)), self._constant("none", np.uint8(0))
        # ONNX has no Add of bytes, and BitwiseOr only since opset 18.
        return self._node("QLinearAdd", [whole[0], one, none, whole[1], one, none, one, none], _CONTRIB)

    def _unpack_plane(self, plane: Plane) -> str:
        data = self._add("codes", plane.data)
        parts = [self._shift(data, *amounts) for amounts in plane.shifts]
        return self._node("Concat", parts, axis=2) if len(parts) > 1 else parts[0]

    def _shift(self, value: str, left: int, right: int, back: int) -> str:
        for amount, direction in ((left, "LEFT"), (right, "RIGHT"), (back, "LEFT")):
            if amount:
                value = self._node("BitShift", [value, self._constant("bits", np.uint8(amount))], direction=direction)
        return value

    def _scales(self, blocks: Blocks, shift: int, element: int) -> str:
        half, factor = half_scales(blocks.scale)
        scale = self._node("Cast", [self._add("scale", half)], to=TensorProto.FLOAT)
        scale = self._node("Mul", [scale, self._constant("factor", np.float32(factor / (1 << shift)))])
        return scale if element == TensorProto.FLOAT else self._node("Cast", [scale], to=element)

    def _multiply(self, node: onnx.NodeProto, held: Held, matrix: Matrix, grid: Grid) -> None:
        rows, columns = matrix.shape
        inputs = [node.input[0], held.codes, held.scale, held.zero, "", self._bias(node, rows)]
        while not inputs[-1]:
            inputs.pop()
        numbers: dict[str, Any] = {
            "K": columns,
            "N": rows,
            "bits": held.bits,
            "block_size": grid.block,
            "accuracy_level": self._level,
        }
        node.CopyFrom(helper.make_node("MatMulNBits", inputs, list(node.output), node.name, domain=_CONTRIB, **numbers))

    def _bias(self, node: onnx.NodeProto, rows: int) -> str:
        """The name of a Gemm's bias as a vector."""
        if node.op_type != "Gemm" or len(node.input) < 3 or not node.input[2]:
            return ""
        tensor = next(i for i in self._model.graph.initializer if i.name == node.input[2])
        if list(tensor.dims) == [rows]:
            return node.input[2]
        return self._add("bias", np.broadcast_to(numpy_helper.to_array(tensor), (1, rows)).reshape(rows))

    def _look_up(self, node: onnx.NodeProto, held: Held, grid: Grid) -> None:
        table = self._node("Reshape", [held.codes, self._constant("rows", np.array([0, -1], np.int64))])
        inputs = [table, node.input[1], held.scale, *([held.zero] if held.zero else [])]
        numbers: dict[str, Any] = {"bits": held.bits, "block_size": grid.block, "gather_axis": 0, "quantize_axis": 1}
        made = helper.make_node(
            "GatherBlockQuantized", inputs, list(node.output), node.name, domain=_CONTRIB, **numbers
        )
        node.CopyFrom(made)

    def _add(self, wish: str, values: Array) -> str:
        name = self._names.fresh(wish)
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def _constant(self, wish: str, value: Array | np.generic) -> str:
        """A small constant that many nodes share."""
        key = (wish, value.tobytes())
        if key not in self._shared:
            self._shared[key] = self._add(wish, np.asarray(value))
        return self._shared[key]

    def _node(self, op_type: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        name = self._names.fresh("unpacked")
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, domain=domain, **attributes))
        return name


class StandardStore:
    """The same for runtimes without ONNX Runtime's own operators: DequantizeLinear in blocks, int8 rows for look-ups.

    Args:
        model: Changed in place, opset 21 or newer; call `finish` once at the end.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._names = Names(model)
        self._nodes: list[onnx.NodeProto] = []

    def put(self, matrix: Matrix, blocks: Blocks, grid: Grid) -> None:
        """Store a matrix and make its readers read it."""
        if matrix.lookups:
            self._put_rows(matrix)
            return
        weight = self._dequantize(blocks, grid, matrix.weight.tensor.data_type)
        for node in matrix.products:
            node.input[1] = weight
            if attribute(node, "transB", 0):
                next(a for a in node.attribute if a.name == "transB").i = 0
        drop_matrix(matrix)

    def finish(self) -> None:
        """Put the dequantising nodes in front of all others."""
        rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in self._model.graph.node]
        del self._model.graph.node[:]
        self._model.graph.node.extend([*self._nodes, *rest])

    def _dequantize(self, blocks: Blocks, grid: Grid, element: int) -> str:
        kinds = {4: (TensorProto.INT4, TensorProto.UINT4), 8: (TensorProto.INT8, TensorProto.UINT8)}
        kind = kinds[grid.bits][0 if grid.symmetric else 1]
        codes = blocks.codes.reshape(len(blocks.codes), -1).T
        if grid.symmetric:
            codes = (codes - np.uint8(grid.middle)) & np.uint8(grid.top)
        scale = blocks.scale.T.astype(helper.tensor_dtype_to_np_dtype(element))
        inputs = [self._add_bits("codes", codes, kind, grid.bits), self._add("scale", scale)]
        if not grid.symmetric:
            inputs.append(self._add_bits("zero", blocks.zero.T.astype(np.uint8), kind, grid.bits))
        name = self._names.fresh("unpacked")
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name, axis=0, block_size=grid.block))
        return name

    def _put_rows(self, matrix: Matrix) -> None:
        """An int8 scale a row, folded back to float at load: a look-up of blocks needs a contrib operator."""
        rows = matrix.rows
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, 1e-30).astype(np.float32)
        stored = self._add("rows", np.rint(rows / scale).astype(np.int8))
        values, product, name = (self._names.fresh(w) for w in ("unpacked", "scaled", "table"))
        self._nodes.append(helper.make_node("Cast", [stored], [values], values, to=TensorProto.FLOAT))
        self._nodes.append(helper.make_node("Mul", [values, self._add("scale", scale)], [product], product))
        self._nodes.append(helper.make_node("Cast", [product], [name], name, to=matrix.weight.tensor.data_type))
        rename_uses(matrix.weight.graph, {matrix.name: name})
        drop_initializers(matrix.weight.graph, {matrix.name})

    def _add(self, wish: str, values: Array) -> str:
        name = self._names.fresh(wish)
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def _add_bits(self, wish: str, codes: Array, kind: int, bits: int) -> str:
        name = self._names.fresh(wish)
        raw = pack_adjacent(np.ascontiguousarray(codes).reshape(1, -1), bits).tobytes()
        self._model.graph.initializer.append(helper.make_tensor(name, kind, codes.shape, raw, raw=True))
        return name
