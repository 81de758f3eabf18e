"""Element types and kinds of values that are not float32 tensors."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.entry import Entry, case, graph_model, inputs, weight
from tests.zoo.storage import dense, dense_weights


def converted(entry: Entry, dtype: type, kind: int) -> Entry:
    """The entry with every float of another width."""
    graph = entry.model.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = kind
    return Entry(entry.model, {k: v.astype(dtype) for k, v in entry.arrays.items()})


@case(least_ratio=7.0)
def float64(rng: np.random.Generator) -> Entry:
    """Everything in double."""
    return converted(dense(rng), np.float64, TensorProto.DOUBLE)


@case(least_ratio=1.7)
def float16(rng: np.random.Generator) -> Entry:
    """Everything in half."""
    return converted(dense(rng), np.float16, TensorProto.FLOAT16)


@case()
def image_in_bytes(rng: np.random.Generator) -> Entry:
    """uint8 pixels, cast and scaled in the graph."""
    text = """bytes (uint8[batch, 16, 16, 3] pixels) => (float[batch, 32, 1, 1] y) {
        f = Cast<to=1>(pixels)
        s = Sub(f, mean)
        d = Div(s, std)
        t = Transpose<perm=[0,3,1,2]>(d)
        a = Conv<kernel_shape=[5,5]>(t, w1, b1)
        r = Relu(a)
        b = Conv<kernel_shape=[3,3]>(r, w2, b2)
        y = GlobalAveragePool(b)
    }"""
    weights = {
        "mean": np.array([123, 117, 104], np.float32),
        "std": np.array([58, 57, 57], np.float32),
        "w1": weight(rng, 48, 3, 5, 5),
        "b1": weight(rng, 48),
        "w2": weight(rng, 32, 48, 3, 3),
        "b2": weight(rng, 32),
    }
    return Entry(graph_model(text, weights), {"pixels": rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)})


@case()
def int8_features(rng: np.random.Generator) -> Entry:
    """int8 in, scaled by a Cast and Mul, int8 out."""
    text = """small (int8[batch, 1, 64] x) => (int8[batch, 1, 48] y) {
        f = Cast<to=1>(x) s = Mul(f, scale) a = MatMul(s, w1) ab = Add(a, b1) r = Relu(ab) b = MatMul(r, w2)
        c = Clip(b, lo, hi) up = Mul(c, twenty) y = Cast<to=3>(up)
    }"""
    extra = {"scale": np.float32(1 / 64), "lo": np.float32(-6), "hi": np.float32(6), "twenty": np.float32(20)}
    weights = {k: v for k, v in dense_weights(rng).items() if k != "b2"}
    arrays = {"x": rng.integers(-128, 128, (24, 1, 64)).astype(np.int8)}
    return Entry(graph_model(text, weights | extra), arrays)


@case()
def words_as_strings(rng: np.random.Generator) -> Entry:
    """Strings in, looked up by LabelEncoder."""
    text = """words (string[batch, 1] word) => (float[batch, 1, 48] y) {
        id = ai.onnx.ml.LabelEncoder<keys_strings=["cat","dog","edgekit"], values_int64s=[1,2,3], default_int64=0>(word)
        e = Gather(table, id)
        a = MatMul(e, w1)
        b = Tanh(a)
        y = MatMul(b, w2)
    }"""
    weights = {"table": weight(rng, 4, 64, fan_in=1), **{k: v for k, v in dense_weights(rng).items() if "w" in k}}
    feeds = {"word": np.array([["cat"], ["dog"], ["none"]], dtype=object)}
    return Entry(graph_model(text, weights, domains={"ai.onnx.ml": 2}), feeds=feeds)


@case()
def sequence_in_and_out(rng: np.random.Generator) -> Entry:
    """A sequence of tensors in, one out."""
    text = """seq (seq(float[n, 64]) parts) => (float[n, 48] y, seq(float[n, 48]) pieces) {
        x = ConcatFromSequence<axis=0>(parts)
        a = MatMul(x, w1)
        b = Tanh(a)
        y = MatMul(b, w2)
        pieces = SplitToSequence<axis=0>(y, two)
    }"""
    weights = {"two": np.array(2), **{k: v for k, v in dense_weights(rng).items() if "w" in k}}
    return Entry(graph_model(text, weights), feeds={"parts": [inputs(rng, 2, 64), inputs(rng, 4, 64)]})


@case()
def optional_value(rng: np.random.Generator) -> Entry:
    """An optional made, asked and opened inside the graph, and one as an output of an If."""
    text = """opt (float[batch, 1, 64] x, bool use) => (float[batch, 1, 48] y) {
        o = Optional(x)
        there = OptionalHasElement(o)
        z = OptionalGetElement(o)
        a = MatMul(z, w1)
        both = And(there, use)
        b = If (both) <
            then_branch = yes () => (float[batch, 1, 160] t) { t = Tanh(a) },
            else_branch = no () => (float[batch, 1, 160] t) { t = Relu(a) }
        >
        y = MatMul(b, w2)
    }"""
    weights = {k: v for k, v in dense_weights(rng).items() if "w" in k}
    arrays = {"x": inputs(rng, 16, 2, 1, 64), "use": np.arange(16) % 2 == 0}
    return Entry(graph_model(text, weights, opset=18), arrays)


@case()
def scalars(rng: np.random.Generator) -> Entry:
    """A scalar input, a scalar output, scalar weights and a 1x1 matrix."""
    text = """scalars (float[batch, 1, 64] x, float gain) => (float[batch, 1, 48] y, float peak) {
        g = Mul(x, gain) a = MatMul(g, w1) t = Tanh(a) s = Mul(t, unit) b = MatMul(s, w2) y = Add(b, shift)
        peak = ReduceMax<keepdims=0>(y)
    }"""
    extra = {"unit": np.ones((1, 1), np.float32), "shift": np.float32(0.1)}
    weights = extra | {k: v for k, v in dense_weights(rng).items() if "w" in k}
    arrays = {"x": inputs(rng, 16, 2, 1, 64), "gain": np.linspace(0.5, 2, 16).astype(np.float32)}
    return Entry(graph_model(text, weights), arrays)


@case()
def zero_size_tensors(rng: np.random.Generator) -> Entry:
    """Weights without elements, a Concat with nothing, an empty roi of Resize."""
    text = """empty (float[batch, 1, 64] x) => (float[batch, 1, 48] y, float[batch, 1, 0] none) {
        c = Concat<axis=2>(x, nothing_of) a = MatMul(c, w1) r = Resize<mode="nearest">(a, roi, scales)
        b = Relu(r) y = MatMul(b, w2) none = MatMul(b, nothing)
    }""".replace("c = Concat<axis=2>(x, nothing_of)", "z = MatMul(x, narrow) c = Concat<axis=2>(x, z)")
    extra = {
        "narrow": np.zeros((64, 0), np.float32),
        "nothing": np.zeros((160, 0), np.float32),
        "roi": np.zeros(0, np.float32),
        "scales": np.ones(3, np.float32),
    }
    weights = extra | {k: v for k, v in dense_weights(rng).items() if "w" in k}
    return Entry(graph_model(text, weights), {"x": inputs(rng, 24, 1, 64)})


@case(unchanged="no float weights|worth")
def no_float_at_all(rng: np.random.Generator) -> Entry:
    """Integers in, integers out, a table of integers."""
    text = "ints (int64[batch, 3] x) => (int64[batch, 3, 4] y) { g = Gather(table, x) y = Add(g, one) }"
    weights = {"table": rng.integers(0, 9, (50, 4)), "one": np.array(1)}
    return Entry(graph_model(text, weights), {"x": rng.integers(0, 50, (8, 3))})


@case(unchanged="no float weights|worth")
def decision_trees(rng: np.random.Generator) -> Entry:
    """A forest of ai.onnx.ml: its numbers are thresholds in attributes, no weights."""
    trees, depth = 8, 3
    inner, leaves = 2**depth - 1, 2**depth
    nodes = [(t, n) for t in range(trees) for n in range(inner + leaves)]
    targets = [(t, inner + n) for t in range(trees) for n in range(leaves)]
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[t for t, _ in nodes],
        nodes_nodeids=[n for _, n in nodes],
        nodes_featureids=[int(rng.integers(0, 6)) if n < inner else 0 for _, n in nodes],
        nodes_values=[float(rng.normal()) if n < inner else 0.0 for _, n in nodes],
        nodes_modes=["BRANCH_LEQ" if n < inner else "LEAF" for _, n in nodes],
        nodes_truenodeids=[2 * n + 1 if n < inner else 0 for _, n in nodes],
        nodes_falsenodeids=[2 * n + 2 if n < inner else 0 for _, n in nodes],
        target_treeids=[t for t, _ in targets],
        target_nodeids=[n for _, n in targets],
        target_ids=[0] * len(targets),
        target_weights=[float(rng.normal()) for _ in targets],
    )
    model = graph_model(
        "trees (float[batch, 6] x) => (float[batch, 1] y) { y = Identity(x) }", {}, domains={"ai.onnx.ml": 3}
    )
    model.graph.node[0].CopyFrom(node)
    return Entry(model, {"x": inputs(rng, 8, 6)})


@case()
def outputs_that_pass_through(rng: np.random.Generator) -> Entry:
    """An output that is an input, one that is a weight, one value given out twice."""
    entry = dense(rng)
    graph = entry.model.graph
    graph.node.append(helper.make_node("Identity", ["x"], ["same"]))
    graph.node.append(helper.make_node("Identity", ["y"], ["again"]))
    for name, shape in (
        ("same", ["batch", 1, 64]),
        ("again", ["batch", 1, 48]),
        ("b1", [160]),
        ("ar", ["batch", 1, 160]),
    ):
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return entry
