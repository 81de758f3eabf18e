"""Weights rounded on calibration data, and kept, since a search rounds the same weights again and again.

Source: Frantar et al. 2022, arXiv:2210.17323 (GPTQ).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from hashlib import sha256

import numpy as np
import onnx

from edgekit.compress.quantize.calibration import table_key
from edgekit.compress.quantize.candidates import find_weights
from edgekit.compress.quantize.moments import as_matrices, from_matrices, multiplier_of, observe_multipliers
from edgekit.compress.quantize.rounding import round_on_data
from edgekit.data.split import Split
from edgekit.specs import Array

_SAMPLES = 64
_KEPT_BYTES = 1 << 28


class _Kept(OrderedDict[str, Array]):
    """Arrays by digest; the oldest go when all together are too large."""

    def add(self, key: str, value: Array) -> Array:
        self[key] = value
        while sum(a.nbytes for a in self.values()) > _KEPT_BYTES and len(self) > 1:
            self.popitem(last=False)
        return value


_rounded = _Kept()
_moments: dict[str, dict[str, Array]] = {}  # of the last model and data only


def observe_inputs(model: onnx.ModelProto, nodes: Collection[str], data: Split) -> dict[str, Array]:
    """Second moments of what multiplies the weights of nodes.

    Args:
        model: As it will be quantised.
        nodes: First outputs of nodes with weights.
        data: Calibration data; at most 64 samples are run.

    Returns:
        (groups, columns, columns) by the node's first output; without nodes whose weight others read too.
    """
    data = data.take(_SAMPLES)
    key = table_key(model, data, sorted(nodes))
    if key not in _moments:
        chosen = [w for w in find_weights(model) if multiplier_of(w) and w.uses[0].node.output[0] in nodes]
        seen = {w.uses[0].node.output[0]: multiplier_of(w) for w in chosen}
        found = observe_multipliers(model, chosen, data, _SAMPLES)
        _moments.clear()
        _moments[key] = {out: found[s.name].second for out, s in seen.items() if s is not None and s.name in found}
    return _moments[key]


def round_for(node: onnx.NodeProto, values: Array, scale: Array, second: Array, bits: int) -> Array:
    """Integers of a weight, each column making good what earlier ones lost on the data.

    Args:
        node: What the weight belongs to.
        values: The weight.
        scale: Broadcastable to it.
        second: (directions or groups, columns, columns), or (1, columns, columns) for all of them.
        bits: Width of the integers.
    """
    scales = np.broadcast_to(scale, values.shape)
    digest = sha256(f"{node.op_type} {node.attribute} {values.shape} {bits}".encode())
    for array in (values, np.ascontiguousarray(scale), np.ascontiguousarray(second)):
        digest.update(array.tobytes())
    key = digest.hexdigest()
    if key in _rounded:
        return _rounded[key]
    matrices, steps = as_matrices(node, values), as_matrices(node, scales)
    moments = np.broadcast_to(second, (len(matrices), *second.shape[1:]))
    q = np.stack([round_on_data(m, s, h, bits) for m, s, h in zip(matrices, steps, moments, strict=True)])
    return _rounded.add(key, np.ascontiguousarray(from_matrices(node, q, values.shape)))
