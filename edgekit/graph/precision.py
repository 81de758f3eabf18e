"""In which precision a model holds its weights and computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx

from edgekit.graph.advice import tensor_bytes
from edgekit.graph.read import every_node, every_weight
from edgekit.graph.scopes import attribute
from edgekit.graph.stored import NO_PARAMETERS, WeightGroup, dtype_name, spec_of

_QUANTISED = frozenset(("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2"))
_DYNAMIC = frozenset(("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat"))
_BLOCKWISE = frozenset(("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"))


@dataclass(frozen=True)
class Precision:
    """In which precision a model computes.

    Attributes:
        weights: The element type that holds most of the parameters' bytes.
        activations: Their precision, such as "float32" or "int8".
        forms: How it is quantised: "Q/DQ", "QOperator", "dynamic", "block-wise weights", "weights"; empty for none.
    """

    weights: str
    activations: str
    forms: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether any part of it is quantised."""
        return bool(self.forms)


def find_precision(model: onnx.ModelProto, groups: tuple[WeightGroup, ...]) -> Precision:
    """The precision of weights and activations, from operators and stored types."""
    ops = {n.op_type for n in every_node(model)}
    heaviest = next((g.dtype for g in groups if g.dtype not in NO_PARAMETERS), "none")
    if heaviest == "uint8" and ops & _BLOCKWISE:
        heaviest = f"{_block_bits(model)}-bit blocks"
    forms = tuple(name for name, there in _forms(model, ops, groups).items() if there)
    integers = {"Q/DQ", "QOperator", "dynamic"} & set(forms)
    return Precision(heaviest, "int8" if integers else _float_type(model), forms)


def _forms(model: onnx.ModelProto, ops: set[str], groups: tuple[WeightGroup, ...]) -> dict[str, bool]:
    blocks, dynamic = bool(ops & _BLOCKWISE), bool(ops & _DYNAMIC)
    operators = any(op.startswith("QLinear") or op.startswith("QGemm") for op in ops)
    integer = bool(ops & {"MatMulInteger", "ConvInteger"})
    pairs = {"QuantizeLinear", "DequantizeLinear"} <= ops
    held = any(g.dtype in _QUANTISED and g.elements > 256 for g in groups)
    return {
        "Q/DQ": pairs and not operators,
        "QOperator": operators or (integer and not dynamic),
        "dynamic": dynamic,
        "block-wise weights": blocks,
        "weights": held and not (pairs or operators or integer or dynamic or blocks),
    }


def _block_bits(model: onnx.ModelProto) -> int:
    found = (int(attribute(n, "bits", 4)) for n in every_node(model) if n.op_type in _BLOCKWISE)
    return next(found, 4)


def _float_type(model: onnx.ModelProto) -> str:
    """The float type of most weights that are not only stored so and cast, else that of the inputs and outputs."""
    cast = {node.input[0] for node in every_node(model) if node.op_type == "Cast"}
    sizes: Counter[str] = Counter()
    for tensor in every_weight(model):
        if tensor.name not in cast and "float" in dtype_name(tensor.data_type):
            sizes[dtype_name(tensor.data_type)] += tensor_bytes(tensor)
    declared = [s.dtype for s in (*map(spec_of, model.graph.input), *map(spec_of, model.graph.output))]
    heaviest = [dtype for dtype, _ in sizes.most_common(1)]
    return next(iter([*heaviest, *(d for d in declared if "float" in d), *declared]), "none")
