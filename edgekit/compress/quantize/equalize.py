"""Cross-layer equalisation: channels of very different size become one size before one scale has to fit them all.

Between a convolution and the next, with nothing but a ReLU in between, channel c may be divided by s_c and the next
weight's input channel c multiplied by it: relu(s x) = s relu(x) for s > 0.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1, with observed activations in the place of the first weight's
ranges, as in SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): weights have a scale a channel, activations do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.compress.quantize.placement import CLIPPING, Wiring
from edgekit.compress.quantize.qdq import along_axis, clip_bounds, weight_axis
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

_HOMOGENEOUS = frozenset(("LeakyRelu", "Relu"))
_BALANCE = 0.5  # of a dense layer: half of the unevenness goes to its weight
_LARGEST_STEP = 1e4


@dataclass(frozen=True)
class Link:
    """Two nodes with weights and the tensor between them.

    Attributes:
        before: First output of the Conv or Gemm that makes the channels.
        tensor: What the second node reads; axis 1 counts the channels.
        after: First output of the Conv or Gemm that reads them.
        bound: Where a Clip in between ends; infinity for a ReLU or nothing.
    """

    before: str
    tensor: str
    after: str
    bound: float = float("inf")


def links(model: onnx.ModelProto) -> list[Link]:
    """Every pair of nodes between which channels may be rescaled."""
    wiring = Wiring(model)
    found = (_link(wiring, node) for node in wiring.nodes if node.op_type in ("Conv", "Gemm"))
    return [link for link in found if link is not None]


def unevenness(peak: Array) -> float:
    """How much larger the largest channel is than a typical one: max over geometric mean, dead channels left out."""
    alive = peak[peak > 0]
    return float(alive.max() / np.exp(np.log(alive).mean())) if len(alive) else 1.0


def equalise(model: onnx.ModelProto, peaks: Mapping[str, Array]) -> onnx.ModelProto:
    """A model that computes the same with channels of similar size.

    Args:
        model: As `graph.normalise` leaves it.
        peaks: (channels,) largest magnitude of each channel, by `Link.tensor`; links without are left alone.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for link in links(model):
        peak = peaks.get(link.tensor)
        if peak is not None and len(peak) and peak.max() < link.bound:
            _rescale(result, link, peak)
    return result


def _link(wiring: Wiring, node: onnx.NodeProto) -> Link | None:
    tensor = node.input[0]
    bound = float("inf")
    source = wiring.producer.get(tensor)
    if source is not None and source.op_type in _HOMOGENEOUS | CLIPPING and wiring.only_reader(tensor) is node:
        bottom, bound = clip_bounds(wiring, source) if source.op_type in CLIPPING else (0.0, bound)
        tensor = source.input[0]
        reader = source
        source = wiring.producer.get(tensor) if bottom == 0 and bound > 0 else None
    else:
        reader = node
    if source is None or source.op_type not in ("Conv", "Gemm") or wiring.only_reader(tensor) is not reader:
        return None
    plain = _owns_weight(wiring, source) and _owns_weight(wiring, node) and _divisible(wiring, node)
    return Link(source.output[0], node.input[0], node.output[0], bound) if plain else None


def _owns_weight(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether a node's weight and bias are float constants that no other node reads."""
    if node.op_type == "Gemm" and (attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0):
        return False
    constants = [i for i in node.input[1:] if i]
    return all(wiring.is_float(c) and wiring.only_reader(c) is node for c in constants)


def _divisible(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether input channels of a node's weight can be told apart: no groups, or one channel a group."""
    group = int(attribute(node, "group", 1))
    return group == 1 or wiring.constants[node.input[1]].dims[1] == 1


def _rescale(model: onnx.ModelProto, link: Link, peak: Array) -> None:
    wiring = Wiring(model)
    before, after = wiring.producer[link.before], wiring.producer[link.after]
    weight = _by_input(after, wiring.value(after.input[1]))
    if len(weight) % len(peak):
        return
    step = _steps(peak, weight, dense=not _is_depthwise(after))
    first = wiring.value(before.input[1])
    _store(wiring, before.input[1], first / along_axis(step, weight_axis(before), first.ndim))
    if len(before.input) > 2 and before.input[2]:
        _store(wiring, before.input[2], wiring.value(before.input[2]) / step)
    repeated = np.repeat(step, len(weight) // len(peak))
    _store(wiring, after.input[1], _by_input(after, weight * along_axis(repeated, 0, weight.ndim)))
    clip = wiring.producer[link.tensor]
    if clip.op_type == "Clip":  # nothing reaches its bound, and the bound would have to move with the channels
        clip.op_type = "Relu"
        del clip.input[1:]


def _steps(peak: Array, weight: Array, *, dense: bool) -> Array:
    """What to divide each channel by, float32 (channels,); 1 for a dead channel.

    A weight with a scale for each channel takes all of the unevenness for nothing; a dense one takes half of it.
    """
    alive = peak > 0
    step = _relative(peak, alive)
    if dense:
        reach = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        step = step**_BALANCE * _relative(reach, alive & (reach > 0)) ** (_BALANCE - 1)
    return np.clip(np.where(alive, step, 1.0), 1 / _LARGEST_STEP, _LARGEST_STEP).astype(np.float32)


def _relative(size: Array, alive: Array) -> Array:
    """Sizes over their geometric mean; 1 where not alive."""
    logs = np.log(np.where(alive, size, 1.0))
    return np.where(alive, np.exp(logs - logs[alive].mean()), 1.0) if alive.any() else np.ones(len(size))


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return int(attribute(node, "group", 1)) > 1


def _by_input(node: onnx.NodeProto, weight: Array) -> Array:
    """A weight with its input channels along axis 0; applied twice it gives the weight back."""
    if _is_depthwise(node) or weight_axis(node) == 1:
        return weight
    return np.swapaxes(weight, 0, 1)


def _store(wiring: Wiring, name: str, value: Array) -> None:
    stored = wiring.constants[name]
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
