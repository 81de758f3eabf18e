"""Files that another tool has quantised already, wholly or in part."""

from __future__ import annotations

import numpy as np

from tests.zoo.entry import Entry, case, graph_model, inputs, weight

_ALREADY = "the model is quantised already"


def quantised(values, axis=None):  # type: ignore[no-untyped-def]
    """(int8, scale) of a weight, one scale or one a channel."""
    peak = np.abs(values).max(
        axis=None if axis is None else tuple(i for i in range(values.ndim) if i != axis), keepdims=True
    )
    scale = (peak / 127).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale.reshape(-1) if axis is not None else scale.reshape(())


@case(unchanged=_ALREADY)
def qdq_conv_net(rng: np.random.Generator) -> Entry:
    """Q/DQ around every operator, int8 weights a channel, int32 biases."""
    text = """qdq (float[batch, 3, 16, 16] x) => (float[batch, 24, 1, 1] y) {
        xq = QuantizeLinear(x, s0, z0) xd = DequantizeLinear(xq, s0, z0)
        w1d = DequantizeLinear<axis=0>(w1, s1) b1d = DequantizeLinear<axis=0>(b1, sb1)
        a = Conv<kernel_shape=[3,3]>(xd, w1d, b1d) r = Relu(a)
        rq = QuantizeLinear(r, s2, z2) rd = DequantizeLinear(rq, s2, z2)
        w2d = DequantizeLinear<axis=0>(w2, s3)
        b = Conv<kernel_shape=[3,3]>(rd, w2d)
        bq = QuantizeLinear(b, s0, z0) bd = DequantizeLinear(bq, s0, z0)
        y = GlobalAveragePool(bd)
    }"""
    w1, s1 = quantised(weight(rng, 48, 3, 3, 3), 0)
    w2, s3 = quantised(weight(rng, 24, 48, 3, 3), 0)
    s0, s2 = np.float32(0.04), np.float32(0.02)
    biases = {"b1": rng.integers(-99, 99, 48).astype(np.int32), "sb1": s0 * s1}
    scales = {"s0": s0, "z0": np.uint8(128), "s2": s2, "z2": np.uint8(0), "s1": s1, "s3": s3}
    return Entry(graph_model(text, {"w1": w1, "w2": w2, **biases, **scales}), {"x": inputs(rng, 24, 3, 16, 16)})


@case(unchanged=_ALREADY)
def qoperator_net(rng: np.random.Generator) -> Entry:
    """QLinearConv and QLinearMatMul."""
    text = """qop (float[batch, 4, 12, 12] x) => (float[batch, 1, 20] y) {
        xq = QuantizeLinear(x, s, z)
        a = QLinearConv<kernel_shape=[3,3]>(xq, s, z, w1, s1, zw, s, z)
        p = Reshape(a, shape)
        m = QLinearMatMul(p, s, z, w2, s2, zw, s, z)
        y = DequantizeLinear(m, s, z)
    }"""
    w1, s1 = quantised(weight(rng, 16, 4, 3, 3))
    w2, s2 = quantised(weight(rng, 1600, 20, fan_in=1600))
    scales = {"s": np.float32(0.04), "z": np.uint8(128), "zw": np.int8(0), "s1": s1, "s2": s2}
    weights = {"w1": w1, "w2": w2, "shape": np.array([0, 1, 1600])}
    return Entry(graph_model(text, weights | scales, opset=13), {"x": inputs(rng, 24, 4, 12, 12)})


@case(unchanged=_ALREADY)
def dynamically_quantised(rng: np.random.Generator) -> Entry:
    """DynamicQuantizeLinear with MatMulInteger, and DynamicQuantizeLSTM of com.microsoft."""
    text = """dynamic (float[time, batch, 32] x) => (float[1, batch, 64] h) {
        q, s, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(q, w0, z)
        f = Cast<to=1>(i)
        both = Mul(s, s0)
        d = Mul(f, both)
        y, h = com.microsoft.DynamicQuantizeLSTM<hidden_size=64>(d, w, r, b, , , , , ws, wz, rs, rz)
    }"""
    w0, s0 = quantised(weight(rng, 32, 40, fan_in=32))
    w, ws = quantised(weight(rng, 1, 40, 256, fan_in=40))
    r, rs = quantised(weight(rng, 1, 64, 256, fan_in=64))
    zero = np.zeros(1, np.int8)
    weights = {"w0": w0, "s0": s0, "w": w, "r": r, "b": weight(rng, 1, 512)}
    weights |= {"ws": ws.reshape(1), "wz": zero, "rs": rs.reshape(1), "rz": zero}
    return Entry(graph_model(text, weights, domains={"com.microsoft": 1}), {"x": inputs(rng, 16, 6, 2, 32)})


