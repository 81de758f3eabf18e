"""Elman's recurrent network."""

from edgekit.families.recurrent import recurrent_family

RNN = recurrent_family(
    "rnn",
    summary="plain recurrent network, one or both directions",
    paper="Elman 1990, Cognitive Science 14(2); both directions: Schuster and Paliwal 1997, IEEE TSP 45(11)",
    refuses={
        "quantize: dynamic": "ONNX Runtime has no int8 kernel for RNN layers; use `quantize: weights`",
    },
)
