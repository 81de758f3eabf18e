"""Attention, embeddings and matrix products in the ways that exporters write them."""

from __future__ import annotations

import numpy as np

from tests.zoo.entry import Entry, case, decisive, graph_model, inputs, weight

WIDTH = 64


def layer_norm(name: str, width: int = WIDTH) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {f"{name}_g": np.ones(width, np.float32), f"{name}_b": np.zeros(width, np.float32)}


def square(rng: np.random.Generator, *names: str) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {n: weight(rng, WIDTH, WIDTH, fan_in=WIDTH) for n in names}


@case()
def encoder_with_padding_mask(rng: np.random.Generator) -> Entry:
    """Dynamic batch and length, shapes computed in the graph, a mask of -3.4e38 made by Expand, Cast, Where and Mul."""
    text = """bert (int64[batch, length] input_ids, int64[batch, length] attention_mask)
            => (float[batch, length, 64] last_hidden_state) {
        shape = Shape(input_ids)
        length_ = Gather<axis=0>(shape, i1)
        ends = Unsqueeze(length_, ax0)
        at = Slice(positions, zero1, ends, ax1)
        words = Gather(embedding, input_ids)
        places = Gather(placing, at)
        e = Add(words, places)
        en = LayerNormalization<axis=-1>(e, n0_g, n0_b)
        m3 = Unsqueeze(attention_mask, ax12)
        batch_ = Gather<axis=0>(shape, i0)
        b1 = Unsqueeze(batch_, ax0)
        full = Concat<axis=0>(b1, one1, ends, ends)
        wide = Expand(m3, full)
        mf = Cast<to=1>(wide)
        off = Sub(one, mf)
        is_off = Cast<to=9>(off)
        mask = Where(is_off, lowest, off)
        q0 = MatMul(en, wq) q1 = Add(q0, bq) q2 = Reshape(q1, heads) q = Transpose<perm=[0,2,1,3]>(q2)
        k0 = MatMul(en, wk) k1 = Add(k0, bk) k2 = Reshape(k1, heads) k = Transpose<perm=[0,2,3,1]>(k2)
        v0 = MatMul(en, wv) v1 = Add(v0, bv) v2 = Reshape(v1, heads) v = Transpose<perm=[0,2,1,3]>(v2)
        s0 = MatMul(q, k) s1 = Div(s0, four) s2 = Add(s1, mask) p = Softmax<axis=-1>(s2)
        c0 = MatMul(p, v) c1 = Transpose<perm=[0,2,1,3]>(c0) c2 = Reshape(c1, merged)
        o0 = MatMul(c2, wo) o1 = Add(o0, bo) r1 = Add(o1, en)
        x1 = LayerNormalization<axis=-1>(r1, n1_g, n1_b)
        f0 = MatMul(x1, w1) f1 = Add(f0, b1_)
        g0 = Div(f1, root2) g1 = Erf(g0) g2 = Add(g1, one) g3 = Mul(f1, g2) g4 = Mul(g3, half)
        f2 = MatMul(g4, w2) f3 = Add(f2, b2_) r2 = Add(f3, x1)
        last_hidden_state = LayerNormalization<axis=-1>(r2, n2_g, n2_b)
    }"""
    constants = {
        "i0": np.array(0),
        "i1": np.array(1),
        "ax0": np.array([0]),
        "ax1": np.array([1]),
        "ax12": np.array([1, 2]),
        "zero1": np.array([0]),
        "one1": np.array([1]),
        "heads": np.array([0, 0, 4, 16]),
        "merged": np.array([0, 0, 64]),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "root2": np.float32(2**0.5),
        "four": np.float32(4),
        "lowest": np.float32(np.finfo(np.float32).min),
        "positions": np.arange(128)[None],
    }
    weights = {
        "embedding": weight(rng, 500, WIDTH, fan_in=1),
        "placing": weight(rng, 128, WIDTH, fan_in=4),
        **square(rng, "wq", "wk", "wv", "wo"),
        **{n: weight(rng, WIDTH) for n in ("bq", "bk", "bv", "bo", "b2_")},
        "w1": weight(rng, WIDTH, 256, fan_in=WIDTH),
        "b1_": weight(rng, 256),
        "w2": weight(rng, 256, WIDTH, fan_in=256),
        **layer_norm("n0"),
        **layer_norm("n1"),
        **layer_norm("n2"),
    }
    ids = rng.integers(1, 500, (24, 20))
    mask = (np.arange(20) < rng.integers(5, 21, (24, 1))).astype(np.int64)
    return Entry(graph_model(text, constants | weights), {"input_ids": ids * mask, "attention_mask": mask})


