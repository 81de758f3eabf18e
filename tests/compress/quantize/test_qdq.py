from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from edgekit.compress.quantize.bias import mean_shift
from edgekit.compress.quantize.observers import Range
from edgekit.compress.quantize.placement import place
from edgekit.compress.quantize.qdq import (
    Scheme,
    activation_scale,
    dequantize_weight,
    quantize_weight,
    write_qdq,
)
from tests.compress.quantize.nets import Net, normal, run, snr_db

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("low", "high", "zero"), [(0.0, 6.0, 0), (-2.0, 6.0, 64), (-6.0, 0.0, 255), (0.0, 0.0, 0)])
def test_unsigned_activations(low: float, high: float, zero: int) -> None:
    scale, got = activation_scale(Range(low, high), Scheme())
    assert got == zero
    assert scale == pytest.approx((high - low) / 255 or 1)


def test_symmetric_activations_have_zero_in_the_middle() -> None:
    assert activation_scale(Range(-2.0, 6.0), Scheme(signed=True, symmetric=True)) == (np.float32(6 / 127), 0)
    assert activation_scale(Range(-2.0, 6.0), Scheme(symmetric=True))[1] == 128
    assert activation_scale(Range(0.0, 6.0), Scheme(signed=True))[1] == -128


@pytest.mark.parametrize(("axis", "channels"), [(0, 5), (1, 7), (-1, 3)])
def test_weights_per_channel_are_off_by_half_a_step_at_most(axis: int, channels: int) -> None:
    weight = normal(RNG, 5, 7, 3)
    q, scale = quantize_weight(weight, axis, 127)
    assert q.dtype == np.int8
    assert scale.shape == (channels,)
    error = np.abs(dequantize_weight(q, scale, axis) - weight)
    assert error.max() <= scale.max() / 2 * 1.001
    assert np.abs(q).max() == 127


def test_seven_bits_per_tensor_and_dead_channels() -> None:
    weight = normal(RNG, 4, 6)
    weight[2] = 0
    q, scale = quantize_weight(weight, None, 63)
    assert np.abs(q).max() == 63
    assert scale.shape == ()
    q, scale = quantize_weight(weight, 0, 127)
    assert scale[2] == 1
    assert not q[2].any()


def test_a_large_bias_over_a_tiny_weight_does_not_overflow() -> None:
    net = Net(x=("batch", 4))
    weight, bias = normal(RNG, 3, 4), np.array([1.0, 2.0, 1e4], np.float32)
    weight[2] *= 1e-9
    model = net.model(net.add("Gemm", "x", weight, bias, transB=1))
    written = write_qdq(model, place(model), {"x": Range(-1.0, 1.0)}, Scheme())
    got = run(written, {"x": np.zeros((1, 4), np.float32)})[0]
    np.testing.assert_allclose(got[0], bias, rtol=1e-3)


def test_the_written_arithmetic_is_the_reference() -> None:
    """Conv with ReLU against NumPy: integers, int32 bias, one rounding at the end."""
    x, weight, bias = RNG.uniform(-1, 1, (2, 8, 5, 5)).astype("f"), normal(RNG, 16, 8, 1, 1), normal(RNG, 16)
    net = Net(x=("batch", 8, 5, 5))
    model = net.model(net.add("Relu", net.add("Conv", "x", weight, bias)), rank=4)
    ranges = {"x": Range(-1.0, 1.0), "relu1": Range(0.0, 3.0)}
    (sx, zx), (sy, _) = (activation_scale(r, Scheme()) for r in ranges.values())
    q, sw = quantize_weight(weight, 0, 127)
    qx = np.clip(np.rint(x / sx) + zx, 0, 255) - zx
    total = np.einsum("nihw,oi->nohw", qx, q[:, :, 0, 0].astype(float)) + np.rint(bias / (sx * sw))[:, None, None]
    expected = np.clip(np.rint(total * (sx * sw / sy)[:, None, None]), 0, 255) * sy
    placement = place(model, nvidia=True)
    assert placement.nodes == {"conv0"}
    got = run(write_qdq(model, placement, ranges, Scheme()), {"x": x})[0]
    assert np.abs(got - expected).max() <= sy * 1.01  # ties may round the other way
    assert np.mean(np.abs(got - expected) < sy / 2) > 0.999


def test_a_relu_that_saturation_replaces_is_not_written() -> None:
    net = Net(x=("batch", 32, 5, 5))
    model = net.model(net.add("Relu", net.add("Conv", "x", normal(RNG, 16, 32, 1, 1))), rank=4)
    ranges = {"x": Range(-1.0, 1.0), "relu1": Range(0.0, 3.0)}
    unsigned = write_qdq(model, place(model, nvidia=True), ranges, Scheme())
    symmetric = write_qdq(model, place(model, nvidia=True), ranges, Scheme(signed=True, symmetric=True))
    assert "Relu" not in {n.op_type for n in unsigned.graph.node}
    assert "Relu" in {n.op_type for n in symmetric.graph.node}


def test_equal_scales_and_zero_points_are_stored_once() -> None:
    net = Net(x=("batch", 32))
    first = net.add("Relu", net.add("MatMul", "x", normal(RNG, 32, 32)))
    model = net.model(net.add("MatMul", first, normal(RNG, 32, 32)))
    written = write_qdq(model, place(model), {"x": Range(0.0, 2.0), "relu1": Range(0.0, 2.0)}, Scheme())
    values = [(i.data_type, numpy_helper.to_array(i).tobytes()) for i in written.graph.initializer]
    assert len(values) == len(set(values))
    assert not written.graph.value_info


