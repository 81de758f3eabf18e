"""Convolutional networks, as several exporters of several years wrote them."""

from __future__ import annotations

import numpy as np
from onnx import helper

from edgekit.specs import Array
from tests.zoo.entry import Entry, case, decisive, graph_model, inputs, renamed, weight


def batch_norm(rng: np.random.Generator, name: str, channels: int) -> dict[str, Array]:
    """Scale, offset, mean and variance of a BatchNormalization: name_g, name_b, name_m, name_v."""
    draws = {
        "g": rng.uniform(0.5, 1.5, channels),
        "b": rng.normal(0, 0.1, channels),
        "m": rng.normal(0, 0.1, channels),
        "v": rng.uniform(0.5, 1.5, channels),
    }
    return {f"{name}_{k}": v.astype(np.float32) for k, v in draws.items()}


@case()
def residual_conv_net(rng: np.random.Generator) -> Entry:
    """Conv, BatchNormalization, Relu and a residual addition."""
    text = """residual (float[batch, 3, 24, 24] image) => (float[batch, 10] scores) {
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w1)
        an = BatchNormalization(a, n1_g, n1_b, n1_m, n1_v)
        ar = Relu(an)
        b = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(ar, w2)
        bn = BatchNormalization(b, n2_g, n2_b, n2_m, n2_v)
        br = Relu(bn)
        c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(br, w3)
        cn = BatchNormalization(c, n3_g, n3_b, n3_m, n3_v)
        sum = Add(cn, br)
        sr = Relu(sum)
        pooled = GlobalAveragePool(sr)
        flat = Flatten(pooled)
        scores = Gemm<transB=1>(flat, w4, b4)
    }"""
    weights = {
        "w1": weight(rng, 32, 3, 3, 3),
        "w2": weight(rng, 64, 32, 3, 3),
        "w3": weight(rng, 64, 64, 3, 3),
        "w4": weight(rng, 10, 64) * 8,
        "b4": weight(rng, 10),
        **batch_norm(rng, "n1", 32),
        **batch_norm(rng, "n2", 64),
        **batch_norm(rng, "n3", 64),
    }
    return decisive(Entry(graph_model(text, weights), {"image": inputs(rng, 96, 3, 24, 24)}))


@case(least_ratio=3.0)
def depthwise_and_grouped(rng: np.random.Generator) -> Entry:
    """Depthwise, grouped and pointwise convolutions with ReLU6."""
    text = """mobile (float[batch, 3, 32, 32] image) => (float[batch, 64, 1, 1] embedding) {
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        ac = Clip(a, zero, six)
        b = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=32>(ac, w2, b2)
        bc = Clip(b, zero, six)
        c = Conv<kernel_shape=[1,1]>(bc, w3, b3)
        cc = Clip(c, zero, six)
        d = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=4>(cc, w4, b4)
        dc = Clip(d, zero, six)
        e = Conv<kernel_shape=[1,1]>(dc, w5, b5)
        embedding = GlobalAveragePool(e)
    }"""
    weights = {
        "zero": np.float32(0),
        "six": np.float32(6),
        "w1": weight(rng, 32, 3, 3, 3),
        "b1": weight(rng, 32),
        "w2": weight(rng, 32, 1, 3, 3),
        "b2": weight(rng, 32),
        "w3": weight(rng, 128, 32, 1, 1),
        "b3": weight(rng, 128),
        "w4": weight(rng, 128, 32, 3, 3),
        "b4": weight(rng, 128),
        "w5": weight(rng, 64, 128, 1, 1),
        "b5": weight(rng, 64),
    }
    return Entry(graph_model(text, weights), {"image": inputs(rng, 32, 3, 32, 32)})


@case()
def nhwc_from_tensorflow(rng: np.random.Generator) -> Entry:
    """NHWC in and out, a Transpose around every convolution, names with slashes and colons."""
    text = """tf (float[batch, 20, 20, 3] x) => (float[batch, 10, 10, 48] y) {
        t1 = Transpose<perm=[0,3,1,2]>(x)
        a = Conv<auto_pad="SAME_UPPER", strides=[2,2], kernel_shape=[3,3]>(t1, w1, b1)
        t2 = Transpose<perm=[0,2,3,1]>(a)
        r = Relu(t2)
        t3 = Transpose<perm=[0,3,1,2]>(r)
        b = Conv<auto_pad="SAME_UPPER", kernel_shape=[3,3]>(t3, w2, b2)
        y = Transpose<perm=[0,2,3,1]>(b)
    }"""
    weights = {
        "w1": weight(rng, 64, 3, 3, 3),
        "b1": weight(rng, 64),
        "w2": weight(rng, 48, 64, 3, 3),
        "b2": weight(rng, 48),
    }
    entry = Entry(graph_model(text, weights, opset=13), {"x": inputs(rng, 32, 20, 20, 3)})
    return renamed(entry, {"x": "serving_default_input:0", "y": "StatefulPartitionedCall:0"})


@case()
def transposed_convolutions(rng: np.random.Generator) -> Entry:
    """A small segmentation net: down, up with ConvTranspose, Resize, a skip connection."""
    text = """unet (float[batch, 3, 32, 32] image) => (float[batch, 4, 32, 32] mask) {
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w1, b1)
        ar = Relu(a)
        d = MaxPool<kernel_shape=[2,2], strides=[2,2]>(ar)
        b = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(d, w2, b2)
        br = Relu(b)
        u = ConvTranspose<kernel_shape=[2,2], strides=[2,2]>(br, w3, b3)
        half = Resize<mode="nearest">(br, , scales)
        joined = Concat<axis=1>(u, ar, half)
        mask = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(joined, w4, b4)
    }"""
    weights = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w1": weight(rng, 24, 3, 3, 3),
        "b1": weight(rng, 24),
        "w2": weight(rng, 64, 24, 3, 3),
        "b2": weight(rng, 64),
        "w3": weight(rng, 64, 64, 2, 2, fan_in=64),
        "b3": weight(rng, 64),
        "w4": weight(rng, 4, 152, 3, 3),
        "b4": weight(rng, 4),
    }
    return Entry(graph_model(text, weights), {"image": inputs(rng, 16, 3, 32, 32)})


