"""Rounding of weights on what multiplies them, convolutions included."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quantize.moments import Window, as_matrices, from_matrices
from edgekit.compress.quantize.on_data import observe_inputs, round_for
from edgekit.compress.quantize.qdq import dequantize_weight, quantize_weight
from edgekit.compress.quantize.static import StaticConfig, quantize_static
from edgekit.compress.technique import OnnxStep
from edgekit.data.split import Split
from edgekit.graph.write import write_model
from edgekit.ort import Session
from tests.compress.quantize.nets import Net, normal, run, snr_db

RNG = np.random.default_rng(0)


def convolution(window: Window, channels: int, out: int = 6):
    net = Net(x=("batch", channels, *(f"d{i}" for i in range(len(window.kernel)))))
    weight = normal(RNG, out, channels // window.groups, *window.kernel)
    attributes = {
        "group": window.groups,
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": list(window.pads),
    }
    return net.model(net.add("Conv", "x", weight, **attributes), rank=2 + len(window.kernel)), weight


WINDOWS = [
    (Window(1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), 4, (5, 7)),
    (Window(1, (3, 3), (2, 1), (1, 1), (1, 1, 1, 1)), 4, (8, 7)),
    (Window(2, (3, 2), (1, 2), (2, 1), (0, 1, 2, 0)), 4, (9, 7)),
    (Window(6, (5,), (2,), (1,), (2, 2)), 6, (11,)),
    (Window(1, (2, 2, 2), (1, 1, 1), (1, 1, 1), (0,) * 6), 3, (4, 4, 4)),
]


@pytest.mark.parametrize(("window", "channels", "size"), WINDOWS)
def test_rows_times_matrices_are_the_convolution(window: Window, channels: int, size: tuple[int, ...]) -> None:
    model, weight = convolution(window, channels)
    x = RNG.standard_normal((2, channels, *size)).astype(np.float32)
    expected = run(model, {"x": x})[0]
    node = model.graph.node[0]
    rows, matrices = window.rows(x, 10**6), as_matrices(node, weight)
    got = np.matmul(rows, matrices.transpose(0, 2, 1))  # (groups, batch * positions, out / groups)
    got = got.reshape(window.groups, 2, -1, matrices.shape[1]).transpose(1, 0, 3, 2).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(from_matrices(node, matrices, weight.shape), weight)


def test_positions_are_thinned_evenly_and_a_kernel_too_large_sees_nothing() -> None:
    window = Window(1, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    x = np.arange(2 * 100 * 100, dtype=np.float32).reshape(2, 1, 100, 100)
    rows = window.rows(x, 50)
    assert rows.shape == (1, 100, 9)
    assert rows[0, 0, 0] == 0
    assert rows[0, 49, -1] == 9999
    assert window.rows(x[:, :, :2], 50).shape[1] == 0


def correlated(samples: int, channels: int) -> np.ndarray:
    """Images whose channels follow three common ones, as features of trained nets do."""
    common = np.maximum(RNG.standard_normal((samples, 3, 8, 8)), 0)
    mixed = np.einsum("nkhw,kc->nchw", common, np.abs(RNG.standard_normal((3, channels))))
    return (mixed + 0.05 * RNG.standard_normal((samples, channels, 8, 8))).astype(np.float32)


@pytest.mark.parametrize("group", [1, 4])
def test_rounding_on_data_is_better_on_other_data(group: int) -> None:
    weight = normal(RNG, 32, 32 // group, 3, 3)
    net = Net(x=("batch", 32, 8, 8))
    model = net.model(net.add("Conv", "x", weight, group=group), rank=4)
    x = correlated(96, 32)
    second = observe_inputs(model, {"conv0"}, Split("x", {"x": x[:64]}))["conv0"]
    assert second.shape == (group, 9 * 32 // group, 9 * 32 // group)
    q, scale = quantize_weight(weight, 0, 7)
    on_data = round_for(model.graph.node[0], weight, scale.reshape(-1, 1, 1, 1), second, 4)
    assert np.abs(on_data).max() <= 7

    def answer(values: np.ndarray) -> np.ndarray:
        other = Net(x=("batch", 32, 8, 8))
        made = other.model(other.add("Conv", "x", values, group=group), rank=4)
        return Session(made.SerializeToString(), threads=1).run({"x": x[64:]})[0]

    expected = answer(weight)
    nearest, better = (snr_db(expected, answer(dequantize_weight(v, scale, 0))) for v in (q, on_data))
    assert better > nearest + 6
    again = round_for(model.graph.node[0], weight, scale.reshape(-1, 1, 1, 1), second, 4)
    assert again is round_for(model.graph.node[0], weight, scale.reshape(-1, 1, 1, 1), second, 4)


def test_static_rounds_its_convolutions_on_data(tmp_path) -> None:
    net = Net(x=("batch", 32, 8, 8))
    hidden = net.add("Relu", net.add("Conv", "x", normal(RNG, 64, 32, 3, 3), normal(RNG, 64)))
    model = net.model(net.add("Conv", hidden, normal(RNG, 16, 64, 1, 1), normal(RNG, 16)), rank=4)
    write_model(model, tmp_path / "m.onnx")
    x = correlated(96, 32)
    expected = run(model, {"x": x[64:]})[0]
    found = {}
    for rounding in ("nearest", "data", "auto"):
        out = tmp_path / f"{rounding}.onnx"
        config = StaticConfig(rounding=rounding, reduce_range=True)
        quantize_static(config, OnnxStep(tmp_path / "m.onnx", out, Split("x", {"x": x[:64]})))
        found[rounding] = snr_db(expected, Session(out, threads=1).run({"x": x[64:]})[0])
    assert found["auto"] == found["data"]
    assert found["data"] > found["nearest"] + 1