@case()
def newest_opset(rng: np.random.Generator) -> Entry:
    """Opset 26: RMSNormalization, RotaryEmbedding, Attention, Swish and Gelu as single operators."""
    text = """llama (int64[batch, length] ids) => (float[batch, length, 64] y) {
        e = Gather(embedding, ids)
        n = RMSNormalization<axis=-1>(e, g1)
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        v = MatMul(n, wv)
        a = Attention<q_num_heads=4, kv_num_heads=4, is_causal=1>(q, k, v)
        o = MatMul(a, wo)
        r = Add(o, e)
        n2 = RMSNormalization<axis=-1>(r, g2)
        up = MatMul(n2, w1)
        gate = MatMul(n2, w2)
        act = Gelu(gate)
        both = Mul(up, act)
        down = MatMul(both, w3)
        y = Add(down, r)
    }"""
    weights = {
        "embedding": weight(rng, 400, WIDTH, fan_in=1),
        **square(rng, "wq", "wk", "wv", "wo"),
        "g1": np.ones(WIDTH, np.float32),
        "g2": np.ones(WIDTH, np.float32),
        "w1": weight(rng, WIDTH, 160, fan_in=WIDTH),
        "w2": weight(rng, WIDTH, 160, fan_in=WIDTH),
        "w3": weight(rng, 160, WIDTH, fan_in=160),
    }
    return Entry(graph_model(text, weights, opset=26, ir_version=13), {"ids": rng.integers(0, 400, (24, 16))})


@case()
def fused_by_onnxruntime(rng: np.random.Generator) -> Entry:
    """What ONNX Runtime's transformer optimiser writes: com.microsoft Attention, SkipLayerNormalization, BiasGelu."""
    text = """fused (float[batch, length, 64] x, int32[batch] lengths) => (float[batch, length, 64] y) {
        a = com.microsoft.Attention<num_heads=4>(x, wqkv, bqkv, lengths)
        o = MatMul(a, wo)
        n1 = com.microsoft.SkipLayerNormalization(o, x, g1, c1, bo)
        f = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(n1, w1)
        h = com.microsoft.BiasGelu(f, b1)
        d = MatMul(h, w2)
        y = com.microsoft.SkipLayerNormalization(d, n1, g2, c2, b2)
    }"""
    weights = {
        "wqkv": weight(rng, WIDTH, 3 * WIDTH, fan_in=WIDTH),
        "bqkv": weight(rng, 3 * WIDTH),
        **square(rng, "wo"),
        "w1": weight(rng, 256, WIDTH),
        "w2": weight(rng, 256, WIDTH, fan_in=256),
        "b1": weight(rng, 256),
        **{n: weight(rng, WIDTH) for n in ("bo", "b2", "c1", "c2")},
        **{n: np.ones(WIDTH, np.float32) for n in ("g1", "g2")},
    }
    arrays = {"x": inputs(rng, 24, 12, WIDTH), "lengths": np.full(24, 12, np.int32)}
    return Entry(graph_model(text, weights, domains={"com.microsoft": 1}), arrays)


@case()
def one_weight_for_embedding_and_head(rng: np.random.Generator) -> Entry:
    """Tied weights: Gather reads the matrix, MatMul its Transpose; a second Gather reads it too."""
    text = """tied (int64[batch, length] ids, int64[batch] first)
            => (float[batch, length, 600] logits, float[batch, 48] start) {
        x = Gather(table, ids)
        h0 = MatMul(x, w)
        h = Tanh(h0)
        head = Transpose<perm=[1,0]>(table)
        logits = MatMul(h, head)
        start = Gather(table, first)
    }"""
    weights = {"table": weight(rng, 600, 48, fan_in=4), "w": weight(rng, 48, 48, fan_in=48)}
    arrays = {"ids": rng.integers(0, 600, (16, 9)), "first": rng.integers(0, 600, 16)}
    return Entry(graph_model(text, weights), arrays)


@case(least_ratio=3.0)
def gemm_in_every_form(rng: np.random.Generator) -> Entry:
    """transA, transB, alpha, beta, no bias, a scalar bias, a matrix as bias."""
    text = """gemms (float[batch, 64] x) => (float[64, 1, 48] y) {
        a = Gemm<alpha=0.5, beta=2.0>(x, w1, b1)
        b = Gemm<transB=1>(a, w2)
        c = Gemm<transB=1, beta=0.1>(b, w3, b3)
        d = Gemm<transA=1, alpha=0.1>(c, x)
        e = Gemm<transA=1, transB=1>(d, w4, b4)
        y = Unsqueeze(e, one)
    }"""
    weights = {
        "one": np.array([1]),
        "w1": weight(rng, 64, 96, fan_in=64),
        "b1": weight(rng, 96),
        "w2": weight(rng, 128, 96),
        "w3": weight(rng, 80, 128),
        "b3": np.float32(0.3),
        "w4": weight(rng, 48, 80),
        "b4": weight(rng, 64, 48),
    }
    return Entry(graph_model(text, weights), {"x": inputs(rng, 24, 64)})


