"""From a model and a wish to a smaller model: find channels, prove them, order them, choose how many, remove, refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx

from edgekit.compress.prune.graph.allocate import (
    Choice,
    allocate,
    allowed_counts,
    share_of_channels,
    share_of_macs,
    uniform,
)
from edgekit.compress.prune.graph.cost import Cost, cost_of, count_on
from edgekit.compress.prune.graph.ends import End, end_of
from edgekit.compress.prune.graph.groups import Channels, Group, Kept, find_channels
from edgekit.compress.prune.graph.order import (
    Order,
    guarded,
    order_by_energy,
    order_by_reconstruction,
    order_by_scale,
    order_by_weights,
)
from edgekit.compress.prune.graph.refit import Refit, refit
from edgekit.compress.prune.graph.remove import prove_removal, remove_channels
from edgekit.compress.prune.graph.runs import sample_feeds
from edgekit.compress.prune.graph.sensitivity import (
    Yardstick,
    affordable_samples,
    levels,
    measured_damage,
    shrunk,
)
from edgekit.compress.prune.graph.statistics import Moments, observe_ends
from edgekit.data.split import Split
from edgekit.errors import CompressError
from edgekit.graph.read import every_weight
from edgekit.progress import note, track
from edgekit.specs import Array, Feeds

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class Wish:
    """What is asked for, nothing left open; the fields are those of the config of the technique."""

    ratio: float | None
    macs: float | None
    importance: str
    allocation: str
    round_to: int
    reconstruct: bool
    samples: int


@dataclass(frozen=True)
class Plan:
    """Everything that is known before a number of channels is chosen.

    Attributes:
        channels: Of the model.
        groups: That may shrink and have been proven.
        kept: Layers that stay, and why.
        orders: In which order channels go, one a group.
        choices: How many may go and what is lost, one a group.
        cost: What the model costs.
        feeds: Inputs for one run.
    """

    channels: Channels
    groups: tuple[Group, ...]
    kept: tuple[Kept, ...]
    orders: tuple[Order, ...]
    choices: tuple[Choice, ...]
    cost: Cost
    feeds: Feeds

    def units(self, counts: Array) -> Array:
        """The channels that go when so many of each group do."""
        parts = [o.units[: int(n)] for o, n in zip(self.orders, counts, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def without(self, counts: Array) -> onnx.ModelProto:
        """The model with so many channels of each group gone, and nothing made good."""
        return remove_channels(self.channels, self.units(counts))


@dataclass(frozen=True)
class GroupResult:
    """What became of a group: its first layer, all its layers, and its channels before and after."""

    layer: str
    layers: tuple[str, ...]
    before: int
    after: int
    damage: float


@dataclass(frozen=True)
class Pruned:
    """A smaller model.

    Attributes:
        model: The file to be.
        groups: Those that shrank.
        kept: Layers that stay, and why.
        refits: Layers that were fitted.
        macs: Of one run before and after.
        parameters: Before and after.
        wish: What was asked for.
    """

    model: onnx.ModelProto
    groups: tuple[GroupResult, ...]
    kept: tuple[Kept, ...]
    refits: tuple[Refit, ...]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    wish: Wish

    @property
    def said(self) -> str:
        """In a few words."""
        gone = sum(g.before - g.after for g in self.groups)
        fitted = f"; {len(self.refits)} layers fitted on calibration data" if self.refits else ""
        groups = f"{len(self.groups)} group{'s' if len(self.groups) > 1 else ''}"
        channels = f"{gone} channels of {groups} are" if gone > 1 else f"1 channel of {groups} is"
        return f"{channels} gone, chosen by {self.wish.importance}{fitted}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "macs": dict(zip(("before", "after"), self.macs, strict=True)),
            "parameters": dict(zip(("before", "after"), self.parameters, strict=True)),
            "groups": [asdict(g) for g in self.groups],
            "kept": [asdict(k) for k in self.kept],
            "refits": [asdict(r) for r in self.refits],
            "asked": asdict(self.wish),
        }


def prepare_plan(model: onnx.ModelProto, wish: Wish, split: Split | None) -> Plan:
    """Find the channels of a model, prove that they may go, and learn what each costs and is worth.

    Raises:
        CompressError: if none may go.
        DataError: if the data does not fit the model.
    """
    channels, feeds = find_channels(model), sample_feeds(model, split)
    groups, kept = _proven(channels, feeds)
    counts = [allowed_counts(len(g), g.width, g.step(wish.round_to)) for g in groups]
    small = [
        Kept(g.name, len(g) * g.width, _too_small(g, wish)) for g, c in zip(groups, counts, strict=True) if len(c) < 2
    ]
    groups, kept = tuple(g for g, c in zip(groups, counts, strict=True) if len(c) > 1), (*kept, *small)
    if not groups:
        raise CompressError(f"no channels can be removed: {_why_nothing(kept)}")
    ends = [[end_of(model, channels.tracing.constants, c) for c in g.ends] for g in groups]
    moments = _observed(model, ends, wish, split)
    first = (_order(channels, *each, wish) for each in zip(groups, ends, moments, strict=True))
    orders = tuple(guarded(channels, group, order) for group, order in zip(groups, first, strict=True))
    cost = cost_of(channels, groups, feeds)
    plan = Plan(channels, groups, kept, orders, (), cost, feeds)
    damages = _damages(plan, ends, moments, wish, split)
    choices = tuple(
        Choice(g.name, c, d, g.width, len(g)) for g, c, d in zip(groups, _counts(plan, wish), damages, strict=True)
    )
    return replace(plan, choices=choices)


def choose_counts(plan: Plan, wish: Wish) -> Array:
    """How many channels of each group go.

    Raises:
        CompressError: if the wish cannot be met, or would leave nothing of a layer.
    """
    if wish.ratio is not None and wish.allocation == "layer":
        return uniform(plan.choices, wish.ratio)
    if wish.ratio is not None:
        return allocate(plan.choices, share_of_channels(plan.choices), wish.ratio)
    return allocate(plan.choices, share_of_macs(plan.cost), 1 - 1 / (wish.macs or 1.0), "multiply-accumulates")


def apply_plan(plan: Plan, counts: Array, wish: Wish, split: Split | None) -> Pruned:
    """Remove so many channels of each group and make good for them.

    Raises:
        CompressError: if no channel goes.
    """
    if not counts.any():
        raise CompressError("so little pruning removes nothing: no layer loses a whole step of channels; ask for more")
    units, before = plan.units(counts), plan.channels.model
    model = remove_channels(plan.channels, units)
    macs = tuple(sum(count_on(m, plan.feeds).values()) for m in (before, model))
    fits = wish.reconstruct and split is not None
    refits = refit(plan.channels, units, model, split, wish.samples, macs[0]) if fits and split is not None else []
    results = tuple(
        _group_result(*each) for each in zip(plan.groups, plan.choices, counts.tolist(), strict=True) if each[2]
    )
    return Pruned(
        model, results, plan.kept, tuple(refits), (macs[0], macs[1]), (_parameters(before), _parameters(model)), wish
    )


def _counts(plan: Plan, wish: Wish) -> list[Array]:
    """How many channels of each group may go."""
    found = [allowed_counts(len(g), g.width, g.step(wish.round_to)) for g in plan.groups]
    return [c[c <= len(o.units)] for c, o in zip(found, plan.orders, strict=True)]


def _proven(channels: Channels, feeds: Feeds) -> tuple[tuple[Group, ...], tuple[Kept, ...]]:
    """The groups whose removal does exactly what silencing them does; each alone where all together do not."""
    groups = [g for g in channels.groups if len(g) > 1]
    lonely = [Kept(g.name, g.width, "it is the only one") for g in channels.groups if len(g) < 2]
    if not groups or not prove_removal(channels, np.concatenate([_every_other(channels, g) for g in groups]), feeds):
        return tuple(groups), (*channels.kept, *lonely)
    good, kept = list[Group](), [*channels.kept, *lonely]
    for group in groups:
        if reason := prove_removal(channels, _every_other(channels, group), feeds):
            kept.append(Kept(group.name, len(group) * group.width, reason))
        else:
            good.append(group)
    return tuple(good), tuple(kept)


def _every_other(channels: Channels, group: Group) -> Array:
    return guarded(channels, group, Order(group.units, np.zeros(len(group) + 1))).units[::2]


def _observed(
    model: onnx.ModelProto, ends: Sequence[Sequence[End]], wish: Wish, split: Split | None
) -> list[list[Moments | None]]:
    """Moments of what every end multiplies; None where they are not needed or cannot be had."""
    if split is None or (wish.importance not in ("reconstruction", "energy") and wish.allocation != "sensitivity"):
        return [[None] * len(part) for part in ends]
    found = iter(observe_ends(model, [e for part in ends for e in part], split, wish.samples))
    return [[next(found) for _ in part] for part in ends]


def _order(channels: Channels, group: Group, ends: list[End], moments: list[Moments | None], wish: Wish) -> Order:
    seen = [(e, m) for e, m in zip(ends, moments, strict=True) if m is not None]
    if wish.importance == "bn-scale":
        found = order_by_scale(channels, group)
        if found is None:
            raise CompressError(
                f"importance 'bn-scale' needs a BatchNormalization at every layer, and {group.name!r} has none "
                "(exporters fold it into the layer before); use l2, or give --data and use reconstruction"
            )
        return found
    if wish.importance in ("l1", "l2") or not seen:
        return order_by_weights(channels, group, 1 if wish.importance == "l1" else 2)
    rank = order_by_energy if wish.importance == "energy" else order_by_reconstruction
    return rank(channels, group, [e for e, _ in seen], [m for _, m in seen])


def _damages(
    plan: Plan, ends: list[list[End]], moments: list[list[Moments | None]], wish: Wish, split: Split | None
) -> list[Array]:
    """What is lost at every allowed count, one array a group."""
    counts = _counts(plan, wish)
    if wish.allocation != "sensitivity" or split is None:
        # sizes of weights say how channels of a group compare, not groups: on average each position counts alike
        scale = [len(g) * g.width if wish.importance in ("l1", "l2", "bn-scale") else 1 for g in plan.groups]
        return [o.damage[c] * s for o, c, s in zip(plan.orders, counts, scale, strict=True)]
    at = [levels(c, len(g)) for c, g in zip(counts, plan.groups, strict=True)]
    samples = affordable_samples(plan.cost.total(np.zeros(len(plan.groups))), sum(map(len, at)))
    note(f"measuring what the outputs lose with {len(plan.groups)} groups of channels")
    yardstick, damages = Yardstick(plan.channels.model, split, samples), []
    for i, group in enumerate(track(plan.groups, "measure groups", total=len(plan.groups))):
        seen = []
        for count in at[i]:
            model = shrunk(plan.channels, group, plan.orders[i].units[:count], ends[i], moments[i])
            seen.append(yardstick.distance(model))
        damages.append(measured_damage(plan.orders[i], counts[i], at[i], seen))
    return damages


def _group_result(group: Group, choice: Choice, gone: float) -> GroupResult:
    damage = float(choice.damage[int(np.searchsorted(choice.counts, gone))])
    after = (len(group) - int(gone)) * group.width
    return GroupResult(group.name, group.layers, len(group) * group.width, after, damage)


def _too_small(group: Group, wish: Wish) -> str:
    step = group.step(wish.round_to) * group.width
    return (
        f"what stays is a multiple of {step} channels, and it has {len(group) * group.width}; a smaller round_to helps"
    )


def _why_nothing(kept: Sequence[Kept]) -> str:
    if not kept:
        return "no convolution and no product with a constant weight makes any that another reads"
    listed = "; ".join(f"{k.layer!r}: {k.reason}" for k in kept[:3])
    return f"{listed}{f'; and {len(kept) - 3} more' if len(kept) > 3 else ''}"


def _parameters(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(t.dims)) for t in every_weight(model) if t.data_type in _FLOATS)
