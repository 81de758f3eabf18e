"""Long short-term memory."""

from edgekit.families.recurrent import recurrent_family

LSTM = recurrent_family(
    "lstm",
    summary="long short-term memory, one or both directions",
    paper="Hochreiter and Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers et al. 2000",
    refuses={},
)
