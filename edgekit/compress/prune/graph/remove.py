"""Removing channels from a graph for good; and the original with the same channels silenced, to prove it by."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compress.prune.graph.groups import Channels
from edgekit.compress.prune.graph.trace import CountFix, EntryFix, WeightUse
from edgekit.errors import CompressError, EdgekitError
from edgekit.graph.clean import remove_dead, strip_value_info
from edgekit.graph.constants import dedupe
from edgekit.graph.scopes import Names, attribute
from edgekit.specs import Array, Feeds

_TOLERANCE = 1e-3  # of the largest output; float32 sums in another order
_TOLERANCE_HALF = 3e-2  # and float16 rounds them

Change = Callable[[WeightUse, Array], Array]


def remove_channels(channels: Channels, units: Array) -> onnx.ModelProto:
    """A model without these channels.

    Nodes, values, inputs and outputs keep their names. What it computes is what `silence_channels` gives.

    Args:
        channels: Of the model; that is not changed.
        units: Root labels of the channels to remove.

    Raises:
        CompressError: if nothing would be left of a layer; the message names it.
    """
    gone = channels.gone(units)
    _refuse_empty(channels, gone)
    model = _with_weights(channels, _cut(gone))
    names = Names(model)
    for fix in channels.tracing.fixes:
        if gone[fix.labels].any():
            _apply_fix(model, fix, gone, names)
    strip_value_info(model)
    remove_dead(model)
    dedupe(model)
    return model


def silence_channels(channels: Channels, units: Array) -> onnx.ModelProto:
    """The model as it is, with weights of zero wherever one of these channels is read."""
    gone = channels.gone(units)
    ends = {(c.use.node, c.use.input): c.axis for c in channels.tracing.contractions}

    def silence(use: WeightUse, values: Array) -> Array:
        axis = ends.get((use.node, use.input))
        labels = use.axes[axis] if axis is not None else None
        if axis is None or labels is None or not gone[labels].any():
            return values
        silenced = values.copy()
        silenced[(slice(None),) * axis + (gone[labels],)] = 0
        return silenced

    return _with_weights(channels, silence)


def disagreement(one: onnx.ModelProto, other: onnx.ModelProto, feeds: Feeds) -> float:
    """Largest difference between the float outputs of two models, in parts of the largest output; Inf for NaN."""
    from edgekit.compress.quantize.calibration import open_session

    worst = 0.0
    for a, b in zip(*(open_session(m).run(feeds) for m in (one, other)), strict=True):
        if a.dtype.kind != "f" or not a.size:
            continue
        if a.shape != b.shape or not np.isfinite(b).all():
            return float("inf")
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)))
    return worst


def prove_removal(channels: Channels, units: Array, feeds: Feeds) -> str:
    """Why removing these channels is not the same as silencing them; "" where it is."""
    try:
        off = disagreement(silence_channels(channels, units), remove_channels(channels, units), feeds)
    except EdgekitError as error:
        return f"without them the model does not run: {error}"
    half = any(c.data_type == onnx.TensorProto.FLOAT16 for c in channels.tracing.constants.values())
    return (
        ""
        if off <= (_TOLERANCE_HALF if half else _TOLERANCE)
        else f"without them outputs differ by {off:.2g} of the largest"
    )


def _refuse_empty(channels: Channels, gone: Array) -> None:
    tracing = channels.tracing
    for use in tracing.uses:
        if any(labels is not None and gone[labels].all() for labels in use.axes):
            node = tracing.model.graph.node[use.node]
            raise CompressError(f"pruning would leave nothing of layer {node.name!r}; remove fewer channels")
    for labels in tracing.parts:
        if gone[labels].all():
            raise CompressError("pruning would leave nothing of a part that is split off; remove fewer channels")


def _cut(gone: Array) -> Change:
    def cut(use: WeightUse, values: Array) -> Array:
        for axis, labels in enumerate(use.axes):
            if labels is not None and gone[labels].any():
                values = np.compress(~gone[labels], values, axis=axis)
        return values

    return cut


def _with_weights(channels: Channels, change: Change) -> onnx.ModelProto:
    """A copy whose constants are changed use by use; equal results of one constant stay one."""
    model = onnx.ModelProto()
    model.CopyFrom(channels.model)
    names, made = Names(model), dict[tuple[str, bytes], str]()
    for use in channels.tracing.uses:
        before = numpy_helper.to_array(channels.tracing.constants[use.name])
        after = change(use, before)
        if after is before:
            continue
        key = (use.name, sha256(np.ascontiguousarray(after).data).digest())
        if key not in made:
            made[key] = names.fresh(use.name)
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(after), made[key]))
        model.graph.node[use.node].input[use.input] = made[key]
    remove_dead(model)
    return model


def _apply_fix(model: onnx.ModelProto, fix: CountFix | EntryFix, gone: Array, names: Names) -> None:
    if isinstance(fix, CountFix):
        _set_count(model, fix, gone)
    else:
        _set_entry(model, fix, gone, names)


def _set_count(model: onnx.ModelProto, fix: CountFix, gone: Array) -> None:
    node = model.graph.node[fix.node]
    count = int(np.count_nonzero(~gone[fix.labels]))
    if fix.index is None:
        _set_attribute(node, fix.attribute, count)
    else:
        sizes = list(attribute(node, fix.attribute, fix.default))
        sizes[fix.index] = count
        _set_attribute(node, fix.attribute, sizes)


def _set_attribute(node: onnx.NodeProto, name: str, value: int | list[int]) -> None:
    others = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, value)])


def _set_entry(model: onnx.ModelProto, fix: EntryFix, gone: Array, names: Names) -> None:
    node = model.graph.node[fix.node]
    held = {i.name: i for i in model.graph.initializer}
    name = node.input[fix.input] if fix.input < len(node.input) else ""
    old = numpy_helper.to_array(held[name]) if name else np.array(fix.default, np.int64)
    values = old.copy()
    values.ravel()[fix.index] = np.count_nonzero(~gone[fix.labels])
    fresh = names.fresh(name or f"{node.name}_sizes")
    model.graph.initializer.append(numpy_helper.from_array(values, fresh))
    while len(node.input) <= fix.input:
        node.input.append("")
    node.input[fix.input] = fresh
    if node.op_type == "Split":
        kept = [a for a in node.attribute if a.name != "num_outputs"]
        del node.attribute[:]
        node.attribute.extend(kept)
