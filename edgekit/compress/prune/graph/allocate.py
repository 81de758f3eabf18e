"""How many channels of each group go, so that a goal is met at the least damage.

Greedy by damage for what is saved, over steps of any length: a step that alone looks dear may lead to a cheap one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.compress.prune.graph.cost import Cost
from edgekit.errors import CompressError
from edgekit.specs import Array

_TINY = 1e-12
_MOST_COUNTS = 32  # of a group that are tried


@dataclass(frozen=True)
class Choice:
    """What may go of one group.

    Attributes:
        name: Of the group.
        counts: How many channels may go, from 0 on, int64 (k,).
        damage: What each loses, float64 (k,), not falling.
        width: Positions of a channel.
        channels: Of the group.
    """

    name: str
    counts: Array
    damage: Array
    width: int
    channels: int


def allowed_counts(channels: int, width: int, step: int) -> Array:
    """How many channels of a group may go: what stays is a multiple of the step, and never nothing.

    >>> allowed_counts(20, 1, 8).tolist()
    [0, 4, 12]
    """
    stays = np.arange(channels // step * step, 0, -step)
    counts = np.unique(np.concatenate([[0], channels - stays])).astype(np.int64)
    return counts[np.unique(np.linspace(0, len(counts) - 1, min(len(counts), _MOST_COUNTS)).astype(np.int64))]


def share_of_channels(choices: Sequence[Choice]) -> Callable[[Array], float]:
    """What share of all channels is gone, as a function of how many of each group are."""
    widths = np.array([c.width for c in choices], np.float64)
    total = float(sum(c.width * c.channels for c in choices))
    return lambda gone: float(widths @ gone) / total


def share_of_macs(cost: Cost) -> Callable[[Array], float]:
    """What share of the multiply-accumulates is gone, as a function of how many of each group are."""
    whole = cost.total(np.zeros(cost.taken.shape[1]))
    return lambda gone: 1 - cost.total(gone) / whole


def allocate(choices: Sequence[Choice], saved: Callable[[Array], float], goal: float, of: str = "channels") -> Array:
    """How many channels of each group go, float64 (groups,): at least `goal` is saved.

    Args:
        choices: One a group.
        saved: What is saved, between 0 and 1.
        goal: How much must be.
        of: What it is a share of, for the message.

    Raises:
        CompressError: if not even the most that may go saves so much.
    """
    most = np.array([c.counts[-1] for c in choices], np.float64)
    if saved(most) < goal:
        raise CompressError(
            f"pruning can take away at most {saved(most):.0%} of the {of}, and {goal:.0%} were asked for: each of "
            f"{len(choices)} groups of layers keeps a few, and others may not shrink; ask for less, or for a smaller "
            "round_to"
        )
    at = np.zeros(len(choices), np.int64)
    gone = np.zeros(len(choices))
    while saved(gone) < goal:
        group, level = _best_step(choices, saved, at, gone)
        at[group] = level
        gone[group] = choices[group].counts[level]
    return _given_back(choices, saved, goal, gone)


def _best_step(choices: Sequence[Choice], saved: Callable[[Array], float], at: Array, gone: Array) -> tuple[int, int]:
    """Which group goes on, and how far."""
    now, best, found = saved(gone), np.inf, (-1, -1)
    for group, choice in enumerate(choices):
        for level in range(int(at[group]) + 1, len(choice.counts)):
            there = gone.copy()
            there[group] = choice.counts[level]
            price = (choice.damage[level] - choice.damage[at[group]] + _TINY) / max(saved(there) - now, _TINY)
            if price < best:
                best, found = price, (group, level)
    return found


def _given_back(choices: Sequence[Choice], saved: Callable[[Array], float], goal: float, gone: Array) -> Array:
    """The last step may have gone too far: take back what the goal does not need, while damage falls."""
    while True:
        best, result = 0.0, gone
        for group, choice in enumerate(choices):
            level = int(np.searchsorted(choice.counts, gone[group]))
            for lower in range(level):
                less = gone.copy()
                less[group] = choice.counts[lower]
                relief = float(choice.damage[level] - choice.damage[lower])
                if relief > best and saved(less) >= goal:
                    best, result = relief, less
        if result is gone:
            return gone
        gone = result


def uniform(choices: Sequence[Choice], ratio: float) -> Array:
    """The same share of every group, as near as what may go allows; float64 (groups,).

    Raises:
        CompressError: if the share would leave nothing of a group; the message names it.
    """
    found = []
    for choice in choices:
        if round(ratio * choice.channels) >= choice.channels:
            raise CompressError(
                f"ratio {ratio} would leave nothing of layer {choice.name!r}, which has {choice.channels} channels; "
                f"at most {1 - 1 / choice.channels:.2f} is possible there"
            )
        found.append(choice.counts[np.argmin(np.abs(choice.counts - ratio * choice.channels))])
    return np.array(found, np.float64)
