"""Constants of a graph: lifted out of Constant nodes, equal ones made one, folded where that keeps the file small."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.errors import EdgekitError
from edgekit.graph.read import every_graph
from edgekit.graph.scopes import (
    attribute,
    count_uses,
    drop_initializers,
    drop_producers,
    fixed_initializers,
    opset_of,
    rename_uses,
    subgraphs_of,
)
from edgekit.specs import Array

_GROWTH_BYTES = 1024  # a folded result may be this much larger than the constants that it makes superfluous
_RESULT_ELEMENTS = 1 << 24
_FOLDED = """
    Abs Add And Cast Ceil Concat ConstantOfShape Div Equal Exp Expand Flatten Floor Gather GatherElements GatherND
    Greater GreaterOrEqual Identity Less LessOrEqual Log Max Min Mod Mul Neg Not Or Pow Range Reciprocal ReduceMax
    ReduceMin ReduceProd ReduceSum Reshape ScatterND Shape Sign Size Slice Sqrt Squeeze Sub Tile Transpose Trilu
    Unsqueeze Where Xor
"""
_FOLDED_OPS = frozenset(_FOLDED.split())
_KINDS: dict[str, Callable[[onnx.AttributeProto], Array]] = {
    "value_float": lambda a: np.array(a.f, np.float32),
    "value_floats": lambda a: np.array(a.floats, np.float32),
    "value_int": lambda a: np.array(a.i, np.int64),
    "value_ints": lambda a: np.array(a.ints, np.int64),
    "value_string": lambda a: np.array(a.s.decode(), object),
    "value_strings": lambda a: np.array([s.decode() for s in a.strings], object),
}


def lift_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers, in the main graph and in every subgraph.

    A Constant that is itself an output of its graph, or sparse, stays a node; functions have no initializers.
    """
    for graph in _graphs_with_initializers(model):
        outputs = {o.name for o in graph.output}
        lifted = set()
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] not in outputs and (tensor := _constant_of(node)):
                graph.initializer.append(tensor)
                lifted.add(node.output[0])
        drop_producers(graph, lifted)


def _graphs_with_initializers(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    inside = {id(g) for f in model.functions for n in f.node for g in subgraphs_of(n)}
    return [g for g in every_graph(model) if id(g) not in inside]


def _constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    held = node.attribute[0] if len(node.attribute) == 1 else None
    if held is None or held.ref_attr_name:
        return None
    if held.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(held.t)
        tensor.name = node.output[0]
        return tensor
    make = _KINDS.get(held.name)
    return None if make is None else numpy_helper.from_array(make(held), node.output[0])


def dedupe(model: onnx.ModelProto) -> None:
    """Make identical initializers of one graph one; those that callers can override and graph outputs stay."""
    for graph in every_graph(model):
        outputs = {o.name for o in graph.output}
        first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
        renamed: dict[str, str] = {}
        for name, tensor in fixed_initializers(graph).items():
            key = (tensor.data_type, tuple(tensor.dims), _digest(tensor))
            if name not in outputs and first.setdefault(key, name) != name:
                renamed[name] = first[key]
        if renamed:
            rename_uses(graph, renamed)
            drop_initializers(graph, set(renamed))


def _digest(tensor: onnx.TensorProto) -> bytes:
    if tensor.HasField("raw_data"):
        return hashlib.sha256(tensor.raw_data).digest()
    if tensor.data_type == onnx.TensorProto.STRING or tensor.external_data:
        return hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
    return hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).digest()


def fold_constants(model: onnx.ModelProto) -> bool:
    """Replace nodes that only read constants by their results, as ONNX Runtime itself computes them.

    A result stays a node when it would make the file larger by more than a kilobyte (an expanded mask, int8 weights
    with their Cast): those are small on disk and folded when a session loads.

    Returns:
        Whether anything was folded.
    """
    refused: set[str] = set()
    changed = False
    while _fold_wave(model, model.graph, {}, refused):
        changed = True
    return changed


def _fold_wave(
    model: onnx.ModelProto, graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto], refused: set[str]
) -> bool:
    shadowing = {i.name for i in graph.input} | {o for n in graph.node for o in n.output}
    known = {k: v for k, v in outer.items() if k not in shadowing} | fixed_initializers(graph)
    outputs = {o.name for o in graph.output}
    ready = [n for n in graph.node if _is_foldable(n, known, outputs, refused)]
    uses = count_uses(graph) if ready else {}
    done: set[str] = set()
    for name, value in _evaluate(model, ready, known).items():
        node = next(n for n in ready if n.output[0] == name)
        if value.nbytes <= _GROWTH_BYTES + sum(_bytes_freed(known[i], uses[i]) for i in set(node.input) if i):
            graph.initializer.append(numpy_helper.from_array(value, name))
            done.add(name)
    refused.update(n.output[0] for n in ready if n.output[0] not in done)
    if done:
        read = {i for n in ready if n.output[0] in done for i in n.input}
        drop_producers(graph, done)
        drop_initializers(graph, (read - set(count_uses(graph))) & set(fixed_initializers(graph)))
    inner = [g for n in graph.node for g in subgraphs_of(n)]
    return any([bool(done), *(_fold_wave(model, g, known, refused) for g in inner)])


def _is_foldable(
    node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto], outputs: set[str], refused: set[str]
) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type in _FOLDED_OPS
        and len(node.output) == 1
        and node.output[0] not in outputs | refused
        and all(not i or (i in known and known[i].data_type != onnx.TensorProto.STRING) for i in node.input)
        and _elements_made(node, known) <= _RESULT_ELEMENTS
    )