def test_stem_padding_does_not_change_the_numbers() -> None:
    x = RNG.uniform(-1, 1, (1, 3, 9, 9)).astype("f")
    net = Net(x=("batch", 3, 9, 9))
    model = net.model(net.add("Conv", "x", normal(RNG, 32, 3, 3, 3), normal(RNG, 32), pads=[1] * 4), rank=4)
    ranges = {"x": Range(-1.0, 1.0), "conv0": Range(-5.0, 5.0)}
    plain, padded = (run(write_qdq(model, place(model), ranges, Scheme(pad_stem=p)), {"x": x})[0] for p in (0, 1))
    np.testing.assert_array_equal(plain, padded)


def test_bias_correction_restores_the_mean() -> None:
    weight, x = normal(RNG, 6, 8, 1, 1), RNG.uniform(0, 3, (64, 8, 1, 1)).astype("f")
    q, scale = quantize_weight(weight, None, 7)
    error = dequantize_weight(q, scale, None) - weight
    shift = np.einsum("nihw,oi->no", x, error[:, :, 0, 0]).mean(axis=0)
    np.testing.assert_allclose(mean_shift(error, x.mean(axis=(0, 2, 3))), shift, rtol=1e-4)
    grouped = mean_shift(error[:, :4], x.mean(axis=(0, 2, 3)), groups=2)
    half = np.einsum("nihw,oi->no", x[:, 4:], error[3:, :4, 0, 0]).mean(axis=0)
    np.testing.assert_allclose(grouped[3:], half, rtol=1e-4)


def test_corrected_biases_are_written() -> None:
    x = RNG.uniform(0, 3, (256, 32)).astype("f")
    net = Net(x=("batch", 32))
    model = net.model(net.add("Gemm", "x", normal(RNG, 32, 10), normal(RNG, 10)))
    ranges, means = {"x": Range(0.0, 3.0)}, {"x": x.mean(axis=0)}
    scheme = Scheme(per_channel=False, weight_bits=4)
    plain, corrected = (run(write_qdq(model, place(model), ranges, scheme, m), {"x": x})[0] for m in (None, means))
    reference = run(model, {"x": x})[0]
    off = [np.abs((got - reference).mean(axis=0)).max() for got in (plain, corrected)]
    assert off[1] < off[0] / 10
    assert snr_db(reference, corrected) > snr_db(reference, plain)


@pytest.mark.parametrize("signed", [False, True])
def test_a_hard_sigmoid_is_exact_to_half_a_step_and_ends_where_it_should(signed: bool) -> None:
    x = np.linspace(-8, 8, 4 * 256, dtype=np.float32).reshape(4, 256, 1, 1)
    net = Net(x=("batch", 256, 1, 1))
    unit = np.eye(256, dtype=np.float32)[:, :, None, None]
    first = net.add("Conv", "x", unit)
    model = net.model(net.add("Conv", net.add("HardSigmoid", first, alpha=0.25, beta=0.625), unit), rank=4)
    ranges = {"x": Range(-8.0, 8.0), "conv0": Range(-8.0, 8.0), "hardsigmoid1": Range(0.0, 0.9), "conv2": Range(0, 1)}
    got = run(write_qdq(model, place(model), ranges, Scheme(signed=signed)), {"x": x})[0]
    step = 16 / 255
    rounded = np.clip(np.rint(x / step), -128, 127) * step
    expected = np.clip(0.25 * rounded + 0.625, 0, 0.9)
    assert np.abs(got - expected).max() <= 0.9 / 255 / 2 + 1.5 / 255
    assert got.min() == 0
    assert got.max() == pytest.approx(0.9, abs=1 / 255)


@pytest.mark.parametrize("shift", [-0.7, 0.003, 2.0])
def test_a_shift_moves_the_zero_point_and_padding_stays_zero(shift: float) -> None:
    net = Net(x=("batch", 32, 6, 6))
    product = net.add("Mul", (c := net.add("Conv", "x", normal(RNG, 32, 32, 1, 1))), net.add("Sigmoid", c))
    shifted = net.add("Add", np.float32(shift), product)
    model = net.model(net.add("Conv", shifted, normal(RNG, 32, 32, 3, 3), pads=[1] * 4), rank=4)
    x = RNG.standard_normal((8, 32, 6, 6)).astype(np.float32)
    placement = place(model)
    assert placement.shifted == {"add3": "mul2"}
    ranges = {"x": Range(-4, 4), "conv0": Range(-5, 5), "sigmoid1": Range(0, 1), "add3": Range(-0.3 + shift, 5 + shift)}
    written = write_qdq(model, placement, ranges | {"conv4": Range(-15, 15)}, Scheme())
    constants = {i.name: numpy_helper.to_array(i) for i in written.graph.initializer}
    reader = next(n for n in written.graph.node if "add3" in n.output)
    quantiser = next(n for n in written.graph.node if reader.input[0] in n.output)
    (scale, wrote), read = (constants[i] for i in quantiser.input[1:]), constants[reader.input[2]]
    assert reader.input[1] == quantiser.input[1]
    tolerance = 1e-6 if abs(shift) > scale else float(scale) / 2
    assert (int(wrote) - int(read)) * scale == pytest.approx(shift, abs=tolerance)
    assert snr_db(run(model, {"x": x})[0], run(written, {"x": x})[0]) > 25
