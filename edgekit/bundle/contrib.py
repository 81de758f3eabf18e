"""The oldest ONNX Runtime whose CPU runs a contrib operator, found by trying.

No document says it: ContribOperators.md calls all of them version 1 of their domain. So the wheels of 1.16.3, 1.17.3,
1.18.1, 1.19.2, 1.20.1, 1.21.1, 1.22.1 and 1.23.2 were asked for their CPU kernels, and small models of MatMulNBits and
GatherBlockQuantized in each width were run on all of them. What none of those ran counts as needing 1.31, the next that
is known to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Release = tuple[int, int]
DOMAIN = "com.microsoft"
_OLDEST, _NEWEST = (1, 16), (1, 31)
# Kernels of 1.16.3.
_OLD = """
    Attention AttnLSTM BeamSearch BiasGelu BifurcationDetector CDist ConvTransposeWithDynamicPads CropAndResize
    DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization ExpandDims FastGelu
    FusedConv FusedGemm FusedMatMul GatherND Gelu GreedySearch GridSample Inverse MatMulBnb4 MatMulFpQ4
    MatMulInteger16 MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MultiHeadAttention MurmurHash3
    NGramRepeatBlock NhwcMaxPool Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool
    QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax
    QLinearWhere QuantizeLinear QuickGelu Range RotaryEmbedding SampleOp Sampling SkipLayerNormalization
    SkipSimplifiedLayerNormalization SparseToDenseMatMul Tokenizer TransposeMatMul Trilu Unique
    WordConvEmbedding
"""
_SINCE: dict[str, Release] = {
    "WhisperBeamSearch": (1, 17),
    "GroupQueryAttention": (1, 18),
    "SparseAttention": (1, 19),
    **dict.fromkeys(("DecoderMaskedMultiHeadAttention", "DynamicTimeWarping", "UnfoldTensor"), (1, 20)),
    **dict.fromkeys(("MoE", "QMoE"), (1, 23)),
}
_BITS = {4: (1, 17), 8: (1, 23)}  # 1.16 knows no accuracy_level, and 1.22 takes 8 bits with some of its levels only


def oldest_for_contrib(nodes: Iterable[Any]) -> Release | None:
    """The oldest release that runs all contrib operators among ONNX nodes; None where there are none."""
    return max((_oldest(node) for node in nodes if node.domain == DOMAIN), default=None)


def _oldest(node: Any) -> Release:
    numbers = {a.name: a.i for a in node.attribute}
    if node.op_type == "MatMulNBits":
        return _BITS.get(numbers.get("bits", 4), _NEWEST)
    if node.op_type == "GatherBlockQuantized":
        return (1, 23) if "bits" in numbers else (1, 20)  # it was for ONNX's own 4-bit types at first
    return _OLDEST if node.op_type in _OLD.split() else _SINCE.get(node.op_type, _NEWEST)