def _elements_made(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> float:
    """How many elements a node would make, where its inputs' values and not their sizes decide that."""
    values = [numpy_helper.to_array(known[i]) for i in node.input[1:] if i]
    if node.op_type == "ConstantOfShape":
        return float(np.prod(numpy_helper.to_array(known[node.input[0]]).astype(np.float64)))
    if node.op_type in ("Expand", "Tile") and values:
        return math.prod(known[node.input[0]].dims) * float(np.prod(values[0].astype(np.float64)))
    if node.op_type == "Range" and len(values) == 2:
        start = float(numpy_helper.to_array(known[node.input[0]]))
        return abs((float(values[0]) - start) / (float(values[1]) or 1.0))
    if node.op_type in ("Gather", "GatherElements", "GatherND") and values:
        row = math.prod(known[node.input[0]].dims) / max(
            1, known[node.input[0]].dims[0] if known[node.input[0]].dims else 1
        )
        return float(values[0].size) * row
    return float(sum(math.prod(known[i].dims) for i in node.input if i))


def _bytes_freed(tensor: onnx.TensorProto, uses: int) -> int:
    if uses > 1:
        return 0
    itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * int(itemsize)


def _evaluate(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], known: Mapping[str, onnx.TensorProto]
) -> dict[str, Array]:
    """Results by name; a node that ONNX Runtime refuses has none."""
    if not nodes:
        return {}
    try:
        return _run(model, nodes, known)
    except EdgekitError:
        if len(nodes) == 1:
            return {}
    middle = len(nodes) // 2
    return _evaluate(model, nodes[:middle], known) | _evaluate(model, nodes[middle:], known)


def _run(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], known: Mapping[str, onnx.TensorProto]
) -> dict[str, Array]:
    from edgekit.ort.session import Session

    names = list(dict.fromkeys(i for n in nodes for i in n.input if i))
    feeds = {name: numpy_helper.to_array(known[name]) for name in names}
    inputs = [helper.make_tensor_value_info(n, known[n].data_type, list(known[n].dims)) for n in names]
    outputs = [n.output[0] for n in nodes]
    graph = helper.make_graph(nodes, "constants", inputs, [onnx.ValueInfoProto(name=o) for o in outputs])
    small = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset_of(model))])
    small.ir_version = max(model.ir_version, 8)
    results = Session(small.SerializeToString(), threads=1, graph_optimization=False).run(feeds)
    return {name: np.asarray(r) for name, r in zip(outputs, results, strict=True) if isinstance(r, np.ndarray)}


def fold_static_shapes(model: onnx.ModelProto) -> bool:
    """Replace sizes that are known by constants, the main graph only.

    Shape and Size of values whose dimensions are all known, and what Gather and Slice take of the shape of a value
    whose dimensions are known in part: exporters write a dynamic batch so that every other size is computed too.

    Returns:
        Whether anything was replaced.
    """
    from edgekit.graph.shapes import infer_shapes

    if not any(n.op_type in ("Shape", "Size") and n.domain in ("", "ai.onnx") for n in model.graph.node):
        return False
    known, outputs = fixed_initializers(model.graph), {o.name for o in model.graph.output}
    sizes: dict[str, Array] = {}
    made: dict[str, Array] = {}
    shapes = infer_shapes(model, cheap=True)
    for node in model.graph.node:
        found = _sizes_made(node, shapes, sizes, known)
        if found is None:
            continue
        sizes[node.output[0]] = found
        if (found >= 0).all() and node.output[0] not in outputs:
            made[node.output[0]] = found
    for name, value in made.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    drop_producers(model.graph, set(made))
    return bool(made)


def _sizes_made(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int | str, ...]],
    sizes: Mapping[str, Array],
    known: Mapping[str, onnx.TensorProto],
) -> Array | None:
    """The sizes that a node gives, int64, with -1 for a dynamic one; None where it gives none."""
    if node.domain not in ("", "ai.onnx") or not node.input:
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
        dims = np.array([d if isinstance(d, int) else -1 for d in shapes[node.input[0]]], np.int64)
        if node.op_type == "Size":
            return np.array(-1 if (dims < 0).any() else math.prod(dims.tolist()), np.int64)
        return dims[attribute(node, "start", 0) : attribute(node, "end")]
    if node.op_type not in ("Gather", "Slice") or node.input[0] not in sizes:
        return None
    if not all(not name or name in known for name in node.input[1:]) or len(node.input) < 2:
        return None
    return _taken(node, sizes[node.input[0]], [numpy_helper.to_array(known[n]) for n in node.input[1:] if n])


def _taken(node: onnx.NodeProto, sizes: Array, read: list[Array]) -> Array | None:
    """What Gather or Slice takes of a list of sizes; None where that is nothing plain."""
    if node.op_type == "Gather":
        return np.asarray(sizes[read[0]]) if sizes.ndim == 1 and (np.abs(read[0] + 0.5) < sizes.size).all() else None
    if len(read) != len(node.input) - 1 or any(r.size != 1 for r in read) or sizes.ndim != 1:
        return None
    start, end, *rest = (int(r.ravel()[0]) for r in read)
    step = rest[1] if len(rest) > 1 else 1
    return sizes[slice(start, end, step)] if step > 0 else None
