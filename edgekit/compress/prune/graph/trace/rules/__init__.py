"""What each operator does to channels. A rule reads labels of a node's inputs and gives those of its outputs.

What an operator's rule does not expect it leaves to `Tracing.opaque`: everything the node reads then stays.
"""

from __future__ import annotations

from collections.abc import Callable

from edgekit.compress.prune.graph.trace.rules import elementwise, moves, norms, products, recurrent, reshape, spatial
from edgekit.compress.prune.graph.trace.tracing import Tracing

Rule = Callable[[Tracing, int], None]

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **products.RULES,
    **norms.RULES,
    **moves.RULES,
    **reshape.RULES,
    **spatial.RULES,
    **recurrent.RULES,
}

__all__ = ["RULES", "Rule"]
