"""Which ways to quantise make sense for a graph, a target and the data at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit.compress import TECHNIQUES, StepConfig, Target
from edgekit.errors import CompressError, unknown
from edgekit.graph.read import every_node, read_structure
from edgekit.search.request import AUTO, QuantizeRequest


@dataclass(frozen=True)
class Candidate:
    """A chain of steps to try.

    Attributes:
        name: The method's name in reports.
        steps: Configs, in their order.
        fallback: Tried only when nothing before it was good.
    """

    name: str
    steps: tuple[StepConfig, ...]
    fallback: bool = False


def candidates(request: QuantizeRequest, *, is_language_model: bool) -> list[Candidate]:
    """What to try, in the order of likely gain; one method alone where one is asked for by name.

    Raises:
        CompressError: for an unknown method; the message holds the nearest.
    """
    if request.method != AUTO:
        name = f"quantize: {request.method}"
        if name not in TECHNIQUES:
            methods = [t.method for t in TECHNIQUES.values() if t.kind == "quantize"]
            raise CompressError(unknown("method", request.method, [AUTO, *methods]))
        return [_chain(request.method)]
    if request.target == "cuda":
        return [_chain("fp16"), _chain("dynamic"), _chain("weights", fallback=True)]
    if is_language_model and request.target != "tensorrt":
        return [_chain("int4"), _chain("dynamic", fallback=True), _chain("weights", fallback=True)]
    return list(_applicable(_operators(request.model), request.target, request.calibration is not None))


def _applicable(ops: Counter[str], target: Target, has_calibration: bool) -> Iterator[Candidate]:
    """By what dominates the graph: convolutions want static int8, matrix products and LSTMs dynamic.

    Graphics processors compute in float what is stored as int8, so there weights alone are the last resort.
    """
    products = ops["MatMul"] + ops["Gemm"] + ops["Attention"] + ops["MultiHeadAttention"]
    if has_calibration and (ops["Conv"] or products):
        yield _chain("static", "weights")
    if target == "tensorrt":
        yield _chain("fp16")
    elif products or ops["LSTM"]:
        yield _chain("dynamic")
    yield _chain("weights", fallback=target == "tensorrt")


def _operators(model: Path) -> Counter[str]:
    return Counter(n.op_type for n in every_node(read_structure(model)))


def _chain(*methods: str, fallback: bool = False) -> Candidate:
    configs = tuple(TECHNIQUES[f"quantize: {m}"].config() for m in methods)
    return Candidate(" + ".join(methods), configs, fallback)
