from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.prune.graph.allocate import (
    Choice,
    allocate,
    allowed_counts,
    share_of_channels,
    share_of_macs,
    uniform,
)
from edgekit.compress.prune.graph.cost import cost_of, count_on
from edgekit.compress.prune.graph.groups import find_channels
from edgekit.compress.prune.graph.remove import remove_channels
from edgekit.errors import CompressError
from edgekit.graph.normalise import normalise
from tests.compress.prune.graph.nets import images, redundant


def choice(name: str, *damage: float, channels: int = 32) -> Choice:
    counts = allowed_counts(channels, 1, 8)
    return Choice(name, counts, np.array(damage[: len(counts)]), 1, channels)


def test_what_stays_is_a_multiple() -> None:
    assert allowed_counts(32, 1, 8).tolist() == [0, 8, 16, 24]
    assert allowed_counts(20, 1, 8).tolist() == [0, 4, 12]
    assert allowed_counts(6, 1, 8).tolist() == [0]
    assert allowed_counts(3, 32, 1).tolist() == [0, 1, 2]


def test_the_least_damage_for_what_is_saved() -> None:
    cheap, dear = choice("cheap", 0, 0.1, 0.2, 0.9), choice("dear", 0, 0.5, 0.6, 0.65)
    saved = share_of_channels([cheap, dear])
    assert allocate([cheap, dear], saved, 0.25).tolist() == [16, 0]
    assert allocate([cheap, dear], saved, 0.5).tolist() == [8, 24], "a long step may be the cheaper one"
    with pytest.raises(CompressError, match="at most 75% of the channels, and 80% were asked for"):
        allocate([cheap, dear], saved, 0.8)


def test_the_same_share_of_each_layer() -> None:
    choices = [choice("a", 0, 0, 0, 0), choice("b", 0, 0, 0, channels=20)]
    assert uniform(choices, 0.5).tolist() == [16, 12]
    with pytest.raises(
        CompressError, match=r"ratio 0.99 would leave nothing of layer 'a', which has 32 channels; at most 0.97"
    ):
        uniform(choices, 0.99)


def test_cost_is_what_the_smaller_model_costs() -> None:
    model = normalise(redundant())
    channels = find_channels(model)
    feeds = images(1).arrays
    cost = cost_of(channels, channels.groups, feeds)
    assert cost.total(np.zeros(2)) == sum(count_on(model, feeds).values())
    for gone in ((4, 8), (12, 30), (0, 1)):
        units = np.concatenate([g.units[:n] for g, n in zip(channels.groups, gone, strict=True)])
        smaller = remove_channels(channels, units)
        assert cost.total(np.array(gone)) == sum(count_on(smaller, feeds).values())
    assert share_of_macs(cost)(np.array([8, 16])) == pytest.approx(0.74, abs=0.03)
