"""How many sums of two products leave int16 on x86 CPUs without VNNI, and which nodes need 7-bit weights for that.

Their vpmaddubsw multiplies u8 by s8, adds neighbours in int16 and saturates: 255 * 127 + 255 * 127 is twice what int16
holds. Weights of 7 bits cannot reach that. Depthwise convolutions widen to 16 bits before they multiply, and are safe.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import onnx

from edgekit.compress.quantize.calibration import open_with_outputs
from edgekit.compress.quantize.placement import WEIGHTED, Wiring
from edgekit.compress.quantize.plan import Plan
from edgekit.compress.quantize.qdq import activation_scale, quantize_weight, weight_axis
from edgekit.compress.technique import OnnxStep
from edgekit.graph.scopes import attribute
from edgekit.machine import has_vnni
from edgekit.progress import warn
from edgekit.runtime.choose import cpu_flags
from edgekit.specs import Array

_HIGHEST, _LOWEST = 32767, -32768
_SAMPLES = 16
_ROWS_A_SAMPLE = 32
_CHUNK = 1 << 22


def saturation(plan: Plan) -> dict[str, float]:
    """The share of pair sums that would saturate in each int8 node with weights; estimated, from a few samples.

    Args:
        plan: What would be written; its scheme says how many bits the weights of a node get.

    Returns:
        Node name -> share, 0 to 1.
    """
    wiring = Wiring(plan.model)
    nodes = [n for n in wiring.nodes if n.op_type in WEIGHTED and n.output[0] in plan.placement.nodes]
    weights = {n.output[0]: _weight_pairs(plan, wiring, n) for n in nodes}
    risky = [n for n in nodes if weights[n.output[0]].risky.any()]
    counts = dict.fromkeys(weights, 0)
    sums = dict.fromkeys(weights, 0)
    for node, rows in _rows(plan, risky):
        found = weights[node.output[0]]
        counts[node.output[0]] += found.overflows(rows)
        sums[node.output[0]] += rows.shape[1] * found.risky.size
    return {n.name or n.output[0]: counts[n.output[0]] / max(sums[n.output[0]], 1) for n in nodes}


def reduce_where_needed(plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Give 7-bit weights to the nodes whose sums were seen to saturate with 8, and 8 to all others.

    Returns:
        (plan, facts): facts hold the shares before and after.
    """
    before = saturation(_with_bits(plan, 8))
    outputs = {n.name or n.output[0]: n.output[0] for n in plan.model.graph.node if n.output}
    reduced = frozenset(outputs[name] for name, share in before.items() if share > 0)
    after = _with_bits(plan, 7, reduced)
    return after, {"before": before, "after": saturation(after), "nodes_7_bit": len(reduced)}


def _with_bits(plan: Plan, bits: int, reduced: frozenset[str] | None = None) -> Plan:
    return replace(plan, scheme=replace(plan.scheme, weight_bits=bits, reduced=reduced))


def settle_sums(plan: Plan, reduce_range: bool | Literal["auto"], step: OnnxStep) -> tuple[Plan, dict[str, Any]]:
    """Look at the sums where the CPU may saturate: the target says so, or it is this machine and has no VNNI.

    Returns:
        (plan, details): the plan with 7-bit weights where they are needed and wanted; details for a report.
    """
    if step.target == "cpu-no-vnni" and reduce_range == "auto":
        plan, facts = reduce_where_needed(plan)
        return plan, {"saturation": facts}
    here = step.target == "cpu" and "avx2" in cpu_flags() and not has_vnni()
    if step.target != "cpu-no-vnni" and not here:
        return plan, {}
    before, after = saturation(_with_bits(plan, 8)), saturation(plan)
    if here and any(after.values()) and not step.excluded:  # a search over nodes to exclude has said it before
        warn(
            f"this CPU has no VNNI: in {sum(s > 0 for s in after.values())} nodes up to "
            f"{100 * max(after.values()):.2g} % of the int8 sums saturate; take --target cpu-no-vnni"
        )
    return plan, {"saturation": {"before": before, "after": after}}


def saturation_told(details: dict[str, Any]) -> str:
    """What `settle_sums` did, for people; "" where it did nothing."""
    facts = details.get("saturation")
    if facts is None or not any(facts["before"].values()):
        return ""
    share = f"{100 * max(facts['before'].values()):.2g} %"
    if any(facts["after"].values()):
        return f"without VNNI up to {share} of a node's int8 sums saturate"
    return f"7-bit weights where without VNNI up to {share} of a node's int8 sums would saturate"


