"""Which channels go: the least important ones, of each layer or of all, until a goal is reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.compress.prune.slots import Group, Removal
from edgekit.errors import CompressError
from edgekit.specs import Array

Allocation = Literal["global", "layer"]
_LEAST_SHARE = 0.1  # of a layer's channels that a global choice leaves in it


@dataclass(frozen=True)
class Ranking:
    """The channels of a model in the order of their importance.

    Attributes:
        groups: What can go together.
        scores: Importance of each channel of each group.
        allocation: Whether each layer loses the same share, or channels compete with those of other layers.
        round_to: So many channels are left in a layer, or a multiple of it.
    """

    groups: Sequence[Group]
    scores: Sequence[Array]
    allocation: Allocation
    round_to: int

    def least(self, level: float) -> list[Removal]:
        """What goes at a level between 0 and 1: that share of each layer, or of all channels, before rounding."""
        if self.allocation == "layer":
            wanted = [group.count * (1 - level) for group in self.groups]
        else:
            wanted = self._left_globally(level)
        found = []
        for group, scores, left in zip(self.groups, self.scores, wanted, strict=True):
            gone = group.count - self._rounded(group, left)
            if gone > 0:
                found.append((group, np.sort(np.argsort(scores, kind="stable")[:gone])))
        return found

    def _left_globally(self, level: float) -> list[float]:
        everything = np.sort(np.concatenate(list(self.scores)))
        cut = round(level * len(everything))
        threshold = everything[cut] if cut < len(everything) else np.inf
        least = [math.ceil(_LEAST_SHARE * group.count) for group in self.groups]
        there = [int((scores >= threshold).sum()) for scores in self.scores]
        return [float(max(*pair)) for pair in zip(there, least, strict=True)]

    def _rounded(self, group: Group, left: float) -> int:
        """How many channels stay: rounded to the nearest multiple, but never to none."""
        multiple = math.lcm(self.round_to, group.round_to)
        return min(group.count, max(multiple, round(left / multiple) * multiple))

    def refuse_emptying(self, ratio: float) -> None:
        """Refuse a share that leaves less than one channel of a layer.

        Raises:
            CompressError: which names the layer.
        """
        for group in self.groups:
            if group.count * (1 - ratio) < 1:
                raise CompressError(
                    f"ratio {ratio:g} would empty layer {group.name!r}, which has {group.count} channels; at most "
                    f"{1 - 1 / group.count:.3g} leaves one"
                )


def reach(
    ranking: Ranking, goal: float, measure: Callable[[list[Removal]], float], what: str, tries: int
) -> list[Removal]:
    """The least removal that reaches a goal, found by bisection.

    Args:
        ranking: What goes first.
        goal: How many times less, such as 2.5 times fewer MACs.
        measure: A removal -> how many times less it comes to.
        what: For the message, such as "MACs".
        tries: How often to halve.

    Raises:
        CompressError: if all that can go is not enough.
    """
    low, high = 0.0, 1.0
    best = ranking.least(high)
    most = measure(best)
    if most < goal:
        fewer = "less" if what == "latency" else "fewer"
        raise CompressError(
            f"{goal:.3g} times {fewer} {what} cannot be reached: with as few channels as may be left it is {most:.3g} "
            f"times; ask for less, or set round_to below {ranking.round_to}"
        )
    for _ in range(tries):
        level = (low + high) / 2
        removals = ranking.least(level)
        if measure(removals) >= goal:
            best, high = removals, level
        else:
            low = level
    return best