@case()
def weight_on_the_left(rng: np.random.Generator) -> Entry:
    """MatMul with its weight first, a batch of weights, and one matrix used from both sides."""
    text = """left (float[batch, 64, 20] x) => (float[batch, 4, 64, 20] y) {
        a = MatMul(w1, x)
        b = Tanh(a)
        c = MatMul(w1, b)
        t = Transpose<perm=[0,2,1]>(c)
        d = MatMul(t, w1)
        u = Transpose<perm=[0,2,1]>(d)
        v = Unsqueeze(u, one)
        y = MatMul(w2, v)
    }"""
    weights = {
        "w1": weight(rng, 64, 64, fan_in=64),
        "w2": weight(rng, 4, 64, 64, fan_in=64),
        "one": np.array([1]),
    }
    return Entry(graph_model(text, weights), {"x": inputs(rng, 24, 64, 20)})


@case()
def einsum(rng: np.random.Generator) -> Entry:
    """Heads projected and joined by Einsum."""
    text = """einsums (float[batch, length, 64] x) => (float[batch, length, 64] y) {
        q = Einsum<equation="btd,dhk->bthk">(x, wq)
        k = Einsum<equation="btd,dhk->bthk">(x, wk)
        s = Einsum<equation="bthk,bshk->bhts">(q, k)
        s1 = Div(s, four)
        p = Softmax<axis=-1>(s1)
        v = Einsum<equation="btd,dhk->bthk">(x, wv)
        c = Einsum<equation="bhts,bshk->bthk">(p, v)
        y = Einsum<equation="bthk,hkd->btd">(c, wo)
    }"""
    weights = {n: weight(rng, 64, 4, 16, fan_in=64) for n in ("wq", "wk", "wv")}
    weights |= {"wo": weight(rng, 4, 16, 64, fan_in=64), "four": np.float32(4)}
    return Entry(graph_model(text, weights), {"x": inputs(rng, 24, 10, 64)})


@case()
def classifier_of_features(rng: np.random.Generator) -> Entry:
    """An MLP as scikit-learn's converter writes it: MatMul, Add, Relu, and the label by ArgMax."""
    text = """mlp (float[batch, 40] features) => (float[batch, 8] scores, int64[batch] label) {
        a = MatMul(features, w1)
        ab = Add(a, b1)
        ar = Relu(ab)
        b = MatMul(ar, w2)
        bb = Add(b, b2)
        br = Relu(bb)
        c = MatMul(br, w3)
        scores = Add(c, b3)
        label = ArgMax<axis=1, keepdims=0>(scores)
    }"""
    weights = {
        "w1": weight(rng, 40, 160, fan_in=40),
        "b1": weight(rng, 1, 160),
        "w2": weight(rng, 160, 160, fan_in=160),
        "b2": weight(rng, 1, 160),
        "w3": weight(rng, 160, 8, fan_in=60),
        "b3": weight(rng, 1, 8),
    }
    return decisive(Entry(graph_model(text, weights, opset=15), {"features": inputs(rng, 96, 40)}))


_LAYER = """
    m{0} = ReduceMean<axes=[-1]>(x{0}) c{0} = Sub(x{0}, m{0}) s{0} = Pow(c{0}, two) v{0} = ReduceMean<axes=[-1]>(s{0})
    e{0} = Add(v{0}, epsilon) r{0} = Sqrt(e{0}) n{0} = Div(c{0}, r{0}) g{0} = Mul(n{0}, gain) b{0} = Add(g{0}, offset)
    u{0} = MatMul(b{0}, w{0}) a{0} = Add(u{0}, offset)
    d{0} = Div(a{0}, root2) f{0} = Erf(d{0}) h{0} = Add(f{0}, one) i{0} = Mul(a{0}, h{0}) j{0} = Mul(i{0}, half)
    x{1} = Add(j{0}, x{0})
"""


@case(least_ratio=2.0)
def three_thousand_nodes(rng: np.random.Generator) -> Entry:
    """177 layers of 17 nodes: norms and GELUs taken apart, as exporters before opset 17 wrote them."""
    layers = "".join(_LAYER.format(n, n + 1) for n in range(177))
    text = f"deep (float[batch, 4, 32] x0) => (float[batch, 4, 32] y) {{ {layers} y = Identity(x177) }}"
    weights: dict[str, object] = {"two": np.float32(2), "epsilon": np.float32(1e-5), "root2": np.float32(2**0.5)}
    weights |= {"one": np.float32(1), "half": np.float32(0.5), "gain": np.ones(32, "f"), "offset": np.zeros(32, "f")}
    weights |= {f"w{n}": weight(rng, 32, 32, fan_in=32) for n in range(177)}
    return Entry(graph_model(text, weights, opset=13), {"x0": inputs(rng, 4, 4, 32)})
