"""Which channels of an ONNX graph hang together: labels on the axes of values, carried from node to node.

Every position along an axis that could be removed bears a label. Operators say which labels are one
(`Partition.unify`), which must stay, with the reason (`Partition.block`), and what has to be rewritten when labels go.
Labels that are one in the end are a channel: it goes as a whole or not at all.

Source: dependency graphs of Fang et al. 2023, arXiv:2301.12900 (DepGraph), on ONNX graphs and by position instead of by
layer, so that concatenation, splitting and flattening need no special case.
"""

from edgekit.compress.prune.graph.trace.partition import Partition, Solution
from edgekit.compress.prune.graph.trace.records import Contraction, CountFix, EntryFix, WeightUse
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.compress.prune.graph.trace.walk import trace_channels

__all__ = [
    "Contraction",
    "CountFix",
    "EntryFix",
    "Partition",
    "Solution",
    "Tracing",
    "WeightUse",
    "trace_channels",
]
