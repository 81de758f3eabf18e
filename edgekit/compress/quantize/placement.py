"""Which nodes run in int8 and which tensors are quantised for them.

Nodes with weights ask for their inputs. Around them, additions, pools and reshapes are taken along only where both
sides are quantised anyway: a lone Q/DQ pair costs more time than an int8 kernel of such a node saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import numpy_helper

from edgekit.compress.technique import ExcludedNode
from edgekit.graph.read import every_graph
from edgekit.graph.scopes import attribute
from edgekit.specs import Array

WEIGHTED = frozenset(("Conv", "Gemm", "MatMul"))
# Same values in another order or fewer of them: they keep their input's scale, and ONNX Runtime then moves bytes.
PASSING = frozenset(("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
# ONNX Runtime has an int8 kernel for each, HardSigmoid's is that of Add; every float input must be quantised.
JOINING = frozenset(("Add", "AveragePool", "Concat", "GlobalAveragePool", "HardSigmoid", "LeakyRelu", "Mul", "Sigmoid"))
CLIPPING = frozenset(("Clip", "Relu"))
# On one AVX512-VNNI core, int8 convolutions smaller than this lose to float ones at a network's entry (0.82 -> 0.70 of
# fp32's time on a MobileNet). The tensor behind them has to be quantised in any case, so it costs no extra pair.
SMALL_ENTRY_WEIGHTS = 512
_QUANTISED_OPS = frozenset(("DequantizeLinear", "QuantizeLinear"))


@dataclass(frozen=True)
class Placement:
    """Which nodes run in int8. Nodes are named by their first output, which is unique in any valid graph.

    Attributes:
        nodes: First outputs of the nodes that run in int8.
        tensors: Every quantised tensor, with the tensor whose scale it takes: itself, or the input of a reshape.
        clipped: Output of a Relu or Clip behind an int8 node -> the output of that node.
        shifted: Output of an Add of one number behind an int8 node -> the output of that node.
        left: Nodes with weights that stay in float, and why.
    """

    nodes: frozenset[str] = frozenset()
    tensors: Mapping[str, str] = field(default_factory=dict)
    clipped: Mapping[str, str] = field(default_factory=dict)
    shifted: Mapping[str, str] = field(default_factory=dict)
    left: tuple[ExcludedNode, ...] = ()

    @property
    def observed(self) -> list[str]:
        """The tensors whose ranges are needed."""
        return list(dict.fromkeys(self.tensors.values()))


class Wiring:
    """Who makes and who reads every tensor of a main graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        inner = [g for g in every_graph(model) if g is not graph]
        self.outside = {o.name for o in graph.output} | {i for g in inner for n in g.node for i in n.input}
        self.outside |= {o.name for g in inner for o in g.output}
        fed = {i.name for i in graph.input}
        self.constants = {i.name: i for i in graph.initializer if i.name not in fed}
        self.inputs = fed - {i.name for i in graph.initializer}

    def array(self, name: str) -> Array | None:
        """The value of an initializer that cannot be overridden; None for anything else."""
        found = self.constants.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def value(self, name: str) -> Array:
        """The value of an initializer that is known to be there."""
        return numpy_helper.to_array(self.constants[name])

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor, if nothing else does."""
        readers = self.readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outside else None

    def is_float(self, name: str) -> bool:
        """Whether a constant is float32."""
        return name in self.constants and self.constants[name].data_type == onnx.TensorProto.FLOAT


def place(model: onnx.ModelProto, excluded: Iterable[str] = (), *, nvidia: bool = False) -> Placement:
    """Choose the nodes that run in int8.

    Args:
        model: As `graph.normalise` leaves it.
        excluded: Names of nodes that stay in float.
        nvidia: For TensorRT's kernels rather than ONNX Runtime's: the first convolutions of a network are taken along
            although they have next to no weights, and what it fuses in float by itself is left alone.
    """
    wiring = Wiring(model)
    banned = frozenset(excluded)
    weighted, left = _weighted(wiring, banned)
    if not nvidia:
        entry = _small_entry(wiring, weighted)
        weighted -= {n.output[0] for n in entry}
        left += [ExcludedNode(n.name, "so few weights that converting costs more than int8 saves") for n in entry]
    clipped = _clipped(wiring, banned)
    shifted = {} if nvidia else _shifted(wiring, banned)
    tails = {**clipped, **shifted}
    ends = {before: after for after, before in tails.items()}
    wanted = _asked_for(wiring, weighted, ends)
    joining = _joining(wiring, banned, wanted | {ends.get(o, o) for o in weighted}, tails, nvidia=nvidia)
    nodes = set(weighted)
    for node in reversed(wiring.nodes):
        result = node.output[0] if node.output else ""
        if result in joining and ends.get(result, result) in wanted:
            nodes.add(result)
            wanted.update(data_inputs(node))
    return Placement(
        frozenset(nodes), _scales(wiring, wanted, nodes), _behind(clipped, nodes), _behind(shifted, nodes), tuple(left)
    )


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node that carry activations."""
    if node.op_type in ("Add", "Mul", "Concat"):
        return [i for i in node.input if i]
    return [node.input[0]]


