"""The fewest nodes in float that keep the accuracy: a ranking by measured noise, then bisection over it.

Source: Wu et al. 2020, arXiv:2004.09602, section 5.3; bisection in place of one node at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.compress.quantize.noise import sensitivity
from edgekit.compress.quantize.static import StaticConfig, plan_static
from edgekit.graph.read import read_model
from edgekit.search.request import QuantizeRequest

MAX_EVALUATIONS = 14

Meets = Callable[[int], bool]


@dataclass(frozen=True)
class Ranking:
    """Nodes that could stay in float, the one that does most harm in int8 first.

    Attributes:
        nodes: (name, noise power over signal power at the outputs when it alone runs in int8).
    """

    nodes: tuple[tuple[str, float], ...]

    def first(self, count: int) -> frozenset[str]:
        """The names of the first `count`."""
        return frozenset(name for name, _ in self.nodes[:count])


def rank_nodes(config: StaticConfig, request: QuantizeRequest) -> Ranking:
    """Rank the nodes of a model by the noise that each alone puts into the outputs."""
    if request.calibration is None:
        return Ranking(())
    plan = plan_static(config, read_model(request.model), request.calibration, request.target)
    if not plan.placement.nodes:
        return Ranking(())
    found = sensitivity(plan.model, plan.ranges, plan.data, scheme=plan.scheme, placement=plan.placement)
    return Ranking(tuple(found))


def fewest(total: int, meets: Meets, budget: int = MAX_EVALUATIONS) -> int | None:
    """The smallest count that meets the floor, as far as the evaluations go; None if not even all of them do.

    Counts double until one is good, then the gap to the last bad one is halved. Accuracy need not grow with the count,
    so what comes out is a count that was seen to be good, never one that was inferred.

    >>> fewest(100, lambda count: count >= 13)
    13
    """
    if total == 0:
        return None
    bad, used = 0, 0
    for count in _doubling(total):
        used += 1
        if meets(count):
            break
        bad = count
        if used >= budget or count == total:
            return None
    good = count
    while good - bad > 1 and used < budget:
        middle = (good + bad) // 2
        used += 1
        good, bad = (middle, bad) if meets(middle) else (good, middle)
    return good


def _doubling(total: int) -> Sequence[int]:
    counts = [c for c in (1 << i for i in range(total.bit_length())) if c < total]
    return [*counts, total]
