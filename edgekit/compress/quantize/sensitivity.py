"""Which weights deserve more bits: the noise that each alone puts into the outputs, against the bytes it would cost.

Source: mixed precision by sensitivity: Dong et al. 2019, arXiv:1905.03696 (HAWQ); here it is measured, not derived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from edgekit.compress.quantize.candidates import FLOATS, Weight
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.graph.read import proto_bytes
from edgekit.progress import track, warn
from edgekit.specs import Array, Feeds, TensorSpec

Rounded = Mapping[str, tuple[Array, Array]]

_GOOD_ENOUGH = 1e-4  # noise power of 40 dB below the signal: nothing is gained by more bits
_WORTH_BITS = 0.1  # a tensor must make up this share of all noise
_RUNS = 8
_MIN_RUNS = 2
_INPUT_VALUES = 1 << 18  # of all samples together: every weight costs one run of them
_OUTPUT_VALUES = 1 << 23  # the same, but for the first sample: language models give one a token of their vocabulary
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast")
_MAX_BYTES = 1 << 31


@dataclass(frozen=True)
class Spare:
    """What may be spent.

    Attributes:
        share: Of the bytes that all weights take as int8.
        samples: How many calibration samples may be looked at.
        bytes_each: What an element takes more when it is kept precise.
    """

    share: float
    samples: int
    bytes_each: float = 1.0


def choose_precise(
    model: onnx.ModelProto, weights: list[Weight], rounded: Rounded, spare: Spare, split: Split | None
) -> set[str]:
    """Names of the weights to keep in more bits.

    With data, those that put the most noise into the outputs; without, those that see the inputs as they come, whose
    ranges nothing has evened out yet, and tables that are added or concatenated; as far as the spare bytes go.
    """
    budget = int(spare.share * sum(w.size for w in weights))
    if budget == 0:
        return set()
    if split is None or not spare.samples or proto_bytes(model) > _MAX_BYTES:
        return _spend(weights, _guess(model, weights), budget, spare.bytes_each)
    try:
        noise = noise_of_each(model, weights, rounded, split.take(_affordable(split, spare.samples)))
    except ModelError as error:
        warn(f"no weight is kept in more bits, since what each does to the outputs could not be measured: {error}")
        return set()
    return _spend(weights, noise, budget, spare.bytes_each)


def _affordable(split: Split, most: int) -> int:
    return min(most, _RUNS, max(_MIN_RUNS, split.affordable(_RUNS, _INPUT_VALUES)))


def _guess(model: onnx.ModelProto, weights: Iterable[Weight]) -> dict[str, float]:
    raw = {i.name for i in model.graph.input if i.type.tensor_type.elem_type in FLOATS}
    for node in model.graph.node:
        if node.op_type in _MOVES and node.input[0] in raw:
            raw.update(node.output)
    first = {w.name: 1.0 for w in weights if any(u.index > 0 and u.node.input[0] in raw for u in w.uses)}
    return {w.name: 1.0 for w in weights if not w.is_multiplied} | first


def _spend(weights: Iterable[Weight], noise: Mapping[str, float], budget: float, bytes_each: float) -> set[str]:
    """Greedily by noise."""
    left, chosen = sum(noise.values()), set[str]()
    sizes = {w.name: w.size * bytes_each for w in weights}
    for name in sorted(noise, key=lambda n: -noise[n]):
        if left <= _GOOD_ENOUGH or noise[name] < _WORTH_BITS * left:
            break
        if sizes[name] <= budget:
            budget -= sizes[name]
            left -= noise[name]
            chosen.add(name)
    return chosen


def noise_of_each(model: onnx.ModelProto, weights: list[Weight], rounded: Rounded, split: Split) -> dict[str, float]:
    """Noise power relative to the signal's that each weight of the main graph alone puts into the float outputs.

    One session serves all: the weights become its inputs, and one of them at a time is fed as rounded.
    """
    from edgekit.ort.session import Session

    inside = [w for w in weights if w.graph is model.graph]
    session = Session(_with_weights_as_inputs(model, {w.name for w in inside}).SerializeToString())
    names = {w.name for w in inside}
    specs = tuple(s for s in session.inputs if s.name not in names)
    own = {w.name: w.values.astype(helper.tensor_dtype_to_np_dtype(w.tensor.data_type)) for w in inside}
    data = split.matched(specs)
    each = sum(o.size for o in _floats(session.run({**_feeds(data.take(1), specs), **own})))
    batch = _feeds(data.take(max(1, _OUTPUT_VALUES // max(1, each))), specs)
    reference = _floats(session.run({**batch, **own}))
    noise = {}
    for weight in track(inside, "measure each weight"):
        q, scale = rounded[weight.name]
        value = (q * scale).astype(own[weight.name].dtype)
        noise[weight.name] = relative_noise(reference, _floats(session.run({**batch, **own, weight.name: value})))
    return noise


def _feeds(split: Split, specs: Sequence[TensorSpec]) -> Feeds:
    """All samples of a split as one batch."""
    return next(split.batches(specs, len(split))).feeds


def relative_noise(reference: list[Array], got: list[Array]) -> float:
    """Power of the difference over power of the reference, the worst of all outputs; 10 ** (-dB / 10)."""
    worst = 0.0
    for a, b in zip(reference, got, strict=True):
        power = float(np.square(a).sum())
        if a.shape == b.shape and power > 0:
            worst = max(worst, float(np.square(b - a).sum()) / power)
    return worst if np.isfinite(worst) else float("1e30")


def _floats(outputs: list[Array]) -> list[Array]:
    return [o.astype(np.float64) for o in outputs if isinstance(o, np.ndarray) and o.dtype.kind == "f"]


def _with_weights_as_inputs(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    for i in reversed(range(len(open_model.graph.initializer))):
        tensor = open_model.graph.initializer[i]
        if tensor.name in names:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            open_model.graph.input.append(value)
            del open_model.graph.initializer[i]
    return open_model
