"""Convolutions and matrix products with weights: where channels are made, and where they end."""

from __future__ import annotations

from string import ascii_letters

import numpy as np

from edgekit.compress.prune.graph.trace.records import Axes, Contraction, CountFix, Labels
from edgekit.compress.prune.graph.trace.rules.elementwise import meet, meet_sized
from edgekit.compress.prune.graph.trace.tracing import Tracing
from edgekit.graph.scopes import attribute
from edgekit.specs import Array


def conv(tracing: Tracing, index: int) -> None:
    """Weight (out, in / groups, kernel...); a depthwise convolution keeps channels apart."""
    node = tracing.model.graph.node[index]
    read = _read_constant(tracing, index)
    if read is None:
        return
    x, weight, bias = read
    groups = int(attribute(node, "group", 1))
    dims = tracing.constants[node.input[1]].dims
    out, inner = int(dims[0]), int(dims[1])
    _keep_kernel(tracing, weight)
    if groups > 1 and inner == 1:
        made = _depthwise(tracing, index, x[1], weight[0], out // groups)
    else:
        _end_at(tracing, index, x[1], 1, groups)
        made = _made(tracing, weight[0], out, groups)
    _follow_bias(tracing, index, bias, made)
    tracing.block(x[2:], node, "moves over this axis")
    tracing.give(node.output[0], (x[0], made, *(None,) * (len(x) - 2)))


def conv_transpose(tracing: Tracing, index: int) -> None:
    """Weight (in, out / groups, kernel...)."""
    node = tracing.model.graph.node[index]
    read = _read_constant(tracing, index)
    if read is None:
        return
    x, weight, bias = read
    groups = int(attribute(node, "group", 1))
    if groups > 1:  # rare enough; what is not treated stays
        tracing.opaque(index, "is a transposed convolution in groups")
        return
    _keep_kernel(tracing, weight)
    _end_at(tracing, index, x[1], 0, 1)
    _follow_bias(tracing, index, bias, weight[1])
    tracing.block(x[2:], node, "moves over this axis")
    tracing.give(node.output[0], (x[0], weight[1], *(None,) * (len(x) - 2)))


def _read_constant(tracing: Tracing, index: int) -> tuple[Axes, Axes, Axes | None] | None:
    """What a convolution reads; None where its weight or bias is computed, which the walk is told."""
    x, weight, bias = tracing.read(index, 0), tracing.read(index, 1), tracing.read(index, 2)
    constant = tracing.model.graph.node[index].input[1] in tracing.constants and _is_constant(tracing, index, 2)
    if x is None:
        tracing.opaque(index, "reads a value of unknown shape")
        return None
    if weight is None or not constant:
        tracing.opaque(index, "has a weight that is computed")
        return None
    return x, weight, bias


def gemm(tracing: Tracing, index: int) -> None:
    """A (rows, in) times a constant B, plus C."""
    node = tracing.model.graph.node[index]
    a, b, c = tracing.read(index, 0), tracing.read(index, 1), tracing.read(index, 2)
    constant = node.input[1] in tracing.constants and _is_constant(tracing, index, 2)
    if a is None:
        tracing.opaque(index, "reads a value of unknown shape")
        return
    if b is None or not constant or attribute(node, "transA", 0):
        tracing.opaque(index, "has a weight that is computed or an input that is transposed")
        return
    inner = 1 if attribute(node, "transB", 0) else 0
    _end_at(tracing, index, a[1], inner, 1)
    made = b[1 - inner]
    if c:
        _follow_bias(tracing, index, c[-1:], made)
        if len(c) > 1 and c[0] is not None:
            tracing.block([c[0]], node, "adds a row for each sample")
            tracing.block([a[0]], node, "adds a row for each sample")
    tracing.give(node.output[0], (a[0], made))


def matmul(tracing: Tracing, index: int) -> None:
    """With a constant matrix on either side it ends and makes channels; of two values the inner axis stays."""
    node = tracing.model.graph.node[index]
    a, b = tracing.read(index, 0), tracing.read(index, 1)
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        tracing.opaque(index, "multiplies vectors or values of unknown shape")
        return
    constants = [name in tracing.constants for name in node.input]
    if constants[1] and len(b) == 2 and not constants[0]:
        _end_at(tracing, index, a[-1], 0, 1)
        tracing.give(node.output[0], (*a[:-1], b[1]))
        return
    tracing.block((a[-1], b[-2]), node, "sums over it without a weight of its own")
    batch = _batch_axes(tracing, index, a, b)
    tracing.give(node.output[0], (*batch, a[-2], b[-1]))


def einsum(tracing: Tracing, index: int) -> None:
    """Letters are axes; what is summed over stays."""
    node = tracing.model.graph.node[index]
    equation = attribute(node, "equation").decode().replace(" ", "")
    operands = [tracing.read(index, i) for i in range(len(node.input))]
    terms = equation.split("->")[0].split(",")
    plain = "->" in equation and set(equation) <= set(ascii_letters + ",->")
    if not plain or any(
        o is None or len(o) != len(t) or len(set(t)) < len(t) for o, t in zip(operands, terms, strict=True)
    ):
        tracing.opaque(index)
        return
    seen: dict[str, Labels] = {}
    result = equation.split("->")[1]
    for term, axes in zip(terms, operands, strict=True):
        for letter, labels in zip(term, axes or (), strict=True):
            if letter not in result:
                tracing.block([labels], node, "sums over it")
            seen[letter] = meet(tracing, index, seen[letter], labels) if letter in seen else labels
    tracing.give(node.output[0], tuple(seen[letter] for letter in result))


def _batch_axes(tracing: Tracing, index: int, a: Axes, b: Axes) -> Axes:
    node = tracing.model.graph.node[index]
    rank = max(len(a), len(b)) - 2
    sides = []
    for name, axes in zip(node.input, (a, b), strict=True):
        missing = rank + 2 - len(axes)
        dims = tracing.shapes.fixed.get(name, (None,) * len(axes))
        sides.append(((1,) * missing + dims[:-2], (None,) * missing + axes[:-2]))
    return tuple(
        meet_sized(tracing, index, [(dims[axis], labels[axis]) for dims, labels in sides]) for axis in range(rank)
    )


def _is_constant(tracing: Tracing, index: int, position: int) -> bool:
    """Whether an optional input is constant or not there."""
    node = tracing.model.graph.node[index]
    name = node.input[position] if position < len(node.input) else ""
    return not name or name in tracing.constants


def _keep_kernel(tracing: Tracing, weight: Axes) -> None:
    for labels in weight[2:]:
        if labels is not None:
            tracing.partition.block(labels, "it is an axis of a kernel")


def _end_at(tracing: Tracing, index: int, labels: Labels, axis: int, groups: int) -> None:
    """Channels of a node's input end at an axis of its weight, which holds those of one group."""
    use = tracing.use_of(index, 1)
    node = tracing.model.graph.node[index]
    own = use.axes[axis] if use is not None else None
    if use is None or own is None or labels is None:
        tracing.block((labels, own), node, "has an input whose channels must stay")
        return
    if len(labels) != groups * len(own):
        tracing.block((labels, own), node, "does not fit its input")
        return
    tracing.partition.unify(labels.reshape(groups, -1), own[None])
    source_axis = 1 if node.op_type != "MatMul" else -1
    tracing.contractions.append(Contraction(use, axis, node.input[0], source_axis, groups))


def _made(tracing: Tracing, labels: Labels, out: int, groups: int) -> Labels:
    """Channels that a convolution makes; every group keeps the same number of them."""
    if labels is None or groups == 1:
        return labels
    grouped = labels.reshape(groups, out // groups)
    tracing.partition.unify(grouped, grouped[:1])
    return labels


def _depthwise(tracing: Tracing, index: int, labels: Labels, own: Labels, multiplier: int) -> Labels:
    node = tracing.model.graph.node[index]
    if labels is None or own is None:
        tracing.block((labels, own), node, "has an input whose channels must stay")
        return None
    out: Array = np.repeat(labels, multiplier)
    tracing.partition.unify(out, own)
    tracing.fix(CountFix(index, "group", labels))
    return out


def _follow_bias(tracing: Tracing, index: int, bias: Axes | None, made: Labels) -> None:
    """A bias has the channels that are made, or is one number for all."""
    if bias and bias[0] is not None:
        meet(tracing, index, bias[0], made)


RULES = {"Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MatMul": matmul, "Einsum": einsum}
