"""Which nodes float16 cannot hold: by measured ranges, else by what operators are known for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgekit.compress.quantize.half_proof import Samples
from edgekit.compress.quantize.narrow import PEAK, float_values
from edgekit.graph.read import every_graph
from edgekit.graph.scopes import fixed_initializers
from edgekit.specs import Array

# Squares, exponentials, long sums and what undoes them leave float16 first.
_RISKY = frozenset(
    (
        "CumSum",
        "Exp",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sqrt",
    )
)
_BOUNDS = frozenset(("Clip", "Max", "Min"))  # a bound beyond float16 may become its largest number
_FILLS = frozenset(("Pad", "Where"))


def nodes_out_of_range(model: onnx.ModelProto, samples: Samples | None, headroom: float) -> dict[str, str]:
    """Why each node that has to stay in float32 has to, by the node's name.

    Args:
        model: A normalised float model.
        samples: What ranges are measured on; None where the model cannot be run.
        headroom: How many times larger than measured a value may become.
    """
    kept = dict(_by_constants(model))
    measured = samples is not None
    if samples is not None:
        kept |= _by_measurement(model, samples, headroom)
    for graph in every_graph(model):
        if graph is not model.graph or not measured:
            kept |= {n.name: f"{n.op_type}: its range was not measured" for n in graph.node if n.op_type in _RISKY}
    return kept


def _by_measurement(model: onnx.ModelProto, samples: Samples, headroom: float) -> dict[str, str]:
    values = float_values(model)
    wanted = sorted({v for names in values.values() for v in names})
    if not wanted:
        return {}
    runs = samples.watch(model, wanted, len(samples.split), _peak)
    peaks = {name: max(run[name] for run in runs) for name in wanted}
    kept = {}
    for name, read in values.items():
        largest = max((peaks[v] for v in read), default=0.0)
        if not largest * headroom <= PEAK:
            kept[name] = f"reaches {largest:.3g}; float16 ends at {PEAK:.0f}"
    return kept


def _peak(values: Array) -> float:
    """The largest magnitude; infinite where a value is not finite."""
    largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    return largest if np.isfinite(largest) else float("inf")


def _by_constants(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    known: dict[str, onnx.TensorProto] = {}
    for graph in every_graph(model):
        known |= fixed_initializers(graph)
    reasons = {name: _constant_reason(numpy_helper.to_array(t)) for name, t in known.items() if _is_float(t)}
    for graph in every_graph(model):
        for node in graph.node:
            if node.op_type in _BOUNDS | _FILLS:
                continue
            why = next((reasons[i] for i in node.input if reasons.get(i)), "")
            if why:
                yield node.name, why


def _is_float(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT


def _constant_reason(values: Array) -> str:
    """Why a constant does not survive float16; "" where it does."""
    size = np.abs(values[np.isfinite(values)])
    largest = float(size.max(initial=0))
    if largest > PEAK:
        return f"a constant of {largest:.3g}; float16 ends at {PEAK:.0f}"
    if largest > 0 and np.float16(largest) == 0:
        return f"a constant of {largest:.3g} is zero in float16"
    return ""
