"""Which ways to quantise make sense for a graph, a target and the data at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit.compress import TECHNIQUES, StepConfig, Target
from edgekit.graph.read import every_node, read_structure


@dataclass(frozen=True)
class Candidate:
    """A chain of steps to try.

    Attributes:
        name: The method's name in reports.
        steps: Configs, in their order.
    """

    name: str
    steps: tuple[StepConfig, ...]


def candidates(model: Path, target: Target, *, has_calibration: bool) -> list[Candidate]:
    """What to try, in the order of likely gain."""
    return list(_applicable(Counter(n.op_type for n in every_node(read_structure(model))), target, has_calibration))


def _applicable(ops: Counter[str], target: Target, has_calibration: bool) -> Iterator[Candidate]:
    matrix = ops["MatMul"] + ops["Gemm"] + ops["Attention"]
    if has_calibration and (ops["Conv"] or matrix):
        yield _candidate("static", target)
    if (matrix or ops["LSTM"]) and not ops["Conv"] and target not in ("cuda", "tensorrt"):
        yield _candidate("dynamic", target)
    yield _candidate("weights", target)


def _candidate(method: str, target: Target) -> Candidate:
    return Candidate(method, (TECHNIQUES[f"quantize: {method}"].config(),))


__all__ = ["Candidate", "candidates"]