@dataclass(frozen=True)
class _WeightPairs:
    """Weights as vpmaddubsw meets them.

    Attributes:
        pairs: int32 (groups, outputs, pairs, 2).
        risky: bool (groups, outputs, pairs): whether some activations could make the sum saturate.
    """

    pairs: Array
    risky: Array

    @classmethod
    def of(cls, q: Array) -> _WeightPairs:
        """Pair the values of int8 (groups, outputs, depth)."""
        pairs = _paired(q.astype(np.int32))
        top = 255 * np.maximum(pairs, 0).sum(axis=-1)
        bottom = 255 * np.minimum(pairs, 0).sum(axis=-1)
        return cls(pairs, (top > _HIGHEST) | (bottom < _LOWEST))

    def overflows(self, rows: Array) -> int:
        """How many sums saturate for activations uint8 (groups, rows, depth)."""
        paired = _paired(rows.astype(np.int32))
        total = 0
        group, output, pair = np.nonzero(self.risky)
        step = max(1, _CHUNK // max(rows.shape[1], 1))
        for start in range(0, len(group), step):
            g, o, p = (index[start : start + step] for index in (group, output, pair))
            sums = (paired[g, :, p] * self.pairs[g, o, p][:, None, :]).sum(axis=-1)
            total += int(((sums > _HIGHEST) | (sums < _LOWEST)).sum())
        return total


def _paired(values: Array) -> Array:
    """(..., depth) as (..., ceil(depth / 2), 2); an odd one is paired with zero."""
    odd = [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)]
    return np.pad(values, odd).reshape(*values.shape[:-1], -1, 2)


def _weight_pairs(plan: Plan, wiring: Wiring, node: onnx.NodeProto) -> _WeightPairs:
    axis = weight_axis(node)
    q, _ = quantize_weight(
        wiring.value(node.input[1]),
        axis if plan.scheme.per_channel else None,
        plan.scheme.weight_peak_of(node.output[0]),
    )
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    if node.op_type == "Conv" and q.shape[1] == 1 and groups > 1:
        q = np.zeros((1, 1, 0), np.int8)
        return _WeightPairs.of(q)
    by_output = _channels_last(q, plan.scheme.pad_stem and groups == 1) if q.ndim > 2 else np.moveaxis(q, axis, 0)
    return _WeightPairs.of(by_output.reshape(groups, by_output.shape[0] // groups, -1))


def _channels_last(values: Array, pad_stem: bool) -> Array:
    """(n, channels, ...) as (n, ..., channels): the order in which the kernels go through them."""
    missing = max(0, 4 - values.shape[1]) if pad_stem else 0
    padded = np.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2))
    return np.moveaxis(padded, 1, -1)


def _rows(plan: Plan, nodes: list[onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, Array]]:
    """Activations uint8 (groups, rows, depth) of each node, from a few samples and places of each."""
    if not nodes:
        return
    wiring = Wiring(plan.model)
    places = {n.output[0]: np.random.default_rng(0) for n in nodes}  # the same whatever other nodes are looked at
    tensors = list(dict.fromkeys(n.input[0] for n in nodes))
    computed = [t for t in tensors if t in wiring.producer]
    session = open_with_outputs(plan.model, computed)
    for batch in plan.data.take(_SAMPLES).batches(session.inputs, 1):
        arrays = dict(zip(computed, session.run(batch.feeds, computed), strict=True)) if computed else {}
        for node in nodes:
            values = _as_unsigned(plan, node.input[0], {**batch.feeds, **arrays}[node.input[0]])
            rng = places[node.output[0]]
            yield node, _patches(plan, wiring, node, values, rng) if node.op_type == "Conv" else _lines(values, rng)


def _as_unsigned(plan: Plan, tensor: str, values: Array) -> tuple[Array, int]:
    """Quantised activations, and their zero; signed ones are shifted, as the kernels do."""
    scale, zero = activation_scale(plan.ranges[plan.placement.tensors[tensor]], plan.scheme)
    zero -= plan.scheme.lowest
    return np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8), zero


def _lines(values: tuple[Array, int], rng: np.random.Generator) -> Array:
    rows = values[0].reshape(-1, values[0].shape[-1])
    return rows[rng.integers(0, len(rows), min(_ROWS_A_SAMPLE, len(rows)))][None]


def _patches(
    plan: Plan, wiring: Wiring, node: onnx.NodeProto, values: tuple[Array, int], rng: np.random.Generator
) -> Array:
    """What the kernel of a convolution lies on, at random places; padding that the runtime works out is left out."""
    kernel = tuple(wiring.constants[node.input[1]].dims[2:])
    rank, groups = len(kernel), int(attribute(node, "group", 1))
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * 2 * rank)
    padded = np.pad(
        values[0], [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))], constant_values=values[1]
    )
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    places = [range(0, size - r + 1, s) for size, r, s in zip(padded.shape[2:], reach, strides, strict=True)]
    starts = _some(places, rng)
    windows = [[slice(a, a + r, d) for a, r, d in zip(start, reach, dilations, strict=True)] for start in starts]
    rows = np.stack([padded[0][(slice(None), *window)] for window in windows])
    by_group = rows.reshape(len(rows), groups, -1, *kernel).swapaxes(0, 1)
    last = [_channels_last(part, plan.scheme.pad_stem and groups == 1) for part in by_group]
    return np.stack(last).reshape(groups, len(rows), -1)


def _some(places: list[range], rng: np.random.Generator) -> list[tuple[int, ...]]:
    """At most a few places of a grid."""
    if np.prod([len(p) for p in places]) <= _ROWS_A_SAMPLE:
        return list(product(*places))
    return [tuple(int(p[rng.integers(len(p))]) for p in places) for _ in range(_ROWS_A_SAMPLE)]
