"""LSTM layers whose products run in int8, where calibration data shows that they bear it.

A first layer that sees raw features usually does not, deeper layers usually do: each is tried on its own.

Source: Alvarez et al. 2016, arXiv:1607.04683 (quantised acoustic models).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.compress.quantize.rounding import best_scale, half_is_smaller, round_to
from edgekit.compress.quantize.sensitivity import relative_noise
from edgekit.data.split import Split
from edgekit.errors import EdgekitError
from edgekit.graph.read import proto_bytes
from edgekit.graph.scopes import Names, attribute, count_uses, drop_initializers, fixed_initializers, set_opset
from edgekit.progress import track
from edgekit.specs import Array

_NOISE_OF_ONE = 1e-3  # 30 dB below the outputs
_NOISE_OF_ALL = 2e-3
_SAMPLES = 32
_MAX_BYTES = 1 << 30
_PACKAGE = "com.microsoft"


def quantize_recurrent(model: onnx.ModelProto, split: Split, excluded: Collection[str]) -> tuple[str, ...]:
    """Replace LSTM layers by DynamicQuantizeLSTM; the model is changed in place.

    Args:
        model: A normalised model.
        split: Calibration data, on which each layer is tried.
        excluded: Names of nodes that stay.

    Returns:
        Names of the layers that were replaced.
    """
    layers = [n.name for n in model.graph.node if n.name not in excluded and _can(model.graph, n)]
    if not layers or proto_bytes(model) > _MAX_BYTES:
        return ()
    try:
        noise = _noise_of_each(model, layers, split.take(_SAMPLES))
        chosen = [name for name in sorted(layers, key=noise.__getitem__) if noise[name] <= _NOISE_OF_ONE]
        while chosen and sum(noise[name] for name in chosen) > _NOISE_OF_ALL:
            chosen.pop()
    except EdgekitError:
        return ()
    if chosen:
        _replace(model, set(chosen))
    return tuple(chosen)


def _can(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    if node.op_type != "LSTM" or node.domain or attribute(node, "layout", 0):
        return False
    fixed, uses = fixed_initializers(graph), count_uses(graph)
    weights = [fixed.get(name) for name in node.input[1:3]]
    return all(w is not None and w.data_type == TensorProto.FLOAT and uses[w.name] == 1 for w in weights)


def _noise_of_each(model: onnx.ModelProto, layers: list[str], split: Split) -> dict[str, float]:
    reference = _outputs(model, split)
    noise = {}
    for name in track(layers, "try each LSTM in int8"):
        trial = onnx.ModelProto()
        trial.CopyFrom(model)
        _replace(trial, {name})
        noise[name] = relative_noise(reference, _outputs(trial, split))
    return noise


def _outputs(model: onnx.ModelProto, split: Split) -> list[Array]:
    """The float outputs for every sample, one at a time: int8 ranges are taken over a whole batch."""
    from edgekit.ort.session import Session

    session = Session(model.SerializeToString())
    data = split.matched(session.inputs)
    found = []
    for part in data.batches(session.inputs, 1):
        results = session.run(part.feeds)
        found += [r.astype(np.float64).ravel() for r in results if isinstance(r, np.ndarray) and r.dtype.kind == "f"]
    return [np.concatenate(found)] if found else []


def _replace(model: onnx.ModelProto, layers: set[str]) -> None:
    graph, names = model.graph, Names(model)
    casts: list[onnx.NodeProto] = []
    for node in [n for n in graph.node if n.name in layers]:
        fixed = fixed_initializers(graph)
        weights = [numpy_helper.to_array(fixed[name]) for name in node.input[1:3]]
        drop_initializers(graph, set(node.input[1:3]))
        parts = [_store(graph, w, names, casts) for w in weights]
        rest = [*node.input[3:8], *[""] * (8 - max(3, len(node.input)))]
        scales = [name for _, scale, zero in parts for name in (scale, zero)]
        node.input[:] = [node.input[0], *(q for q, _, _ in parts), *rest, *scales]
        node.op_type, node.domain = "DynamicQuantizeLSTM", _PACKAGE
        for i in reversed(range(len(node.attribute))):
            if node.attribute[i].name == "layout":
                del node.attribute[i]
    for cast in casts:
        graph.node.insert(0, cast)
    set_opset(model, 1, _PACKAGE)


def _store(graph: onnx.GraphProto, weight: Array, names: Names, casts: list[onnx.NodeProto]) -> tuple[str, str, str]:
    """Names of the integers, (directions, columns, gates), their scales and zero points, (directions, gates)."""
    scale = best_scale(weight, (0, 1))
    q = round_to(weight, scale).transpose(0, 2, 1)
    flat = scale.reshape(weight.shape[:2])
    scales = _add(graph, names.fresh("s"), flat.astype(np.float16) if half_is_smaller(flat) else flat)
    if half_is_smaller(flat):
        halves, scales = scales, names.fresh("f")
        casts.append(helper.make_node("Cast", [halves], [scales], to=TensorProto.FLOAT))
    return _add(graph, names.fresh("q"), q), scales, _add(graph, names.fresh("z"), np.zeros(flat.shape, np.int8))


def _add(graph: onnx.GraphProto, name: str, values: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name
