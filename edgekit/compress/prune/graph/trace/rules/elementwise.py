"""Operators that work on every element alone, with broadcasting: channels stay where they are."""

from __future__ import annotations

from edgekit.compress.prune.graph.trace.records import Labels
from edgekit.compress.prune.graph.trace.tracing import Tracing

_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_FIRST_ONLY = ("Clip", "Dropout")  # further inputs are scalars
_BROADCAST = """
    Add And BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu Sub Sum Where
    Xor
"""


def pass_through(tracing: Tracing, index: int) -> None:
    """Outputs have the axes of the first input."""
    node = tracing.model.graph.node[index]
    axes = tracing.read(index, 0)
    for name in node.output:
        tracing.give(name, axes)


def broadcast(tracing: Tracing, index: int) -> None:
    """Axes are aligned from the right; those that meet are one."""
    node = tracing.model.graph.node[index]
    operands = [tracing.read(index, i) for i in range(len(node.input))]
    known = [o for o in operands if o is not None]
    if len(known) < len(operands):
        tracing.opaque(index, "meets a value of unknown shape")
        return
    rank = max(map(len, known))
    dims = [tracing.shapes.fixed.get(n, ()) for n in node.input]
    padded = [((1,) * (rank - len(d)) + d, (None,) * (rank - len(o)) + o) for d, o in zip(dims, known, strict=True)]
    axes = tuple(meet_sized(tracing, index, [(d[axis], o[axis]) for d, o in padded]) for axis in range(rank))
    tracing.give(node.output[0], axes)


def meet_sized(tracing: Tracing, index: int, sides: list[tuple[int | None, Labels]]) -> Labels:
    """The labels of an axis where several meet: of each its size and labels."""
    met = [labels for size, labels in sides if size != 1]
    labelled = [labels for labels in met if labels is not None]
    if not labelled:
        return None
    if len(labelled) < len(met) or len({len(labels) for labels in labelled}) > 1:
        node = tracing.model.graph.node[index]
        tracing.block(labelled, node, "meets a value whose channels must stay")
        return None
    for other in labelled[1:]:
        tracing.partition.unify(labelled[0], other)
    return labelled[0]


def meet(tracing: Tracing, index: int, one: Labels, other: Labels) -> Labels:
    """Two axes of the same size that are one."""
    return meet_sized(tracing, index, [(None, one), (None, other)])


RULES = {
    **dict.fromkeys((*_UNARY.split(), *_FIRST_ONLY), pass_through),
    **dict.fromkeys(_BROADCAST.split(), broadcast),
}
