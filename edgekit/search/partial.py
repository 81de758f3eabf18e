"""The fewest nodes in float that keep the accuracy: a ranking by measured noise, then bisection over it.

Source: Wu et al. 2020, arXiv:2004.09602, section 5.3; bisection in place of one node at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from edgekit.compress.quantize.noise import sensitivity
from edgekit.compress.quantize.static import StaticConfig, plan_static
from edgekit.graph.read import read_model
from edgekit.progress import note
from edgekit.search.attempt import Attempt, Bench, objection_to_quality
from edgekit.search.proof import Quality
from edgekit.search.request import QuantizeRequest

MAX_EVALUATIONS = 14
_MORE = 4  # counts beyond those that the search has seen

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


def growing(good: Collection[int], total: int) -> Iterator[int]:
    """Counts to try with all steps of a chain: those found good for its first, then a few twice as large each.

    >>> list(growing([2, 3], 20))
    [2, 3, 6, 12, 20]
    """
    yield from sorted(good)
    last = max(good)
    for _ in range(_MORE):
        if last == total:
            return
        last = min(2 * last, total)
        yield last


def _doubling(total: int) -> Sequence[int]:
    counts = [c for c in (1 << i for i in range(total.bit_length())) if c < total]
    return [*counts, total]


def keep_in_float(bench: Bench, failed: Attempt) -> Attempt | None:
    """The same candidate with the fewest nodes in float that keep the metric; None where no number of them does.

    The search looks at the first step alone. Where the steps behind it then cost what little was left, more nodes make
    up for that, as far as a few more attempts go.
    """
    candidate, config = failed.candidate, failed.candidate.steps[0]
    if not isinstance(config, StaticConfig):
        return None
    note(f"{candidate.name} {failed.outcome}; looking for the nodes that cost it")
    stored = bench.store.run(
        "ranking", [bench.key, config.model_dump()], [], lambda: asdict(rank_nodes(config, bench.request))
    )
    ranking = Ranking(tuple((name, noise) for name, noise in stored.result["nodes"]))
    seen: dict[int, Quality] = {}

    def meets(count: int) -> bool:
        seen[count] = bench.quality_of(candidate, ranking.first(count), f".float{count}")
        return not objection_to_quality(seen[count], bench.request)

    count = fewest(len(ranking.nodes), meets)
    if count is None:
        return None
    good = [c for c, q in seen.items() if c >= count and not objection_to_quality(q, bench.request)]
    found = failed
    for count in growing(good, len(ranking.nodes)):
        found = bench.attempt(candidate, ranking.first(count), f".float{count}")
        if not found.lost_accuracy:
            break
    return _with_trace(found, failed, ranking, count, seen)


def _with_trace(found: Attempt, failed: Attempt, ranking: Ranking, count: int, seen: dict[int, Quality]) -> Attempt:
    """Say what the nodes that stay in float cost in accuracy, and what they cost in time."""
    if found.proof is None or failed.proof is None:
        return found
    points = failed.proof.quality.drop - found.proof.quality.drop
    said = f"{count} nodes cost {points:.4g} of {found.proof.quality.name}"
    before_ms, after_ms = failed.proof.latency.after, found.proof.latency.after
    if before_ms is not None and after_ms is not None:
        said += f"; in float they cost {after_ms - before_ms:+.3f} ms"
    noise = dict(ranking.nodes[:count])
    excluded = tuple(
        replace(n, reason=f"in int8 it puts noise of {noise[n.name]:.2g} of the signal's power into the outputs")
        if n.name in noise
        else n
        for n in found.excluded
    )
    trace = {str(c): {"drop": q.drop, "after": q.after} for c, q in sorted(seen.items())}
    details = {**found.details, "kept_in_float": {"nodes": list(noise), "evaluations": trace, "summary": said}}
    return replace(found, reason=f"{found.reason}; {said}", excluded=excluded, details=details)
