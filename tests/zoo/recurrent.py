"""Recurrent networks."""

from __future__ import annotations

import numpy as np

from tests.zoo.entry import Entry, case, graph_model, inputs, weight


@case()
def lstm_both_ways(rng: np.random.Generator) -> Entry:
    """Bidirectional LSTM with empty optional inputs and an unused output."""
    text = """speech (float[time, batch, 24] frames) => (float[time, batch, 20] letters, float[2, batch, 64] state) {
        y, state = LSTM<hidden_size=64, direction="bidirectional">(frames, w, r, b)
        t = Transpose<perm=[0,2,1,3]>(y)
        flat = Reshape(t, shape)
        letters = MatMul(flat, out)
    }"""
    weights = {
        "w": weight(rng, 2, 256, 24, fan_in=24),
        "r": weight(rng, 2, 256, 64, fan_in=64),
        "b": weight(rng, 2, 512),
        "shape": np.array([0, 0, 128]),
        "out": weight(rng, 128, 20, fan_in=128),
    }
    return Entry(graph_model(text, weights, opset=14), whole(frames=inputs(rng, 16, 12, 2, 24)))


def whole(**arrays):  # type: ignore[no-untyped-def]
    """Arrays whose first axis counts whole feeds."""
    return arrays


@case()
def gru_of_dynamic_length(rng: np.random.Generator) -> Entry:
    """GRU with linear_before_reset, an initial state as input and lengths a sequence."""
    text = """gru (float[time, batch, 40] x, int32[batch] lengths, float[1, batch, 64] h0) => (float[1, batch, 64] h) {
        y, h = GRU<hidden_size=64, linear_before_reset=1>(x, w, r, b, lengths, h0)
    }"""
    weights = {
        "w": weight(rng, 1, 192, 40, fan_in=40),
        "r": weight(rng, 1, 192, 64, fan_in=64),
        "b": weight(rng, 1, 384),
    }
    arrays = whole(
        x=inputs(rng, 16, 10, 3, 40),
        lengths=rng.integers(4, 11, (16, 3)).astype(np.int32),
        h0=inputs(rng, 16, 1, 3, 64) * 0.1,
    )
    return Entry(graph_model(text, weights, opset=14), arrays)


@case()
def rnn_both_ways_in_opset_8(rng: np.random.Generator) -> Entry:
    """A stack of plain RNNs, bidirectional, from an exporter of 2018."""
    text = """rnn (float[8, batch, 32] x) => (float[2, batch, 96] h) {
        y, h1 = RNN<hidden_size=96, direction="bidirectional", activations=["Tanh","Tanh"]>(x, w1, r1, b1)
        t = Transpose<perm=[0,2,1,3]>(y)
        flat = Reshape(t, shape)
        z, h = RNN<hidden_size=96, direction="bidirectional", activations=["Tanh","Tanh"]>(flat, w2, r2)
    }"""
    weights = {
        "w1": weight(rng, 2, 96, 32, fan_in=32),
        "r1": weight(rng, 2, 96, 96, fan_in=150),
        "b1": weight(rng, 2, 192),
        "w2": weight(rng, 2, 96, 192, fan_in=192),
        "r2": weight(rng, 2, 96, 96, fan_in=150),
        "shape": np.array([0, -1, 192]),
    }
    return Entry(graph_model(text, weights, opset=8, ir_version=4), whole(x=inputs(rng, 16, 8, 2, 32)))