@case()
def one_dimensional_audio_net(rng: np.random.Generator) -> Entry:
    """Conv over time with dilation, gates, and a mean over a dynamic length."""
    text = """audio (float[batch, 1, time] wave) => (float[batch, 96, 1] embedding) {
        a = Conv<kernel_shape=[16], strides=[8]>(wave, w1, b1)
        left = Conv<kernel_shape=[3], dilations=[2], pads=[2,2]>(a, w2, b2)
        right = Conv<kernel_shape=[3], dilations=[2], pads=[2,2]>(a, w3, b3)
        t = Tanh(left)
        s = Sigmoid(right)
        gated = Mul(t, s)
        out = Conv<kernel_shape=[1]>(gated, w4, b4)
        embedding = ReduceMean<axes=[2], keepdims=1>(out)
    }"""
    weights = {
        "w1": weight(rng, 64, 1, 16),
        "b1": weight(rng, 64),
        "w2": weight(rng, 64, 64, 3),
        "b2": weight(rng, 64),
        "w3": weight(rng, 64, 64, 3),
        "b3": weight(rng, 64),
        "w4": weight(rng, 96, 64, 1),
        "b4": weight(rng, 96),
    }
    return Entry(graph_model(text, weights), {"wave": inputs(rng, 16, 1, 800)})


@case()
def opset_7_with_weights_as_inputs(rng: np.random.Generator) -> Entry:
    """IR 3: every initializer is an input too; Dropout and BatchNormalization as they were."""
    text = """old (float[4, 3, 16, 16] data) => (float[4, 10] prob) {
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(data, w1, b1)
        n = BatchNormalization<spatial=1>(a, n_g, n_b, n_m, n_v)
        r = Relu(n)
        p = MaxPool<kernel_shape=[4,4], strides=[4,4]>(r)
        flat = Flatten(p)
        d, mask = Dropout<ratio=0.5>(flat)
        fc = Gemm<transB=1>(d, w2, b2)
        prob = Softmax<axis=1>(fc)
    }"""
    weights = {
        "w1": weight(rng, 32, 3, 3, 3),
        "b1": weight(rng, 32),
        "w2": weight(rng, 10, 512) * 4,
        "b2": weight(rng, 10),
        **batch_norm(rng, "n", 32),
    }
    model = graph_model(text, weights, opset=7, ir_version=3)
    declare_as_inputs(model, weights)
    return Entry(model, {"data": inputs(rng, 32, 3, 16, 16)})


def declare_as_inputs(model, weights) -> None:  # type: ignore[no-untyped-def]
    """Make initializers inputs too, so that a caller may override them (IR 4 on)."""
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


@case()
def opset_9_conv_net(rng: np.random.Generator) -> Entry:
    """Upsample and LeakyRelu, as in detectors of 2019."""
    text = """yolo (float[batch, 3, 16, 16] x) => (float[batch, 21, 32, 32] grid) {
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
        ar = LeakyRelu<alpha=0.1>(a)
        u = Upsample<mode="nearest">(ar, scales)
        b = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(u, w2, b2)
        br = LeakyRelu<alpha=0.1>(b)
        grid = Conv<kernel_shape=[1,1]>(br, w3, b3)
    }"""
    weights = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w1": weight(rng, 32, 3, 3, 3),
        "b1": weight(rng, 32),
        "w2": weight(rng, 64, 32, 3, 3),
        "b2": weight(rng, 64),
        "w3": weight(rng, 21, 64, 1, 1),
        "b3": weight(rng, 21),
    }
    return Entry(graph_model(text, weights, opset=9, ir_version=4), {"x": inputs(rng, 16, 3, 16, 16)})


@case()
def opset_11_conv_net(rng: np.random.Generator) -> Entry:
    """Pad and Clip with inputs, HardSigmoid as hard swish, Squeeze with an attribute."""
    text = """mobilev3 (float[batch, 3, 20, 20] x) => (float[batch, 64] y) {
        p = Pad(x, pads)
        a = Conv<kernel_shape=[3,3], strides=[2,2]>(p, w1, b1)
        three = Add(a, c3)
        six = Clip(three, lo, hi)
        m = Mul(a, six)
        hs = Div(m, c6)
        b = Conv<kernel_shape=[3,3]>(hs, w2, b2)
        g = HardSigmoid<alpha=0.2, beta=0.5>(b)
        e = Mul(b, g)
        q = GlobalAveragePool(e)
        y = Squeeze<axes=[2,3]>(q)
    }"""
    weights = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "lo": np.float32(0),
        "hi": np.float32(6),
        "c3": np.float32(3),
        "c6": np.float32(6),
        "w1": weight(rng, 48, 3, 3, 3),
        "b1": weight(rng, 48),
        "w2": weight(rng, 64, 48, 3, 3),
        "b2": weight(rng, 64),
    }
    return decisive(Entry(graph_model(text, weights, opset=11, ir_version=6), {"x": inputs(rng, 96, 3, 20, 20)}))
