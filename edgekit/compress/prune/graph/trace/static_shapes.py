"""Shapes of values with what is fixed told from what is dynamic."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgekit.graph.fold_shapes import infer_concrete_shapes
from edgekit.graph.macs import settle_dims
from edgekit.graph.shapes import without_weights

# Each dynamic dimension gets two sizes; what has one size under both is fixed. First large primes times 64, which
# networks that halve their images divide by, and which no product of fixed dimensions looks like; then what fits tables
# of positions, and short windows.
_PRIMES = ((101, 103, 107, 109, 113, 127), (211, 223, 227, 229, 233, 239))
_SIZES = (
    tuple(tuple(64 * p for p in primes) for primes in _PRIMES),
    ((352, 416, 96, 160), (224, 288, 480, 32)),
    ((37, 41, 43, 47), (53, 59, 61, 29)),
    ((7, 11), (13, 17)),
)


@dataclass(frozen=True)
class StaticShapes:
    """Shapes by name.

    Attributes:
        concrete: With dynamic dimensions at some size that nothing else has.
        fixed: None for a dynamic dimension.
    """

    concrete: dict[str, tuple[int, ...]]
    fixed: dict[str, tuple[int | None, ...]]


def static_shapes(model: onnx.ModelProto) -> StaticShapes:
    """The shapes of the main graph's values; what inference does not find is not there."""
    light = without_weights(model)
    names = _name_dynamic(light)
    values = {o for n in model.graph.node for o in n.output if o}
    best = StaticShapes({}, {})
    for pair in _SIZES if names else _SIZES[:1]:
        found = _settled(light, names, pair)
        if len(values & set(found.fixed)) > len(values & set(best.fixed)):
            best = found
        if values <= set(best.fixed):
            break
    return best


def _settled(light: onnx.ModelProto, names: list[str], pair: tuple[tuple[int, ...], ...]) -> StaticShapes:
    """Shapes under two choices of the dynamic dimensions, as far as both lead to some."""
    one, other = (
        infer_concrete_shapes(settle_dims(light, {n: sizes[i % len(sizes)] for i, n in enumerate(names)}))
        for sizes in pair
    )
    fixed = {
        name: tuple(a if a == b else None for a, b in zip(dims, other[name], strict=True))
        for name, dims in one.items()
        if name in other and len(other[name]) == len(dims)
    }
    return StaticShapes({name: one[name] for name in fixed}, fixed)


def _name_dynamic(light: onnx.ModelProto) -> list[str]:
    """The names of the dynamic dimensions of inputs; those without get one."""
    names: dict[str, None] = {}
    for value in light.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value") or dim.dim_value < 0:
                dim.dim_param = dim.dim_param or f"dynamic {len(names)}"
                names[dim.dim_param] = None
    return list(names)