def _weighted(wiring: Wiring, banned: frozenset[str]) -> tuple[set[str], list[ExcludedNode]]:
    found, left = set(), []
    for node in wiring.nodes:
        if node.op_type in WEIGHTED and node.domain in ("", "ai.onnx"):
            reason = "asked for" if node.name in banned else _obstacle(wiring, node)
            if reason:
                left.append(ExcludedNode(node.name, reason))
            else:
                found.add(node.output[0])
    return found, left


def _small_entry(wiring: Wiring, weighted: set[str]) -> list[onnx.NodeProto]:
    """The chain of convolutions with few weights that starts at an input; none where nothing would follow it.

    It has to end in a tensor that is read once: a sum of a float branch and an int8 one takes a layout change for each.
    """
    chain: list[onnx.NodeProto] = []
    readers = [n for n in wiring.nodes if n.input and n.input[0] in wiring.inputs]
    node = readers[0] if len(readers) == 1 else None
    while node is not None and (node.op_type in CLIPPING or _is_small(wiring, node, weighted)):
        chain.append(node)
        node = wiring.only_reader(node.output[0])
    found = [n for n in chain if n.output[0] in weighted]
    return found if node is not None and len(found) < len(weighted) else []


def _is_small(wiring: Wiring, node: onnx.NodeProto, weighted: set[str]) -> bool:
    if node.op_type != "Conv" or node.output[0] not in weighted:
        return False
    return math.prod(wiring.constants[node.input[1]].dims) < SMALL_ENTRY_WEIGHTS


def _obstacle(wiring: Wiring, node: onnx.NodeProto) -> str:
    """Why a node with weights cannot run in int8; "" if it can."""
    producer = wiring.producer.get(node.input[0])
    if producer is not None and producer.op_type in _QUANTISED_OPS:
        return "already quantised"
    if not wiring.is_float(node.input[1]):
        return "its second input is no float32 constant"
    if node.input[0] in wiring.constants:
        return "its first input is a constant"
    if node.op_type == "MatMul" and len(wiring.constants[node.input[1]].dims) != 2:
        return "its weight is no matrix"
    if node.op_type == "Gemm" and not _plain_gemm(node):
        return "Gemm with alpha, beta or transA has no int8 kernel"
    return _bias_obstacle(wiring, node)


def _plain_gemm(node: onnx.NodeProto) -> bool:
    return (
        attribute(node, "alpha", 1.0) == 1.0
        and attribute(node, "beta", 1.0) == 1.0
        and not attribute(node, "transA", 0)
    )


def _bias_obstacle(wiring: Wiring, node: onnx.NodeProto) -> str:
    if len(node.input) < 3 or not node.input[2]:
        return ""
    if not wiring.is_float(node.input[2]):
        return "its bias is no float32 constant"
    return "" if len(wiring.constants[node.input[2]].dims) == 1 else "its bias is no vector"


