"""Attention masks that do not slow Softmax down and do not ruin ranges.

Exporters fill masked scores with the lowest float. exp of such a score is clamped to the smallest denormal number, on
which x86 cores work some hundred times slower, and no quantiser can give that range a scale. exp(-60) is 1e-26: next
to the scores that count it is nothing as well, and it is an ordinary number.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgekit.data.split import Split
from edgekit.errors import EdgekitError
from edgekit.graph.read import proto_bytes
from edgekit.graph.scopes import fixed_initializers, subgraphs_of
from edgekit.specs import Array

MASKED = -60.0
_CLOSER = -40.0  # the proof is made with a weaker mask, so that unseen data has 20 nats to spare
_HUGE = -1e4
_SAMPLES = 8
_MAX_BYTES = 1 << 31
_TOLERANCE = 1e-4  # of the outputs' largest magnitude
_CARRIES = frozenset(
    ("Add", "Cast", "Concat", "Expand", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)


def soften_masks(model: onnx.ModelProto, split: Split) -> int:
    """Replace the fill of attention masks by -60 where that leaves the outputs on calibration data as they are.

    Args:
        model: A normalised model; changed in place.
        split: Calibration data, on which a still weaker mask must already make no difference.

    Returns:
        How many constants were changed.
    """
    masks = find_masks(model)
    if not masks or proto_bytes(model) > _MAX_BYTES:
        return 0
    weaker = onnx.ModelProto()
    weaker.CopyFrom(model)
    _fill(weaker, masks, _CLOSER)
    try:
        same = _agree(model, weaker, split.take(_SAMPLES))
    except EdgekitError:
        return 0
    if same:
        _fill(model, masks, MASKED)
    return len(masks) if same else 0


def find_masks(model: onnx.ModelProto) -> set[str]:
    """Float constants that hold a huge negative fill and end in nothing but Softmax; the main graph only."""
    fixed = fixed_initializers(model.graph)
    huge = {name for name, tensor in fixed.items() if _is_mask(tensor)}
    captured = {i for n in model.graph.node for g in subgraphs_of(n) for m in g.node for i in m.input}
    return {name for name in huge - captured if _ends_in_softmax(model.graph, name)}


def _is_mask(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    low = values <= _HUGE
    return bool(low.any()) and bool((np.abs(values[~low]) <= 1.0).all())


def _ends_in_softmax(graph: onnx.GraphProto, name: str) -> bool:
    """Whether all that depends on a value is Softmax, through operators that only carry or add a mask."""
    outputs = {o.name for o in graph.output}
    reached, ends = {name}, 0
    for node in graph.node:  # in topological order
        if not reached.intersection(node.input):
            continue
        if node.op_type == "Softmax":
            ends += 1
        elif node.op_type in _CARRIES or (node.op_type == "Where" and node.input[0] not in reached):
            reached.update(node.output)
        else:
            return False
    return ends > 0 and not reached & outputs


def _fill(model: onnx.ModelProto, names: Iterable[str], value: float) -> None:
    wanted = set(names)
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            old = numpy_helper.to_array(tensor)
            new = np.where(old <= _HUGE, np.float32(value), old).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))


def _agree(model: onnx.ModelProto, other: onnx.ModelProto, split: Split) -> bool:
    from edgekit.ort.session import Session

    first, second = (Session(m.SerializeToString(), threads=1) for m in (model, other))
    data = split.matched(first.inputs)
    return all(
        _close(a, b)
        for part in data.batches(first.inputs, _SAMPLES)
        for a, b in zip(first.run(part.feeds), second.run(part.feeds), strict=True)
    )


def _close(wanted: Array, got: Array) -> bool:
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, got))
    return bool(np.abs(wanted - got).max(initial=0) <= _TOLERANCE * max(1e-6, float(np.abs(wanted).max(initial=0))))