def packed(rng: np.random.Generator, columns: int, rows: int, block: int = 32) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Weights of a MatMulNBits: 4-bit codes, scales and zero points."""
    blocks = rows // block
    return {
        "codes": rng.integers(0, 256, (columns, blocks, block // 2)).astype(np.uint8),
        "scales": rng.uniform(0.01, 0.03, columns * blocks).astype(np.float32),
        "zeros": np.full(columns * ((blocks + 1) // 2), 0x88, np.uint8),
    }


@case(unchanged=_ALREADY)
def four_bits_everywhere(rng: np.random.Generator) -> Entry:
    """MatMulNBits alone."""
    text = """nbits (float[batch, 1, 128] x) => (float[batch, 1, 200] y) {
        y = com.microsoft.MatMulNBits<K=128, N=200, bits=4, block_size=32>(x, codes, scales, zeros)
    }"""
    return Entry(graph_model(text, packed(rng, 200, 128), domains={"com.microsoft": 1}), {"x": inputs(rng, 24, 1, 128)})


@case(unchanged=_ALREADY)
def eight_bits_in_blocks(rng: np.random.Generator) -> Entry:
    """Blocked DequantizeLinear of opset 21, whose matrix of scales is large enough to be taken for a weight."""
    text = """blocks (float[batch, 1, 256] x) => (float[batch, 1, 160] y) {
        w = DequantizeLinear<axis=0, block_size=16>(codes, scales)
        y = MatMul(x, w)
    }"""
    weights = {
        "codes": rng.integers(-127, 128, (256, 160)).astype(np.int8),
        "scales": rng.uniform(0.001, 0.01, (16, 160)).astype(np.float32),
    }
    return Entry(graph_model(text, weights, opset=21, ir_version=10), {"x": inputs(rng, 24, 1, 256)})


@case(least_ratio=2.5)
def four_bits_behind_a_float_embedding(rng: np.random.Generator) -> Entry:
    """MatMulNBits as ONNX Runtime's quantiser leaves a language model: the embedding is still float."""
    text = """lm (int64[batch, length] ids) => (float[batch, length, 300] y) {
        e = Gather(table, ids)
        y = com.microsoft.MatMulNBits<K=128, N=300, bits=4, block_size=32>(e, codes, scales, zeros)
    }"""
    weights = {"table": weight(rng, 300, 128, fan_in=1), **packed(rng, 300, 128)}
    return Entry(graph_model(text, weights, domains={"com.microsoft": 1}), {"ids": rng.integers(0, 300, (16, 7))})


@case(least_ratio=1.5)
def half_quantised(rng: np.random.Generator) -> Entry:
    """A Q/DQ convolution in front of float layers."""
    text = """half (float[batch, 3, 12, 12] x) => (float[batch, 1, 64] y) {
        xq = QuantizeLinear(x, s0, z0) xd = DequantizeLinear(xq, s0, z0)
        w1d = DequantizeLinear<axis=0>(w1, s1)
        a = Conv<kernel_shape=[3,3]>(xd, w1d) r = Relu(a)
        f = Reshape(r, shape)
        b = MatMul(f, w2) t = Tanh(b) y = MatMul(t, w3)
    }"""
    w1, s1 = quantised(weight(rng, 8, 3, 3, 3), 0)
    weights = {
        "w1": w1,
        "s1": s1,
        "s0": np.float32(0.04),
        "z0": np.uint8(128),
        "shape": np.array([0, 1, 800]),
        "w2": weight(rng, 800, 32, fan_in=400),
        "w3": weight(rng, 32, 64, fan_in=32),
    }
    return Entry(graph_model(text, weights), {"x": inputs(rng, 24, 3, 12, 12)})