def _clipped(wiring: Wiring, banned: frozenset[str]) -> dict[str, str]:
    """Relu and Clip that are the only reader of what they clip: their output -> their input."""
    return {
        node.output[0]: node.input[0]
        for node in wiring.nodes
        if node.op_type in CLIPPING
        and node.name not in banned
        and wiring.only_reader(node.input[0]) is node
        and getattr(wiring.producer.get(node.input[0]), "op_type", "") not in PASSING | {"HardSigmoid"}
    }


def _shifted(wiring: Wiring, banned: frozenset[str]) -> dict[str, str]:
    """Additions of one number that are the only reader of a product or sum: their output -> that."""
    found = {}
    for node in wiring.nodes:
        if node.op_type != "Add" or node.name in banned:
            continue
        before = [i for i in node.input if i not in wiring.constants]
        if len(before) != 1 or shift_of(wiring, node) is None or wiring.only_reader(before[0]) is not node:
            continue
        if getattr(wiring.producer.get(before[0]), "op_type", "") in ("Add", "Mul"):
            found[node.output[0]] = before[0]
    return found


def shift_of(wiring: Wiring, node: onnx.NodeProto) -> float | None:
    """The one number that an Add adds; None where it adds anything else."""
    values = [wiring.array(i) for i in node.input if wiring.is_float(i)]
    return float(values[0].ravel()[0]) if len(values) == 1 and values[0] is not None and values[0].size == 1 else None


def hard_sigmoid(node: onnx.NodeProto) -> tuple[float, float]:
    """(alpha, beta) of clip(alpha * x + beta, 0, 1)."""
    return float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))


def gates(wiring: Wiring) -> dict[str, float]:
    """Tensors that only a hard sigmoid and products with it read -> the value below which all of that is zero."""
    found = {}
    for node in wiring.nodes:
        if node.op_type == "HardSigmoid" and node.input[0] not in wiring.outside:
            (alpha, beta), x, gate = hard_sigmoid(node), node.input[0], node.output[0]
            others = [n for n in wiring.readers[x] if n is not node]
            if alpha > 0 and all(n.op_type == "Mul" and gate in n.input for n in others):
                found[x] = -beta / alpha
    return found


def _joins(node: onnx.NodeProto, nvidia: bool) -> bool:
    if node.op_type == "HardSigmoid":
        return not nvidia and min(hard_sigmoid(node)) > 0
    return node.op_type in JOINING


def _joining(
    wiring: Wiring, banned: frozenset[str], start: set[str], tails: Mapping[str, str], *, nvidia: bool
) -> set[str]:
    """Outputs of the nodes around those with weights that could run in int8, since all that they read could be int8."""
    possible, joining = set(start), set()
    for node in wiring.nodes:
        if node.name in banned or not node.output:
            continue
        if (node.op_type in PASSING or _joins(node, nvidia)) and all(i in possible for i in data_inputs(node)):
            joining.add(node.output[0])
            possible.add(node.output[0])
        elif tails.get(node.output[0]) in possible:
            possible.add(node.output[0])
    return joining


def _asked_for(wiring: Wiring, weighted: set[str], ends: Mapping[str, str]) -> set[str]:
    """Inputs of the nodes with weights, and outputs of convolutions: those have no kernel from int8 to float."""
    wanted = set()
    for result in weighted:
        node = wiring.producer[result]
        wanted.add(node.input[0])
        if node.op_type == "Conv":
            wanted.add(ends.get(result, result))
    return wanted


def _scales(wiring: Wiring, wanted: set[str], nodes: set[str]) -> dict[str, str]:
    scales: dict[str, str] = {name: name for name in sorted(wanted) if name not in wiring.producer}
    for node in wiring.nodes:
        for name in node.output:
            if name in wanted:
                passes = node.op_type in PASSING and name in nodes
                scales[name] = scales[node.input[0]] if passes else name
    return scales


def _behind(tails: Mapping[str, str], nodes: set[str]) -> dict[str, str]:
    return {after: before for after, before in tails.items() if before in nodes}
