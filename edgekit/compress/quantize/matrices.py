"""Which matrices of a normalised model can be stored in blocks: those that a product or a row look-up reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto

from edgekit.compress.quantize.candidates import Use, Weight, find_weights, why_kept
from edgekit.graph.scopes import attribute, count_uses, fixed_initializers
from edgekit.specs import Array

Dims: TypeAlias = Mapping[str, list[int]]

_SMALLEST_BLOCK = 16
_READ = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Matrix:
    """A weight matrix, with the nodes that read it.

    Attributes:
        weight: Where its values are.
        transposed: Whether it is stored (columns, rows): a product's second operand as it is.
        products: MatMul and Gemm nodes that multiply by it.
        lookups: Gather nodes that take rows of it.
        turned: Names of its transposes, which the products read in its place.
        same_as: Name of another matrix with the same values, "" for none.
    """

    weight: Weight
    transposed: bool
    products: tuple[onnx.NodeProto, ...] = ()
    lookups: tuple[onnx.NodeProto, ...] = ()
    turned: tuple[str, ...] = ()
    same_as: str = ""

    @property
    def name(self) -> str:
        """The weight's name."""
        return self.weight.name

    @property
    def rows(self) -> Array:
        """float32 (rows, columns); a product's outputs are x @ rows.T."""
        return self.weight.values.T if self.transposed else self.weight.values

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        first, second = self.weight.tensor.dims
        return (second, first) if self.transposed else (first, second)


def block_for(columns: int, wished: int, *, whole: bool) -> int:
    """The largest block up to the one wished that wastes no padding; 0 where it must divide and none does."""
    for block in (b for b in (256, 128, 64, 32, 16) if b <= wished):
        if columns % block == 0:
            return block
    return 0 if whole or columns < _SMALLEST_BLOCK else min(wished, 32)


def find_matrices(
    model: onnx.ModelProto, *, min_elements: int, embeddings: bool, excluded: Iterable[str] = ()
) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices to store in blocks, and why every other float weight stays as it is, by name."""
    found, kept = [], {}
    excluded = set(excluded)
    constants = {name: list(tensor.dims) for name, tensor in fixed_initializers(model.graph).items()}
    for weight in find_weights(model):
        reason = why_kept(weight, min_elements, excluded) or _why_unfit(weight)
        matrix = None if reason else _as_matrix(weight, constants, model)
        if matrix is None:
            kept[weight.name] = reason or "read by something other than a product or a row look-up"
        elif matrix.lookups and not embeddings:
            kept[weight.name] = "an embedding, and embeddings are switched off"
        elif any(n.name in excluded for n in (*matrix.products, *matrix.lookups)):
            kept[weight.name] = "a node that reads it is excluded"
        else:
            found.append(matrix)
    return _mark_equal(found), kept


def _why_unfit(weight: Weight) -> str:
    if len(weight.tensor.dims) != 2:
        return "not a matrix"
    if weight.tensor.data_type not in _READ:
        return "neither float32 nor float16"
    return ""


def _as_matrix(weight: Weight, constants: Dims, model: onnx.ModelProto) -> Matrix | None:
    matrix: Matrix | None = None
    for use in weight.uses:
        part = _part(weight, use, constants, model)
        if part is None or (matrix is not None and matrix.transposed != part.transposed):
            return None
        matrix = part if matrix is None else _merge(matrix, part)
    return matrix


def _merge(a: Matrix, b: Matrix) -> Matrix:
    return replace(a, products=a.products + b.products, lookups=a.lookups + b.lookups, turned=a.turned + b.turned)


def _part(weight: Weight, use: Use, constants: Dims, model: onnx.ModelProto) -> Matrix | None:
    """What one reader makes of a weight; None where it cannot read blocks."""
    node = use.node
    if use.index == 1 and _is_product(node, weight, constants):
        transposed = node.op_type == "MatMul" or not attribute(node, "transB", 0)
        return Matrix(weight, transposed, products=(node,))
    if node.op_type == "Gather" and use.index == 0 and attribute(node, "axis", 0) == 0:
        return Matrix(weight, False, lookups=(node,))
    if node.op_type == "Transpose" and list(attribute(node, "perm", [1, 0])) == [1, 0]:
        products = _products_of(node.output[0], model)
        return Matrix(weight, False, products=products, turned=(node.output[0],)) if products else None
    return None


def _is_product(node: onnx.NodeProto, weight: Weight, constants: Dims) -> bool:
    if node.op_type == "MatMul":
        return True
    if node.op_type != "Gemm" or attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return False
    bias = node.input[2] if len(node.input) > 2 else ""
    if not bias:
        return True
    outputs = weight.tensor.dims[0 if attribute(node, "transB", 0) else 1]
    vectors: tuple[list[int], ...] = ([], [1], [1, 1], [outputs], [1, outputs])
    return constants.get(bias) in vectors and attribute(node, "beta", 1.0) == 1.0


def _products_of(name: str, model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """The MatMuls whose second operand is this value; () if anything else reads it."""
    graph = model.graph
    products = tuple(n for n in graph.node if n.op_type == "MatMul" and n.input[1] == name and n.input[0] != name)
    return products if count_uses(graph)[name] == len(products) else ()


def _mark_equal(matrices: list[Matrix]) -> list[Matrix]:
    """Let a product's matrix that repeats an embedding's be stored with it: exporters write tied weights twice."""
    tables = [m for m in matrices if m.lookups]
    return [m if m.lookups else replace(m, same_as=_twin(m, tables)) for m in matrices]


def _twin(matrix: Matrix, tables: list[Matrix]) -> str:
    for table in tables:
        same = table.shape == matrix.shape and table.weight.tensor.data_type == matrix.weight.tensor.data_type
        if same and np.array_equal(table.rows, matrix.rows):
            return table.name
    return ""
