"""Gated recurrent unit."""

from edgekit.families.recurrent import recurrent_family

GRU = recurrent_family(
    "gru",
    summary="gated recurrent unit, one or both directions",
    paper="Cho et al. 2014, arXiv:1406.1078; the reset gate behind the product, as cuDNN has it",
    refuses={
        "quantize: dynamic": "ONNX Runtime has no int8 kernel for GRU layers; use `quantize: weights`",
    },
)
