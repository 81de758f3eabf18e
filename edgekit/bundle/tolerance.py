"""How far a right answer may be from the golden one, measured by what other machines do to numbers.

Two machines add the same products in another order, fuse other nodes, round ties of int8 to the other side, or multiply
floats with 11 bits of significand (NVIDIA's TF32, half precision). Each of these is tried on the golden samples here:

- another number of threads, and the graph as it is without ONNX Runtime's optimisations, which is another order (it
  counts only where it computes the same at all: some kernels exist for optimised graphs only);
- float inputs and large float weights changed by 2^-11 of themselves, the rounding of an 11-bit significand, twice
  with other random signs. To compute with rounding is to compute exactly with slightly other data (Wilkinson 1963), and
  data that moved a little falls on the other side of an int8 tie.

The tolerance is the largest difference seen times a safety factor of 4, and at least 2^-12 of the largest output; the
relative part is two roundings of 11 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import floor, log10
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.read import every_node, every_weight, proto_bytes, read_model
from edgekit.ort import Session
from edgekit.progress import warn
from edgekit.specs import Array, Feeds

ROUNDING = 2.0**-11
_SAFETY = 4.0
_LEAST = 2.0**-12
_RELATIVE = 2 * ROUNDING
_DRAWS = 2
_SAME = 0.05  # of the largest output; rounding changes less
_LARGE = 64  # elements; what is smaller may be sizes, axes or limits
_MOST_BYTES = 1 << 30  # of a model that is changed in memory
_SIZES = ("Resize", "Upsample", "Range", "Tile", "Slice", "Pad", "OneHot")

Run = Callable[[Feeds], list[Array]]


def measure_tolerance(
    path: Path, samples: Sequence[Feeds], golden: Sequence[Sequence[Array]], kept: Sequence[int]
) -> dict[str, float]:
    """The tolerance of a model's outputs.

    Args:
        path: The model.
        samples: Golden inputs.
        golden: Its outputs for each, on one CPU thread.
        kept: Which of the model's outputs those are.

    Returns:
        "absolute" and "relative": an answer is right where |answer - golden| <= absolute + relative * |golden|.
    """
    largest = largest_answer(o for outputs in golden for o in outputs) or 0.0
    seen = [_farthest(run, samples, golden, kept) for run in _other_machines(path)]
    plain = [_farthest(run, samples, golden, kept) for run in _unoptimized(path)]
    if any(p > _SAME * largest for p in plain):
        warn(f"{path.name} computes something else without ONNX Runtime's optimisations; do not switch them off")
    farthest = max(seen + [p for p in plain if p <= _SAME * largest])
    return {"absolute": _rounded_up(max(_SAFETY * farthest, _LEAST * largest)), "relative": _rounded_up(_RELATIVE)}


def _farthest(run: Run, samples: Sequence[Feeds], golden: Sequence[Sequence[Array]], kept: Sequence[int]) -> float:
    """The largest difference of any answer from the golden one."""
    differences = [0.0]
    for feeds, outputs in zip(samples, golden, strict=True):
        answers = run(feeds)
        differences += [largest_difference(answers[i], o) for i, o in zip(kept, outputs, strict=True)]
    return max(differences)


def largest_difference(answer: Array, golden: Array) -> float:
    """The largest difference of two outputs; infinite where shapes differ or one alone is not finite."""
    if answer.shape != golden.shape:
        return float("inf")
    if not answer.size or golden.dtype.kind not in "fiub":
        return 0.0
    a, b = answer.astype(np.float64), golden.astype(np.float64)
    differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not np.isfinite([a[differ], b[differ]]).all():
        return float("inf")
    return float(np.abs(a[differ] - b[differ]).max(initial=0.0))


def largest_answer(golden: Iterable[Array]) -> float | None:
    """The largest finite magnitude of any output of floats; None where there is none."""
    floats = [np.abs(o[np.isfinite(o)]).max(initial=0.0) for o in golden if o.dtype.kind == "f" and o.size]
    return float(max(floats)) if floats else None


def _other_machines(path: Path) -> Iterator[Run]:
    """Runs of the model as other machines would round it."""
    yield Session(path, threads=2).run
    proto = read_model(path)
    light = proto_bytes(proto) <= _MOST_BYTES
    for seed in range(_DRAWS):
        model: Path | bytes = _jittered(proto, seed).SerializeToString() if light else path
        yield _on_jittered_inputs(Session(model, threads=1), seed)


def _unoptimized(path: Path) -> list[Run]:
    """The run of the graph as it is; none where it does not load so."""
    with suppress(ModelError):
        return [Session(path, threads=1, graph_optimization=False).run]
    return []


def _on_jittered_inputs(session: Session, seed: int) -> Run:
    def run(feeds: Feeds) -> list[Array]:
        rng = np.random.default_rng(seed)
        return session.run({k: _jitter(v, rng) if v.dtype.kind == "f" else v for k, v in feeds.items()})

    return run


def _jittered(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    rng, changed = np.random.default_rng(seed), onnx.ModelProto()
    changed.CopyFrom(model)
    sizes = {name for node in every_node(changed) if node.op_type in _SIZES for name in node.input}
    for tensor in every_weight(changed):
        floats = tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
        if floats and tensor.name not in sizes and np.prod(tensor.dims, dtype=np.int64) >= _LARGE:
            moved = _jitter(numpy_helper.to_array(tensor), rng)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return changed


def _jitter(values: Array, rng: np.random.Generator) -> Array:
    signs = rng.choice(np.array([-ROUNDING, ROUNDING], np.float32), size=values.shape)
    return np.asarray(values * (1 + signs)).astype(values.dtype)


def _rounded_up(value: float) -> float:
    """Two digits, so that the same measurement gives the same number."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{np.ceil(value / step) * step:.2g}")
