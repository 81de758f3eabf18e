"""Whether models that are to be compared do the same work: the same inputs and outputs, as far as their files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from edgekit.errors import ModelError
from edgekit.graph.read import read_structure

Shape = tuple[int | str, ...]


def refuse_other_signatures(models: Sequence[Path]) -> None:
    """Refuse to compare models whose inputs or outputs differ from the first one's in names or shapes.

    Types may differ, for a model in fp16 is compared with its original; so may the names of dynamic dimensions, and a
    dynamic dimension fits a fixed one.

    Raises:
        ModelError: for the first difference that is found; the message names both sides.
    """
    first, *others = models
    expected = _signature(first)
    for other in others:
        got = _signature(other)
        for kind in ("inputs", "outputs"):
            if not _same(expected[kind], got[kind]):
                raise ModelError(
                    f"{other} cannot be compared with {first}: its {kind} are {_listed(got[kind])}, those of the "
                    f"first are {_listed(expected[kind])}; compare models that do the same work, or leave --compare out"
                )


def _signature(model: Path) -> dict[str, dict[str, Shape | None]]:
    graph = read_structure(model).graph
    weights = {w.name for w in graph.initializer}  # files before IR 4 list weights among the inputs
    return {
        "inputs": {v.name: _shape(v) for v in graph.input if v.name not in weights},
        "outputs": {v.name: _shape(v) for v in graph.output},
    }


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """Dimensions, "?" without a name; None where the file does not tell the rank."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?" for d in dims)


def _same(expected: Mapping[str, Shape | None], got: Mapping[str, Shape | None]) -> bool:
    return expected.keys() == got.keys() and all(_fits(shape, got[name]) for name, shape in expected.items())


def _fits(first: Shape | None, second: Shape | None) -> bool:
    if first is None or second is None:
        return True
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in pairs)


def _listed(values: Mapping[str, Shape | None]) -> str:
    shapes = {
        name: "of unknown shape" if s is None else "x".join(map(str, s)) or "scalar" for name, s in values.items()
    }
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
