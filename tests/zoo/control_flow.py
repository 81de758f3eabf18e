"""Weights inside branches, loops, scans and local functions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.graph.read import every_graph
from tests.zoo.entry import Entry, case, graph_model, inputs, weight
from tests.zoo.recurrent import whole


def put_into_subgraphs(model, *holdings) -> None:  # type: ignore[no-untyped-def]
    """Give the model's subgraphs, in their order, initializers of their own."""
    for graph, weights in zip(list(every_graph(model))[1:], holdings, strict=True):
        graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())


@case()
def branches_with_weights_of_one_name(rng: np.random.Generator) -> Entry:
    """Both branches of an If hold a weight `w`, a value `h` and nodes called as the main graph's."""
    text = """branches (float[batch, 64] x, bool wide) => (float[batch, 1, 64] y) {
        a = MatMul(x, first)
        r = Relu(a)
        z = If (wide) <
            then_branch = yes () => (float[batch, 64] o) { h = MatMul(r, w) o = Tanh(h) },
            else_branch = no () => (float[batch, 64] o) { h = Gemm<transB=1>(r, w, b) o = Sigmoid(h) }
        >
        y = Unsqueeze(z, one)
    }"""
    weights = {"first": weight(rng, 64, 128, fan_in=64), "one": np.array([1])}
    model = graph_model(text, weights, opset=16)
    put_into_subgraphs(
        model, {"w": weight(rng, 128, 64, fan_in=128)}, {"w": weight(rng, 64, 128), "b": weight(rng, 64)}
    )
    for graph in every_graph(model):
        for i, node in enumerate(graph.node):
            node.name = f"layer{i}"
    arrays = whole(x=inputs(rng, 16, 3, 64), wide=np.arange(16) % 2 == 0)
    return Entry(model, arrays)


@case()
def loop_with_weights(rng: np.random.Generator) -> Entry:
    """A Loop whose body has an initializer, a Constant with weights and a captured weight."""
    text = """loop (float[batch, 48] x, int64 count) => (float[batch, 1, 48] y) {
        go = Constant<value = bool {1}>()
        z = Loop (count, go, x) <body = step (int64 i, bool c, float[batch, 48] h) => (bool c2, float[batch, 48] h2) {
            c2 = Identity(c)
            a = MatMul(h, inner)
            b = MatMul(a, held)
            d = MatMul(b, outer)
            e = Add(d, h)
            h2 = Tanh(e)
        }>
        y = Unsqueeze(z, one)
    }"""
    model = graph_model(text, {"outer": weight(rng, 96, 48, fan_in=96), "one": np.array([1])}, opset=16)
    put_into_subgraphs(model, {"inner": weight(rng, 48, 96, fan_in=48)})
    hold_as_constants(model, {"held": weight(rng, 96, 96, fan_in=96)})
    return Entry(model, whole(x=inputs(rng, 16, 2, 48), count=np.full(16, 3)))


def hold_as_constants(model, weights) -> None:  # type: ignore[no-untyped-def]
    """Put Constant nodes with these values in front of the nodes of the innermost subgraph."""
    put_constants_first(list(every_graph(model))[-1], weights)


def put_constants_first(graph, weights) -> None:  # type: ignore[no-untyped-def]
    """Put Constant nodes with these values in front of a graph's nodes."""
    nodes = [helper.make_node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in weights.items()]
    nodes += [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@case()
def scan_with_weights(rng: np.random.Generator) -> Entry:
    """A recurrent cell as the body of a Scan."""
    text = """scan (float[time, batch, 32] x, float[batch, 80] h0)
            => (float[batch, 80] last, float[time, batch, 80] all) {
        last, all = Scan (h0, x) <num_scan_inputs = 1, body = cell (float[batch, 80] h, float[batch, 32] now)
            => (float[batch, 80] h2, float[batch, 80] out) {
                a = MatMul(now, w)
                b = MatMul(h, u)
                s = Add(a, b)
                t = Add(s, bias)
                h2 = Tanh(t)
                out = Identity(h2)
            }>
    }"""
    model = graph_model(text, {}, opset=16)
    put_into_subgraphs(
        model,
        {"w": weight(rng, 32, 80, fan_in=32), "u": weight(rng, 80, 80, fan_in=100), "bias": weight(rng, 80)},
    )
    arrays = whole(x=inputs(rng, 16, 6, 2, 32), h0=inputs(rng, 16, 2, 80) * 0.1)
    return Entry(model, arrays)


@case(least_ratio=3.0)
def branch_in_a_loop_that_shadows(rng: np.random.Generator) -> Entry:
    """An If in a Loop; three scopes each define `w` and `h`, and the innermost reads the outermost's `v`."""
    text = """nested (float[batch, 40] x) => (float[batch, 1, 40] y) {
        go = Constant<value = bool {1}>()
        two = Constant<value = int64 {2}>()
        h = MatMul(x, v)
        start = Relu(h)
        z = Loop (two, go, start) <body = step (int64 i, bool c, float[batch, 40] s) => (bool c2, float[batch, 40] s2) {
            c2 = Identity(c)
            k = MatMul(s, w)
            even = Equal(i, zero)
            s2 = If (even) <
                then_branch = yes () => (float[batch, 40] o) { g = MatMul(k, u) o = Tanh(g) },
                else_branch = no () => (float[batch, 40] o) { g = MatMul(k, u) g2 = MatMul(g, v) o = Tanh(g2) }
            >
        }>
        y = Unsqueeze(z, one)
    }"""
    model = graph_model(text, {"v": weight(rng, 40, 40, fan_in=40), "one": np.array([1])}, opset=16)
    put_into_subgraphs(
        model,
        {"w": weight(rng, 40, 40, fan_in=40), "zero": np.array(0)},
        {"u": weight(rng, 40, 40, fan_in=40)},
        {"u": weight(rng, 40, 40, fan_in=40)},
    )
    return Entry(model, {"x": inputs(rng, 16, 40)})


@case()
def local_functions(rng: np.random.Generator) -> Entry:
    """A function that is called twice, with weights in its body, a default attribute and a function inside it."""
    dense = """<opset_import: ["": 17], domain: "mine"> dense <slope>(x, w, b) => (y) {
        a = MatMul(x, w)
        s = Add(a, b)
        y = LeakyRelu<alpha: float = @slope>(s)
    }"""
    block = """<opset_import: ["": 17, "mine": 1], domain: "mine"> block (x, w, b) => (y) {
        m = mine.dense<slope=0.2>(x, w, b)
        y = Add(m, x)
    }"""
    text = """functions (float[batch, 72] x) => (float[batch, 1, 72] y) {
        a = mine.block(x, w1, b1)
        b = mine.block(a, w2, b2)
        c = mine.dense<slope=0.1>(b, w3, b3)
        y = Unsqueeze(c, one)
    }"""
    weights = {"one": np.array([1])}
    for i in (1, 2, 3):
        weights |= {f"w{i}": weight(rng, 72, 72, fan_in=72), f"b{i}": weight(rng, 72)}
    model = graph_model(text, weights, domains={"mine": 1}, functions=(dense, block))
    return Entry(model, {"x": inputs(rng, 32, 72)})
