"""How matrices in blocks lie in the file for runtimes that know ONNX's own operators only.

DequantizeLinear in blocks for products, which ONNX Runtime fuses into MatMulNBits where it has it; int8 rows, folded
back to float when a session loads, for look-ups.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.compress.quantize.additions import Additions
from edgekit.compress.quantize.blockwise import Blocks, Grid
from edgekit.compress.quantize.matrices import Matrix
from edgekit.compress.quantize.nbits import drop_matrix
from edgekit.compress.quantize.packing import pack_adjacent
from edgekit.graph.scopes import attribute, drop_initializers, rename_uses
from edgekit.specs import Array


class StandardStore:
    """Puts matrices into a model and makes their readers read them.

    Args:
        model: Changed in place, opset 21 or newer; call `finish` once at the end.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._additions = Additions(model)

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
        self._additions.finish()

    def _dequantize(self, blocks: Blocks, grid: Grid, element: int) -> str:
        kinds = {4: (TensorProto.INT4, TensorProto.UINT4), 8: (TensorProto.INT8, TensorProto.UINT8)}
        kind = kinds[grid.bits][0 if grid.symmetric else 1]
        codes = blocks.codes.reshape(len(blocks.codes), -1).T
        if grid.symmetric:
            codes = (codes - np.uint8(grid.middle)) & np.uint8(grid.top)
        scale = blocks.scale.T.astype(helper.tensor_dtype_to_np_dtype(element))
        inputs = [self._add_bits("codes", codes, kind, grid.bits), self._additions.add("scale", scale)]
        if not grid.symmetric:
            inputs.append(self._add_bits("zero", blocks.zero.T.astype(np.uint8), kind, grid.bits))
        return self._additions.node("DequantizeLinear", inputs, axis=0, block_size=grid.block)

    def _put_rows(self, matrix: Matrix) -> None:
        """An int8 scale a row, folded back to float at load: a look-up of blocks needs a contrib operator."""
        rows = matrix.rows
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, 1e-30).astype(np.float32)
        stored = self._additions.add("rows", np.rint(rows / scale).astype(np.int8))
        values = self._additions.node("Cast", [stored], to=TensorProto.FLOAT)
        product = self._additions.node("Mul", [values, self._additions.add("scale", scale)])
        name = self._additions.node("Cast", [product], to=matrix.weight.tensor.data_type)
        rename_uses(matrix.weight.graph, {matrix.name: name})
        drop_initializers(matrix.weight.graph, {matrix.name})

    def _add_bits(self, wish: str, codes: Array, kind: int, bits: int) -> str:
        raw = pack_adjacent(np.ascontiguousarray(codes).reshape(1, -1), bits).tobytes()
        return self._additions.add_raw(wish, kind, codes.shape, raw)
