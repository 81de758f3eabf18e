"""How matrices in blocks lie in the file for ONNX Runtime's own operators, MatMulNBits and GatherBlockQuantized.

Two forms:
- expanded: bits in planes; plain operators, folded when a session loads, make them the codes of the 8-bit kernel. That
  is faster on prompts than the 4-bit one, takes zero points between two codes, and its blocks, in which activations are
  quantised too, need not be those that the file stores.
- packed: codes of the width itself with whole zero points; the least memory and the fastest single token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.additions import Additions
from edgekit.compress.quantize.blockwise import Blocks, Grid, half_scales, split_blocks
from edgekit.compress.quantize.matrices import Matrix, block_for
from edgekit.compress.quantize.packing import Plane, pack_adjacent, pack_planes
from edgekit.graph.scopes import drop_initializers, drop_producers, set_opset
from edgekit.specs import Array

Form = Literal["expanded", "packed", "standard"]
_CONTRIB = "com.microsoft"
_TINY = 1e-30


@dataclass(frozen=True)
class Kernel:
    """What the kernels are told.

    Attributes:
        form: "expanded" or "packed".
        accuracy_level: What MatMulNBits may compute in: 0 and 1 float32, 4 int8.
        block: Expanded codes share a scale over up to this many columns, if not over more already.
    """

    form: Form
    accuracy_level: int = 4
    block: int = 0


@dataclass(frozen=True)
class Held:
    """A matrix as initializers.

    Attributes:
        codes: uint8 (rows, blocks, bytes).
        scale: (rows, blocks), of the model's float type.
        zero: uint8 (rows, bytes), or "" for the middle.
        bits: Width of the codes that the kernel sees.
        block: Columns that share a scale in the kernel.
    """

    codes: str
    scale: str
    zero: str
    bits: int
    block: int


def drop_matrix(matrix: Matrix) -> None:
    """Remove a matrix that nobody reads any more, with its transposes."""
    drop_initializers(matrix.weight.graph, {matrix.name})
    drop_producers(matrix.weight.graph, set(matrix.turned))


class BlockStore:
    """Puts matrices into a model and rewrites their readers.

    Args:
        model: Changed in place; call `finish` once at the end.
        kernel: What its kernels are told.
    """

    def __init__(self, model: onnx.ModelProto, kernel: Kernel) -> None:
        self._model = model
        self._kernel = kernel
        self._additions = Additions(model)
        self._held: dict[str, Held] = {}

    def put(self, matrix: Matrix, blocks: Blocks, grid: Grid) -> None:
        """Store a matrix, unless its twin is there already, and make its readers read the blocks."""
        held = self._held.get(matrix.same_as) or self._hold(blocks, grid, matrix.weight.tensor.data_type)
        self._held[matrix.name] = held
        for node in matrix.products:
            self._multiply(node, held, matrix)
        for node in matrix.lookups:
            self._look_up(node, held)
        drop_matrix(matrix)

    def finish(self) -> None:
        """Put the unpacking nodes in front of all others and declare the operators' domain."""
        self._additions.finish()
        set_opset(self._model, 1, _CONTRIB)

    def _hold(self, blocks: Blocks, grid: Grid, element: int) -> Held:
        if self._kernel.form == "packed":
            codes = self._additions.add("codes", pack_adjacent(blocks.codes, grid.bits))
            zero = pack_adjacent(np.rint(blocks.zero).astype(np.uint8), grid.bits)
            return Held(
                codes, self._scales(blocks.scale, element), self._zero(blocks, grid, zero), grid.bits, grid.block
            )
        wide = block_for(blocks.columns, self._kernel.block, whole=True)
        if wide > grid.block and wide % grid.block == 0:
            return self._hold_widened(blocks, grid, wide, element)
        steps = 1 << (8 - grid.bits)
        codes = self._unpack(pack_planes(blocks.codes, grid.bits))
        zero = np.rint(blocks.zero * steps).astype(np.uint8)
        return Held(codes, self._scales(blocks.scale / steps, element), self._zero(blocks, grid, zero), 8, grid.block)

    def _zero(self, blocks: Blocks, grid: Grid, stored: Array) -> str:
        return self._additions.add("zero", stored) if (blocks.zero != grid.middle).any() else ""

    def _hold_widened(self, blocks: Blocks, grid: Grid, wide: int, element: int) -> Held:
        """Codes of 8 bits whose scale is shared over several blocks of the file.

        QLinearConv with one channel a block is the one operator that scales bytes to bytes by block; Cast, Mul and Add
        would leave 13 bytes a weight in memory until the session has loaded.
        """
        add, count, steps = self._additions, blocks.scale.size, 1 << (8 - grid.bits)
        largest = np.abs(split_blocks(blocks.values, wide)).max(axis=-1)
        shared = np.maximum(largest / 127, _TINY).astype(np.float32)
        share = blocks.scale / steps / np.repeat(shared, wide // grid.block, axis=1)
        scale = add.node("Cast", [add.add("share", share.reshape(-1).astype(np.float16))], to=TensorProto.FLOAT)
        zero = add.add("zero", np.rint(blocks.zero * steps).astype(np.uint8).reshape(-1))
        offset = add.node("Neg", [add.node("Cast", [zero], to=TensorProto.INT32)])
        codes = self._unpack(pack_planes(blocks.codes.reshape(1, count, grid.block), grid.bits))
        channels = add.constant("channels", np.array([count, 1, 1], np.int64))
        ones = add.node("ConstantOfShape", [channels], value=numpy_helper.from_array(np.array([1], np.int8)))
        one, none = add.constant("one", np.float32(1)), add.constant("none", np.uint8(0))
        middle = add.constant("middle", np.uint8(128))
        inputs = [codes, one, none, ones, scale, add.constant("none", np.int8(0)), one, middle, offset]
        bytes_ = add.node("QLinearConv", inputs, group=count, kernel_shape=[1])
        shape = add.add("shape", np.array([*shared.shape, wide], np.int64))
        return Held(add.node("Reshape", [bytes_, shape]), self._scales(shared, element), "", 8, wide)

    def _unpack(self, planes: list[Plane]) -> str:
        """Bytes with every code in the upper bits.

        Each node's result stays in memory until the session has loaded, so there are as few as can be.
        """
        whole = [self._unpack_plane(p) for p in planes]
        if len(whole) == 1:
            return whole[0]
        return self._additions.node("BitwiseOr", whole)

    def _unpack_plane(self, plane: Plane) -> str:
        data = self._additions.add("codes", plane.data)
        parts = [self._shift(data, *amounts) for amounts in plane.shifts]
        return self._additions.node("Concat", parts, axis=2) if len(parts) > 1 else parts[0]

    def _shift(self, value: str, left: int, right: int, back: int) -> str:
        for amount, direction in ((left, "LEFT"), (right, "RIGHT"), (back, "LEFT")):
            if amount:
                by = self._additions.constant("bits", np.uint8(amount))
                value = self._additions.node("BitShift", [value, by], direction=direction)
        return value

    def _scales(self, scale: Array, element: int) -> str:
        half, factor = half_scales(scale)
        stored = self._additions.node("Cast", [self._additions.add("scale", half)], to=TensorProto.FLOAT)
        product = self._additions.node("Mul", [stored, self._additions.constant("factor", np.float32(factor))])
        return product if element == TensorProto.FLOAT else self._additions.node("Cast", [product], to=element)

    def _multiply(self, node: onnx.NodeProto, held: Held, matrix: Matrix) -> None:
        rows, columns = matrix.shape
        inputs = [node.input[0], held.codes, held.scale, held.zero, "", self._bias(node, rows)]
        while not inputs[-1]:
            inputs.pop()
        numbers: dict[str, Any] = {
            "K": columns,
            "N": rows,
            "bits": held.bits,
            "block_size": held.block,
            "accuracy_level": self._kernel.accuracy_level,
        }
        node.CopyFrom(helper.make_node("MatMulNBits", inputs, list(node.output), node.name, domain=_CONTRIB, **numbers))

    def _bias(self, node: onnx.NodeProto, rows: int) -> str:
        """The name of a Gemm's bias as a vector."""
        if node.op_type != "Gemm" or len(node.input) < 3 or not node.input[2]:
            return ""
        tensor = next(i for i in self._model.graph.initializer if i.name == node.input[2])
        if list(tensor.dims) == [rows]:
            return node.input[2]
        return self._additions.add("bias", np.broadcast_to(numpy_helper.to_array(tensor), (1, rows)).reshape(rows))

    def _look_up(self, node: onnx.NodeProto, held: Held) -> None:
        table = self._additions.node(
            "Reshape", [held.codes, self._additions.constant("rows", np.array([0, -1], np.int64))]
        )
        inputs = [table, node.input[1], held.scale, *([held.zero] if held.zero else [])]
        numbers: dict[str, Any] = {"bits": held.bits, "block_size": held.block, "gather_axis": 0, "quantize_axis": 1}
        made = helper.make_node(
            "GatherBlockQuantized", inputs, list(node.output), node.name, domain=_CONTRIB, **numbers
        )
        node.CopyFrom(made)
